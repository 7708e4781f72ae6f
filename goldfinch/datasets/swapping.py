"""Articles in which answers have been exchanged for others of their shape.

A model that has seen an article many times answers its questions from memory, and learns nothing more from them. Where
the text now says something else than it did, only reading helps (arXiv 2109.05052, section 3: substitution of answers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from random import Random

from .facts import NOT_STATED

MOST_WORDS = 5
# Small words that a name or a number may hold; a name with them is exchanged for one with the same.
_SMALL = frozenset(["the", "a", "an", "of", "and", "in", "on", "at", "to", "by", "for", "de", "la", "von", "van"])
_NUMBERS = frozenset(
    re.findall(r"\w+", "one two three four five six seven eight nine ten eleven twelve twenty thirty hundred")
)
# Answers in plain words are exchanged less often: the sentence seldom makes sense with another.
PLAIN_SHARE = 0.3

Shape = tuple[str, ...]


def shape(answer: str) -> Shape | None:
    """What another answer must share to stand in its place, a pattern per word; None for an answer that is too long."""
    words = answer.split()
    if not 0 < len(words) <= MOST_WORDS or not answer[:1].isalnum() or not answer[-1:].isalnum():
        return None
    return tuple(_pattern(word) for word in words)


def _pattern(word: str) -> str:
    if any(char.isdigit() for char in word):
        return re.sub(r"\d", "0", word)
    if word in _SMALL:
        return word
    return "#" if word.lower() in _NUMBERS else "A" if word[0].isupper() else "a"


def _is_plain(pattern: Shape) -> bool:
    return not any(part in ("A", "#") or "0" in part for part in pattern)


class AnswerSwapper:
    """Exchanges answers.

    Args:
        answers: to take others from.
        share: of the answers of a document that are exchanged.
    """

    def __init__(self, answers: Iterable[str], share: float) -> None:
        self._pools: dict[Shape, list[str]] = {}
        self._share = share
        for answer in dict.fromkeys(answers):
            if (pattern := shape(answer)) is not None:
                self._pools.setdefault(pattern, []).append(answer)

    def swapped(
        self, rng: Random, text: str, questions: Sequence[tuple[str, str]]
    ) -> tuple[str, list[tuple[str, str]]]:
        """The document and its questions with some answers exchanged, in the text, in the questions and as answers."""
        asked = list(questions)
        for question, answer in questions:
            other = self._other(rng, answer)
            old = _word(answer)
            if other is None or other in text or not old.search(text) or old.search(question):
                continue
            text = _replaced(old, other, text)
            asked = [
                (_replaced(old, other, asks), says if says == NOT_STATED else _replaced(old, other, says))
                for asks, says in asked
            ]
        return text, [(question, answer) for question, answer in asked if answer == NOT_STATED or answer in text]

    def _other(self, rng: Random, answer: str) -> str | None:
        pattern = shape(answer)
        if answer == NOT_STATED or pattern is None:
            return None
        if rng.random() >= self._share * (PLAIN_SHARE if _is_plain(pattern) else 1.0):
            return None
        pool = self._pools.get(pattern, [])
        other = rng.choice(pool) if pool else answer
        return None if other == answer else other


def _word(text: str) -> re.Pattern[str]:
    """The text where it stands for itself, not inside a longer word."""
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")


def _replaced(old: re.Pattern[str], new: str, text: str) -> str:
    return old.sub(lambda _: new, text)
