"""Reading policies: which blocks of a document a question is answered from.

A policy scores blocks; it changes no cache and no file. What it chose is read as it stands in the cache: the rows of
the blocks, of the document's first token and of its last ones; the recurrent state has read the whole document anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .index import DocumentIndex
from .named import HYBRID, LEXICAL
from .places import Found


@dataclass(frozen=True)
class Chosen:
    """Blocks of a document that a search over many documents has chosen, where else a policy would choose.

    Attributes:
        policy: that the search followed: a name in BY_WORDS.
        found: the blocks, best first; one or more.
    """

    policy: str
    found: tuple[Found, ...]


# Blocks whose likeness is looked at: of a longer document, those with most words of the question. Twice as many find
# the right one no more often, and cost twice the time (bench.quality.finding).
MOST_COMPARED = 32

Scores = Callable[[DocumentIndex, str], np.ndarray]


def lexical(index: DocumentIndex, question: str) -> np.ndarray:
    """Words in common with each block, (N,)."""
    return index.words.scores(question)


def hybrid(index: DocumentIndex, question: str) -> np.ndarray:
    """Words in common and likeness of word vectors, (N,).

    Both are measured by themselves, not against the other blocks, so that the few parts of a table, all about the same
    things, are told apart by the words that they hold. Of more than MOST_COMPARED blocks, those that have the fewest
    words in common count as no more alike than the least of the others: the time does not grow with the document.
    """
    scores = index.words.scores(question)
    compared = np.sort(np.argsort(-scores, kind="stable")[:MOST_COMPARED])
    likeness = index.likeness(question, compared.tolist())
    scores += likeness.min(initial=0.0)
    scores[compared] += likeness - likeness.min(initial=0.0)
    return scores


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
