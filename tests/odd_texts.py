"""Texts of characters that tokenizers treat in special ways, for hypothesis."""

from hypothesis import strategies as st

# Surrogates, combining marks, full-width and zero-width characters among ordinary ones.
ODD = "中国A1é．Ａ\u200b\u200d\ufeff \u3000\u0301\u20dd\U0001f600\U00020000\ud83d\udc00각②\t。ﬁ"
ODD_TEXTS = st.text(st.sampled_from(ODD), max_size=20)
