"""Exact match and F1 with the normalisation of SQuAD, and whether an answer names one of several forms."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# An answer of more words could name a right form by holding most of the document.
MOST_WORDS = 10
_CURRENCIES = str.maketrans("", "", "£€¥")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, references: Sequence[str]) -> bool:
    """Whether the answer equals one of the references after normalisation."""
    return normalise(answer) in {normalise(reference) for reference in references}


def names_one(answer: str, references: Sequence[str]) -> bool:
    """Whether an answer of at most MOST_WORDS words holds one of the references, word for word; hyphens are blanks and
    signs of currencies nothing."""
    words = _spaced(answer)
    return len(words.split()) <= MOST_WORDS and any(_spaced(reference) in words for reference in references)


def _spaced(text: str) -> str:
    return f" {normalise(text.replace('-', ' ').translate(_CURRENCIES))} "


def f1(answer: str, references: Sequence[str]) -> float:
    """Largest harmonic mean of word precision and recall over the references, 0 to 1."""
    return max(_f1(normalise(answer).split(), normalise(reference).split()) for reference in references)


def _f1(found: list[str], expected: list[str]) -> float:
    if not found or not expected:
        return float(found == expected)
    common = sum((Counter(found) & Counter(expected)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(expected)
    return 2 * precision * recall / (precision + recall)
