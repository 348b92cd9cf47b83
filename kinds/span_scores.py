"""Scores of answers: exact match and F1, as the scripts of CMRC2018 and of SQuAD count them.

CMRC2018 (also used for DRCD in CLUE and by Chinese-BERT-wwm): lower case; a list of marks is
deleted; each Chinese character is a token, and the text between is split into English words; F1
counts the longest common run of tokens.

SQuAD: lower case; all punctuation and the words a, an, the are deleted; each Chinese character is a
token, as in MLQA; F1 counts the common tokens in any order.
"""

import collections
import re
import unicodedata

# The marks that CMRC's script deletes. The script compares single characters with its list. The
# ellipsis is a string of two characters in this list, so the script never deletes an ellipsis.
_CMRC_MARKS = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
_CMRC_CHARACTERS = ("\u4e00", "\u9fa5")
# English words are split as the Penn Treebank does (nltk's word_tokenize), in lower case and
# without the marks above: pattern -> replacement, one after another.
_TREEBANK = (
    (r"([‘„«])", r" \1 "),
    (r'^"', " `` "),
    (r"(?<=[ (\[{<])(\"|'')", " `` "),
    (r"(?<!\w)'(?=\w)(?!(?:re|ve|ll|m|t|s|d|n)\b)", r"' "),
    (r"([^.])\.([\]\)}>\"'»”’ ]*)\s*$", r"\1 . \2 "),
    (r",([^\d])", r" , \1"),
    (r",$", " , "),
    (r"(\.{2,})", r" \1 "),
    (r"([;@#$%&?!])", r" \1 "),
    (r"([^'])' ", r"\1 ' "),
    (r"([\]\[(){}<>])", r" \1 "),
    (r"$", " "),
    (r"([»])", r" \1 "),
    (r"''|\"", " '' "),
    (r"\s+", " "),
    (r"([^' ])('s|'m|'d|') ", r"\1 \2 "),
    (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
    (r"\b(can)(not)\b", r" \1 \2 "),
    (r"\b(d)('ye)\b", r" \1 \2 "),
    (r"\b(gim|lem)(me)\b", r" \1 \2 "),
    (r"\b(gon|wan)(na)\b", r" \1 \2 "),
    (r"\b(got)(ta)\b", r" \1 \2 "),
    (r"\b(more)('n)\b", r" \1 \2 "),
    (r" ('t)(is|was)\b", r" \1 \2 "),
)


_TREEBANK = tuple((re.compile(pattern), replacement) for pattern, replacement in _TREEBANK)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def answer_scores(answers, predictions):
    """Compare predicted answers with the right ones.

    Args:
        answers: dict of a question's id to its right answers, a list of str; an empty list where
            the context has no answer.
        predictions: dict of id to str, "" for no answer; a missing id counts as wrong.

    Returns:
        dict that json can write: `examples`, `em` and `f1` as CMRC2018's script counts, `squad_em`
        and `squad_f1`, each from 0 to 1 and of the best right answer. If some questions have an
        answer and others have none, also `answerable_em` and `answerable_f1` of the questions with
        an answer, and `no_answer_accuracy` of the questions without one.
    """
    rows = [_scores_of(right, predictions.get(guid)) for guid, right in answers.items()]
    scores = {"examples": len(rows)}
    scores.update({name: _mean(row[name] for row in rows) for name in _SCORES})
    has_answer = [bool(right) for right in answers.values()]
    if any(has_answer) and not all(has_answer):
        with_answer = [row for row, is_with in zip(rows, has_answer) if is_with]
        without = [row for row, is_with in zip(rows, has_answer) if not is_with]
        scores["answerable_em"] = _mean(row["em"] for row in with_answer)
        scores["answerable_f1"] = _mean(row["f1"] for row in with_answer)
        scores["no_answer_accuracy"] = _mean(row["em"] for row in without)
    return scores


def _mean(values):
    values = list(values)
    return sum(values) / max(len(values), 1)


def _scores_of(right, prediction):
    """Return name -> score of one question; `prediction` is None if the question has none."""
    if prediction is None:
        return dict.fromkeys(_SCORES, 0.0)
    if not right:  # the question has no answer, so only "" is right
        return dict.fromkeys(_SCORES, float(not prediction))
    return {
        name: float(max(score(answer, prediction) for answer in right))
        for name, score in _SCORES.items()
    }


# --------------------------------------------------------------------------------------- CMRC2018


def _cmrc_text(text):
    """Return a text in lower case, without blanks at its ends and without `_CMRC_MARKS`.

    >>> _cmrc_text(" 《Abc》：1,000年…… ")
    'abc1,000年……'
    """
    text = str(text).lower().strip()
    return "".join(character for character in text if character not in _CMRC_MARKS)


def cmrc_tokens(text):
    """Return the tokens of a text, as CMRC's script makes them: Chinese characters, English words.

    >>> cmrc_tokens("他don't在NBA 2019年")
    ['他', 'do', "n't", '在', 'nba', '2019', '年']
    """
    first, last = _CMRC_CHARACTERS
    tokens = []
    for part in filter(None, re.split("([{}-{}])".format(first, last), _cmrc_text(text))):
        is_character = len(part) == 1 and first <= part <= last
        tokens += [part] if is_character else english_words(part)
    return tokens


def english_words(text):
    """Return the words and marks of an English text in lower case, as the Penn Treebank has them.

    nltk's word_tokenize first looks for ends of sentences, which answers hardly ever hold.

    >>> english_words("it's 3.5%, u.s.")
    ['it', "'s", '3.5', '%', ',', 'u.s', '.']
    """
    for pattern, replacement in _TREEBANK:
        text = pattern.sub(replacement, text)
    return text.split()


def _cmrc_em(right, prediction):
    return _cmrc_text(right) == _cmrc_text(prediction)


def _cmrc_f1(right, prediction):
    right, prediction = cmrc_tokens(right), cmrc_tokens(prediction)
    return _f1(_longest_common_run(right, prediction), len(right), len(prediction))


def _longest_common_run(one, two):
    """Return the length of the longest run of tokens that is in both lists."""
    places = collections.defaultdict(list)
    for place, token in enumerate(two):
        places[token].append(place)
    longest, before = 0, {}
    for token in one:
        # Place of the token in `two` -> length of the common run that ends at this place.
        before = {place: before.get(place - 1, 0) + 1 for place in places[token]}
        longest = max(longest, max(before.values(), default=0))
    return longest


def _f1(common, num_right, num_predicted):
    if not common:
        return 0.0
    precision, recall = common / num_predicted, common / num_right
    return 2 * precision * recall / (precision + recall)


# ------------------------------------------------------------------------------------------ SQuAD


def squad_tokens(text):
    """Return the tokens of a text for SQuAD's scores.

    >>> squad_tokens("The NBA 2019年！")
    ['nba', '2019', '年']
    """
    text = "".join(
        " {} ".format(c) if _CMRC_CHARACTERS[0] <= c <= _CMRC_CHARACTERS[1] else c
        for c in str(text).lower()
        if not unicodedata.category(c).startswith("P") and c not in "$+<=>^`|~"
    )
    return _ARTICLES.sub(" ", text).split()


def _squad_em(right, prediction):
    return squad_tokens(right) == squad_tokens(prediction)


def _squad_f1(right, prediction):
    right, prediction = squad_tokens(right), squad_tokens(prediction)
    common = collections.Counter(right) & collections.Counter(prediction)
    return _f1(sum(common.values()), len(right), len(prediction))


_SCORES = {"em": _cmrc_em, "f1": _cmrc_f1, "squad_em": _squad_em, "squad_f1": _squad_f1}
