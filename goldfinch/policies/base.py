"""Reading policies: which blocks of a document a question is answered from.

A policy scores blocks; it changes no cache and no file. What it chose is read as it stands in the cache: the rows of
the blocks, of the document's first token and of its last ones; the recurrent state has read the whole document anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .blocks import TokenMap, sentences_of, split_blocks
from .lexical import WordIndex
from .named import HYBRID, LEXICAL
from .vectors import VectorIndex, word_vectors


@dataclass(frozen=True)
class Found:
    """A block that a policy chose.

    Attributes:
        block: its number in the document.
        score: how well it fits; comparable within one question and one document.
        first_line, last_line: from 1, inclusive, without blank lines at its ends.
        rows: (first, past the last) tokens to read, counted in the document's own tokens; heading rows first.
    """

    block: int
    score: float
    first_line: int
    last_line: int
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Chosen:
    """Blocks of a document that a search over many documents has chosen, where else a policy would choose.

    Attributes:
        policy: that the search followed: a name in BY_WORDS.
        found: the blocks, best first; one or more.
    """

    policy: str
    found: tuple[Found, ...]


class DocumentIndex:
    """A document cut into blocks, its words counted when they are first needed.

    Args:
        tokens: where the document's tokens lie in its text.
    """

    def __init__(self, tokens: TokenMap) -> None:
        self.tokens = tokens
        self.blocks = split_blocks(tokens.text)
        self.texts = [block.text(tokens.text) for block in self.blocks]
        self._sentences = [sentences_of(text) for text in self.texts]

    @cached_property
    def words(self) -> WordIndex:
        """For words in common."""
        return WordIndex(self._sentences)

    @cached_property
    def vectors(self) -> VectorIndex:
        """For likeness.

        Raises:
            FileNotFoundError: the word vectors are not installed.
        """
        return VectorIndex(word_vectors(), self._sentences)

    def found(self, block: int, score: float) -> Found:
        """A block as what is read of it."""
        place, text = self.blocks[block], self.tokens.text
        own = text[place.start : place.end]
        first = place.start + len(own) - len(own.lstrip())
        last = max(place.start + len(own.rstrip()) - 1, first)
        parts = [(place.start, place.end)] if place.heading is None else [place.heading, (place.start, place.end)]
        rows = tuple(self.tokens.tokens(start, end) for start, end in parts)
        return Found(block, score, self.tokens.line(first), self.tokens.line(last), rows)


Scores = Callable[[DocumentIndex, str], np.ndarray]


def lexical(index: DocumentIndex, question: str) -> np.ndarray:
    """Words in common with each block, (N,)."""
    return index.words.scores(question)


def hybrid(index: DocumentIndex, question: str) -> np.ndarray:
    """Words in common and likeness of word vectors, (N,).

    Both are measured by themselves, not against the other blocks, so that the few parts of a table, all about the same
    things, are told apart by the words that they hold.
    """
    return index.words.scores(question) + index.vectors.scores(question)


# Every policy that chooses by the question's words. "all" reads everything and chooses nothing.
BY_WORDS: dict[str, Scores] = {LEXICAL: lexical, HYBRID: hybrid}


def best_blocks(policy: str, index: DocumentIndex, question: str, most: int) -> list[Found]:
    """The best blocks for a question, best first; ties go to the earlier block.

    Args:
        policy: a name in BY_WORDS.
        most: how many at most.
    """
    scores = BY_WORDS[policy](index, question)
    order = np.argsort(-scores, kind="stable")[:most]
    return [index.found(int(n), float(scores[n])) for n in order]


def rows_to_read(found: Sequence[Found], start: int, length: int, tail: int) -> list[tuple[int, int]]:
    """What a memory holds for the blocks found: disjoint ranges of the cache's rows, ascending.

    Args:
        found: the blocks.
        start: the document's first token in the cache, behind what the prompt puts before it.
        length: T, rows of the cache.
        tail: rows at the end that pass the GOLD layers again with the question, so that all of them must be there.
    """
    ranges = [(0, 1), (max(length - tail, 0), length)]
    ranges += [(start + first, start + last) for block in found for first, last in block.rows]
    merged: list[tuple[int, int]] = []
    for first, last in sorted(r for r in ranges if r[0] < r[1]):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged
