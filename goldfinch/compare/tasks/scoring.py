"""Scores of answers, 0 to 1. Rouge-L and edit similarity are those of known libraries, as the field counts them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from goldfinch.errors import LibraryMissing
from goldfinch.evaluate.scoring import exact_match, f1, names_one

INSTALL = "pip install 'goldfinch-gf[compare]'"
_NUMBER = re.compile(r"[0-9]+")


def stated(answer: str, references: tuple[str, ...]) -> float:
    """Whether the answer is a value (SQuAD's normalisation), or has it and no other number of as many digits."""
    numbers = _NUMBER.findall(answer)
    alone = any({one for one in numbers if len(one) == len(value)} == {value} for value in references)
    return float(alone or exact_match(answer, references))


def words(answer: str, references: tuple[str, ...]) -> float:
    """F1 of words, SQuAD's."""
    return f1(answer, references)


def label(answer: str, references: tuple[str, ...]) -> float:
    """Whether the answer names the first reference, the label, and none of the others, the labels that are wrong."""
    return float(names_one(answer, references[:1]) and not any(names_one(answer, [other]) for other in references[1:]))


def number(answer: str, references: tuple[str, ...]) -> float:
    """Whether the first number of the answer is that of the reference (LongBench counts the share of such numbers)."""
    found = _NUMBER.search(answer)
    return float(found is not None and found[0] == references[0])


def rouge_l(answer: str, references: tuple[str, ...]) -> float:
    """Largest F-measure of ROUGE-L over the references (Lin, 2004), without stemming, by the package rouge-score."""
    return max(float(_rouge().score(reference, answer)["rougeL"].fmeasure) for reference in references)


def edit_similarity(answer: str, references: tuple[str, ...]) -> float:
    """Of the answer's first line and the reference: the ratio of Indel similarity, by the package rapidfuzz."""
    line = next((line for line in answer.splitlines() if line.strip()), "")
    return max(float(_rapidfuzz().ratio(line.strip(), reference.strip())) / 100 for reference in references)


def missing() -> dict[str, str]:
    """The measures that cannot be taken here, and why."""
    found = {}
    for measure, load in (("Rouge-L", _rouge), ("edit similarity", _rapidfuzz)):
        try:
            load()
        except LibraryMissing as error:
            found[measure] = str(error)
    return found


@cache
def _rouge() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise LibraryMissing("summaries are scored by the package rouge-score, not installed", hint=INSTALL) from error
    return RougeScorer(["rougeL"])


@cache
def _rapidfuzz() -> Any:
    try:
        from rapidfuzz import fuzz
    except ImportError as error:
        raise LibraryMissing("code is scored by the package rapidfuzz, not installed", hint=INSTALL) from error
    return fuzz
