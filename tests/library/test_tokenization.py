"""Pieces and spans against `tokenizers`, the readable specification and the text itself."""

import functools
import pickle
import unicodedata

import numpy as np
import pytest
import sentencepiece
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece_model import train_sentencepiece
from tokenizers import BertWordPieceTokenizer

import tokenization
from common.errors import UserError
from tokenization import BasicTokenizer, FullTokenizer, WordpieceTokenizer, load_vocab

VOCAB = str(ROOT / "albert_config" / "vocab.txt")
SAMPLES = ["news_zh_1.txt", "lcqmc_sample/train.tsv", "xnli_sample/train.tsv"]
MARKERS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Unicode changed the category of these characters after version 8. All other characters on which
# the two tokenizers differ are newer than these.
RECLASSIFIED = "\u166d\u1734\u1885\u1886"

tokenizer_of = functools.lru_cache(maxsize=None)(functools.partial(FullTokenizer, VOCAB))
both_cases = pytest.mark.parametrize("do_lower_case", [True, False])
examples = settings(max_examples=150, deadline=None, derandomize=True)


@functools.lru_cache(maxsize=None)
def reference_of(do_lower_case):
    reference = BertWordPieceTokenizer(VOCAB, lowercase=do_lower_case)
    # The limit is one of the differences that `test_differences` checks.
    reference._tokenizer.model.max_input_chars_per_word = tokenization.MAX_WORD_LENGTH
    return reference


def ours(text, do_lower_case):
    return tokenizer_of(do_lower_case).tokenize_with_offsets(text)


def theirs(text, do_lower_case):
    encoding = reference_of(do_lower_case).encode(text, add_special_tokens=False)
    return encoding.tokens, encoding.offsets


def is_same(characters, do_lower_case):
    text = "\n".join("a{0}b1{0}{0} {0}".format(c) for c in characters)
    return ours(text, do_lower_case) == theirs(text, do_lower_case)


@functools.lru_cache(maxsize=None)
def differing(do_lower_case):
    """Return the characters, outside the large blocks, that `tokenizers` treats differently."""
    codes = [*range(0x3400), *range(0xA000, 0xAC00), *range(0xD7B0, 0xD800)]
    codes += [*range(0xF900, 0x17000), *range(0x18B00, 0x20000), *range(0x2B800, 0x2B940)]
    characters = [c for c in map(chr, codes) if unicodedata.category(c) not in ("Cn", "Co", "Cs")]
    groups = [characters[i : i + 50] for i in range(0, len(characters), 50)]
    suspects = [c for group in groups if not is_same(group, do_lower_case) for c in group]
    return {c for c in suspects if not is_same([c], do_lower_case)}


def unicode_text(do_lower_case):
    """Return a strategy of texts of mixed characters for which the same pieces are expected."""
    plain = "abzABZ019 .,-'$\t\n中文的、。 "
    marks = "\u0300\u0301\u0307\u0327\u0345\u0591\u0e31\u20dd\u302e\ufe0f\U0001d165"
    unseen = "\0\x0b\x1f\x7f\x85\xad\u200b\u200d\u2028\u2029\u202e\ufeff\ufffd"
    special = "ÀéİıŁßẞſΣςΩǅﬁⅣ²½각가힣ᄀかガ\uf900\u2260\u037e\u1fef\U0002f800\u3000\xa0"
    emoji = "😂👍🏽👨👩🇨🇳☃"
    anything = st.characters(
        max_codepoint=0x1FFFF,
        exclude_categories=["Cs", "Cn", "Co"],
        exclude_characters="".join(differing(do_lower_case)),
    )
    alphabets = (plain, marks, unseen, special, emoji)
    character = st.one_of(*map(st.sampled_from, alphabets), anything)
    return st.lists(character, max_size=80).map("".join)


# These are lists, because st.text would make one alphabet of all characters, from which it would
# seldom draw a character of a small category.
any_character = st.one_of(
    st.characters(), *(st.characters(categories=[name]) for name in ("Cs", "Co", "Cn", "Cf", "Mn"))
)
any_text = st.lists(any_character, max_size=60).map("".join)


def test_example_of_the_module():
    pieces, spans = ours("ALBERT在2019年", True)
    assert pieces == ["al", "##bert", "在", "2019", "年"]
    assert spans == [(0, 2), (2, 6), (6, 7), (7, 11), (11, 12)]


@both_cases
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_like_tokenizers(name, do_lower_case):
    text = (ROOT / "data" / name).read_text(encoding="utf-8")
    pieces, spans = ours(text, do_lower_case)
    assert (pieces, spans) == theirs(text, do_lower_case)
    assert len(pieces) > 1000


@both_cases
def test_unicode_like_tokenizers(do_lower_case):
    @examples
    @given(unicode_text(do_lower_case))
    def check(text):
        pieces, spans = ours(text, do_lower_case)
        other_pieces, other_spans = theirs(text, do_lower_case)
        assert pieces == other_pieces
        # If NFD moves a spacing mark, `tokenizers` gives the mark the span of its neighbour.
        marks = [c for c in unicodedata.normalize("NFD", text) if unicodedata.combining(c)]
        assert spans == other_spans or any(unicodedata.category(c) == "Mc" for c in marks)

    check()


@both_cases
def test_characters_like_tokenizers_but_for_those_after_unicode_8(do_lower_case):
    assert len(differing(do_lower_case)) < 1000
    vocabulary = "".join(tokenizer_of(True).vocab)
    for character in differing(do_lower_case):
        is_newer = unicodedata.ucd_3_2_0.category(character) == "Cn"
        assert is_newer or character in RECLASSIFIED, hex(ord(character))
        assert character not in vocabulary


def googles(text):
    """Return the pieces of a text; as in Google's code, each step works on the whole text."""
    kept = [c for c in text if c in "\t\n\r" or unicodedata.category(c) not in ("Cc", "Cf")]
    text = "".join(" {} ".format(c) if tokenization._is_chinese(c) else c for c in kept)
    decomposed = unicodedata.normalize("NFD", text.replace("\ufffd", "").lower())
    stripped = [c for c in decomposed if unicodedata.category(c) != "Mn"]
    words = "".join(
        " {} ".format(c) if tokenization._is_punctuation(c) else c for c in stripped
    ).split()
    wordpiece = WordpieceTokenizer(tokenizer_of(True).vocab)
    return [piece for word in words for piece in wordpiece.tokenize(word)]


def table_of_differences():
    """The rows of the table in the docs, lists of cells."""
    docs = (ROOT / "docs" / "data_formats.md").read_text(encoding="utf-8")
    rows = docs.split("| `tokenizers` | what differs |\n")[1].split("\n\n")[0].splitlines()[1:]
    return [row.strip("| ").split(" | ") for row in rows]


def test_google_agrees_on_the_samples():
    for name in SAMPLES:
        for line in (ROOT / "data" / name).read_text(encoding="utf-8").splitlines():
            assert tokenizer_of(True).tokenize(line) == googles(line)


@pytest.mark.parametrize("row", table_of_differences(), ids=lambda row: row[-1])
def test_differences(row):
    text, *expected = row[:-1]
    text, _, times = text.partition("` ")
    text = text.strip("`").encode("latin-1", "backslashreplace").decode("unicode_escape")
    text *= int(times.split()[0]) if times else 1
    if any(unicodedata.category(c) == "Cn" for c in text):
        pytest.skip("the Unicode tables of this Python are older than the character")
    plain = BertWordPieceTokenizer(VOCAB)
    surrogate = any("\ud800" <= c <= "\udfff" for c in text)
    made = [tokenizer_of(True).tokenize(text), googles(text)]
    made += [None] if surrogate else [plain.encode(text, add_special_tokens=False).tokens]
    assert made[0] != made[1] or made[0] != made[2]
    for cell, pieces in zip(expected, made):
        if cell.endswith(" pieces"):
            assert cell == "{} pieces".format(len(pieces))
        else:
            assert cell == ("not possible" if pieces is None else "`{}`".format(" ".join(pieces)))


def test_combining_marks_stay_in_the_order_of_the_text(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*MARKERS, "a", "##\u302e", "##\U0001d165"]), encoding="utf-8")
    pieces, spans = FullTokenizer(str(path)).tokenize_with_offsets("a\u302e\U0001d165")
    assert pieces == ["a", "##\u302e", "##\U0001d165"]
    assert spans == [(0, 1), (1, 2), (2, 3)]
    other = BertWordPieceTokenizer(str(path)).encode("a\u302e\U0001d165", add_special_tokens=False)
    assert other.tokens == ["a", "##\U0001d165", "##\u302e"]


def test_lone_surrogates_are_dropped():
    assert ours("中\ud800a\udfffb\udc80", True) == (["中", "ab"], [(0, 1), (2, 5)])


@both_cases
def test_fast_path_follows_the_specification(do_lower_case):
    tokenizer = tokenizer_of(do_lower_case)
    basic, wordpiece = BasicTokenizer(do_lower_case), WordpieceTokenizer(tokenizer.vocab)

    @examples
    @given(any_text | unicode_text(do_lower_case))
    def check(text):
        expected = []
        for word, sources in basic.split(text):
            for piece, begin, end in wordpiece.split(word):
                expected.append((piece, (sources[begin], sources[end - 1] + 1)))
        assert list(zip(*tokenizer.tokenize_with_offsets(text))) == expected
        words = basic.tokenize(text)
        assert tokenizer.tokenize(text) == [p for word in words for p in wordpiece.tokenize(word)]

    check()


@both_cases
def test_spans_hold_their_pieces(do_lower_case):
    @examples
    @given(any_text | unicode_text(do_lower_case))
    def check(text):
        pieces, spans = ours(text, do_lower_case)
        bounds = [bound for span in spans for bound in span]
        assert all(0 <= begin < end <= len(text) for begin, end in spans)
        assert spans == sorted(spans)
        # Two pieces overlap only when they come from one character.
        assert all(a <= b or b == a - 1 for a, b in zip(bounds[1::2], bounds[2::2]))
        for piece, (begin, end) in zip(pieces, spans):
            word = "".join(BasicTokenizer(do_lower_case).tokenize(text[begin:end]))
            assert piece == "[UNK]" or piece[2 * piece.startswith("##") :] in word

    check()


@pytest.mark.parametrize(
    "text, pieces, spans",
    [
        ("", [], []),
        (" \t\r\n\u3000\u2028\x00\u200b", [], []),
        ("Ｅ, é", ["ｅ", ",", "e"], [(0, 1), (1, 2), (3, 4)]),
        ("xe\u0301", ["x", "##e"], [(0, 1), (1, 2)]),
        ("e\u0301x", ["ex"], [(0, 3)]),
        ("中\u0301文", ["中", "文"], [(0, 1), (2, 3)]),
        ("a\u200bb", ["ab"], [(0, 3)]),
        ("a\u2028b\u3000c", ["a", "b", "c"], [(0, 1), (2, 3), (4, 5)]),
        ("\uac01", ["ᄀ", "##ᅡ", "##ᆨ"], [(0, 1)] * 3),
        ("a\u2260b", ["a", "=", "b"], [(0, 1), (1, 2), (2, 3)]),
        ("hi ☃☃ 中", ["hi", "[UNK]", "中"], [(0, 2), (3, 5), (6, 7)]),
        ("👍🏽😂", ["[UNK]"], [(0, 3)]),
    ],
)
def test_spans(text, pieces, spans):
    assert ours(text, True) == (pieces, spans)


@pytest.mark.parametrize(
    "text, pieces, spans",
    [
        ("é a", ["[UNK]", "a"], [(0, 1), (2, 3)]),
        ("中\u0301文", ["中", "[UNK]", "文"], [(0, 1), (1, 2), (2, 3)]),
        ("iphone iPhone", ["iphone", "[UNK]"], [(0, 6), (7, 13)]),
    ],
)
def test_spans_with_case(text, pieces, spans):
    assert ours(text, False) == (pieces, spans)


@both_cases
@pytest.mark.parametrize(
    "text, number",
    [
        ("ab" * 100, 100),
        ("ab" * 100 + "a", 1),
        ("ab" * 5000, 1),
        ("\u00e9b" * 100, None),
        ("中 " + "b" * 10000 + " 文", 3),
        ("中" * 10000, 10000),
        ("!" * 10000, 10000),
        ("e" + "\u0301" * 10000, None),
        ("\u200b" * 10000 + "a", 1),
    ],
)
def test_long_words(text, number, do_lower_case):
    pieces, spans = ours(text, do_lower_case)
    assert (pieces, spans) == theirs(text, do_lower_case)
    assert number is None or len(pieces) == number


def test_word_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(tokenization._WordCache, "_MAX_SIZE", 10)
    tokenizer = FullTokenizer(VOCAB)
    text = " ".join("word{} {}".format(i, i % 7) for i in range(200))
    assert tokenizer.tokenize_with_offsets(text) == ours(text, True)
    assert 0 < len(tokenizer._encoder._words) <= 10
    tokenizer.tokenize("cached " + "a" * 101)
    assert max(map(len, tokenizer._encoder._words)) <= 100


def test_encoding_agrees_with_pieces_and_ids():
    tokenizer = tokenizer_of(True)
    text = "2019年GDP增长6.1%\n中国 Mobilenet"
    ids, begins, ends = tokenizer.encode(text)
    assert {array.dtype.name for array in (ids, begins, ends)} == {"int32"}
    assert ids.tolist() == tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    assert list(zip(begins.tolist(), ends.tolist())) == tokenizer.tokenize_with_offsets(text)[1]
    assert tokenizer.convert_ids_to_tokens([101, 343, 103]) == ["[CLS]", "\u2028", "[MASK]"]
    with pytest.raises(KeyError):
        tokenizer.convert_tokens_to_ids(["no such piece"])


def test_tokenizer_survives_pickling():
    tokenizer = FullTokenizer(VOCAB)
    tokenizer.tokenize("中文 albert")
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.tokenize("中文 albert 模型 new") == tokenizer.tokenize("中文 albert 模型 new")


def write_vocab(path, rows, newline="\n", prefix=b""):
    path.write_bytes(prefix + newline.join([*rows, ""]).encode("utf-8"))
    return str(path)


def test_vocabulary_keeps_the_line_separator_as_a_piece():
    vocab = load_vocab(VOCAB)
    assert len(vocab) == 21128
    assert list(vocab.values()) == list(range(21128))
    assert (vocab["\u2028"], vocab["##\u2028"]) == (343, 13502)


@pytest.mark.parametrize("newline, prefix", [("\n", b""), ("\r\n", b""), ("\n", b"\xef\xbb\xbf")])
def test_vocabulary_from_any_editor(tmp_path, newline, prefix):
    path = write_vocab(tmp_path / "vocab.txt", [*MARKERS, "中", "\u2028"], newline, prefix)
    assert list(load_vocab(path)) == [*MARKERS, "中", "\u2028"]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "is empty"),
        (["", "\r"], "is empty"),
        ([*MARKERS, "中", "文", "中"], "row 8: '中' is already in row 6"),
        ([*MARKERS, "", "中"], "row 6: empty"),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "中"], r"has no \[MASK\]:"),
        (["中", "文"], r"has no \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]:"),
        (["中", "", "文"], r"has no \[PAD\]"),  # a text
    ],
)
def test_malformed_vocabulary(tmp_path, rows, message):
    path = write_vocab(tmp_path / "vocab.txt", rows)
    with pytest.raises(UserError, match=message) as caught:
        FullTokenizer(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files(tmp_path):
    path = str(tmp_path / "none")
    with pytest.raises(UserError, match="none does not exist: check the path"):
        FullTokenizer(path)
    with pytest.raises(UserError, match="none does not exist: check the path"):
        FullTokenizer(None, spm_model_file=path)
    with pytest.raises(UserError, match="is a folder: name a file in it"):
        FullTokenizer(str(tmp_path))
    with pytest.raises(UserError, match="vocab_file or spm_model_file"):
        FullTokenizer(None)


@pytest.fixture(scope="module")
def spm_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("spm") / "spm.model"
    return train_sentencepiece(path, ["[CLS]", "[SEP]", "[MASK]"])


def google_pieces(model, text, do_lower_case):
    """Return the pieces as google-research/albert makes them, unknown ones as [UNK]."""
    text = unicodedata.normalize("NFKD", " ".join(text.split()))
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = text.lower() if do_lower_case else text
    pieces = []
    for piece in model.encode(text, out_type=str):
        if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            parts = model.encode(piece[:-1].replace("\u2581", ""), out_type=str)
            if piece[0] != "\u2581" and parts[0][0] == "\u2581":
                parts[0] = parts[0][1:]
            pieces.extend([part for part in parts if part] + [","])
        else:
            pieces.append(piece)
    is_unknown = [model.piece_to_id(piece) == model.unk_id() for piece in pieces]
    return ["[UNK]" if unknown else piece for piece, unknown in zip(pieces, is_unknown)]


@both_cases
def test_sentencepiece_like_google(spm_model, do_lower_case):
    tokenizer = FullTokenizer(None, do_lower_case, spm_model)
    model = sentencepiece.SentencePieceProcessor()
    model.Load(spm_model)
    text = (ROOT / "data" / "news_zh_1.txt").read_text(encoding="utf-8")
    numbers = ["In 2019, the MODEL had 8,1007, layers.", "1,", "x 1,2,3,", "1100,shared,", "éÀ ②,Σ"]
    plain_pieces = [piece for line in numbers for piece in model.encode(line, out_type=str)]
    assert {"7,", "\u25812019,"} <= set(plain_pieces)
    for line in [*text.split("\n")[:80], *numbers, "", "  ", " a \n b "]:
        assert tokenizer.tokenize(line) == google_pieces(model, line, do_lower_case)


def test_sentencepiece_that_keeps_spaces(tmp_path):
    path = train_sentencepiece(tmp_path / "spm.model", ["[CLS]", "[SEP]", "[MASK]"], False)
    tokenizer = FullTokenizer(None, spm_model_file=path)
    pieces, spans = tokenizer.tokenize_with_offsets("  in \n\n 中 ")
    assert pieces == tokenizer.tokenize("in 中")
    assert (spans[0][0], spans[-1]) == (2, (8, 9))


def test_sentencepiece_spans(spm_model):
    tokenizer = FullTokenizer(None, True, spm_model)
    text = "  In 1234,  the\nMODEL 中国\u3000É"
    pieces, spans = tokenizer.tokenize_with_offsets(text)
    spanned = [text[begin:end].lower() for begin, end in spans]
    assert "".join(spanned) == "".join(text.split()).lower()
    assert spanned[:-1] == [piece.replace("\u2581", "") for piece in pieces[:-1]]
    assert (pieces[-1], spanned[-1]) == ("e", "é")


@examples
@given(text=any_text | st.text("a1, \n中\u0301ﬁ\ufdfa각İ"))
def test_sentencepiece_spans_stay_in_the_text(spm_model, text):
    tokenizer = FullTokenizer(None, True, spm_model)
    ids, begins, ends = tokenizer.encode(text)
    assert tokenizer.tokenize(text) == tokenizer.convert_ids_to_tokens(ids.tolist())
    assert (begins <= ends).all()
    assert begins.tolist() == sorted(begins.tolist())
    assert not len(ids) or (begins[0] >= 0 and ends.max() <= len(text))


def test_only_one_character_is_longer_in_lower_case():
    longer = [c for c in map(chr, range(0x110000)) if len(c.lower()) > 1]
    assert longer == ["\u0130"]


def assert_encoded_one_by_one(tokenizer, texts):
    ids, counts = tokenizer.encode_all(texts)
    expected = [tokenizer.encode(text).ids.tolist() for text in texts]
    ends = np.cumsum(counts)
    assert [ids[end - n : end].tolist() for end, n in zip(ends, counts)] == expected
    assert ids.dtype == np.int32 and counts.dtype == np.int64 and sum(counts) == len(ids)


@given(st.lists(st.text(st.sampled_from("天地，Né1 \n\r\u2028\u0301\u200b😀") | st.characters())))
@examples
def test_many_texts_are_encoded_as_if_alone(spm_model, texts):
    assert_encoded_one_by_one(tokenizer_of(True), texts)
    assert_encoded_one_by_one(FullTokenizer(None, True, spm_model), texts)


def test_sentencepiece_has_the_names_of_the_field(spm_model):
    tokenizer = FullTokenizer(None, True, spm_model)
    assert list(tokenizer.vocab)[:5] == MARKERS
    assert tokenizer.convert_tokens_to_ids(MARKERS) == [0, 1, 2, 3, 4]
    assert tokenizer.tokenize("☃") == ["\u2581", "[UNK]"]
    assert pickle.loads(pickle.dumps(tokenizer)).tokenize("albert") == tokenizer.tokenize("albert")


def test_sentencepiece_without_markers(tmp_path):
    path = train_sentencepiece(tmp_path / "spm.model", ["[CLS]", "[SEP]"])
    with pytest.raises(UserError, match=r"spm.model has no \[MASK\]"):
        FullTokenizer(None, spm_model_file=path)


def test_each_kind_of_file_in_the_place_of_the_other(spm_model, tmp_path):
    with pytest.raises(UserError, match="binary; give a SentencePiece model with --spm_model_file"):
        FullTokenizer(spm_model)
    path = tmp_path / "30k-clean.vocab"
    path.write_text("<pad>\t0\n<unk>\t0\n[CLS]\t0\n▁the\t-3.4\n", encoding="utf-8")
    with pytest.raises(UserError, match="this file has scores; give a SentencePiece model with"):
        FullTokenizer(str(path))
    with pytest.raises(UserError, match="with one piece a line as vocab_file"):
        FullTokenizer(None, spm_model_file=VOCAB)
    empty = tmp_path / "empty.model"
    empty.touch()
    with pytest.raises(UserError, match="expected a binary model file"):
        FullTokenizer(None, spm_model_file=str(empty))


def test_a_vocabulary_in_utf_16_is_told_apart_from_a_binary_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("\n".join(MARKERS).encode("utf-16"))
    with pytest.raises(UserError, match="vocab.txt is UTF-16: convert it with iconv -f UTF-16"):
        load_vocab(str(path))
