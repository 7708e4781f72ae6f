"""BM25 over the blocks of a document (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009).

    score(block) = sum over words w of the question of
                   idf(w) f(w) (k1 + 1) / (f(w) + k1 (1 - b + b length / mean length))
    idf(w) = ln(1 + (N - n(w) + 0.5) / (n(w) + 0.5))

Notation: N blocks, n(w) blocks that hold w, f(w) how often this block does.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from .words import words_of

K1 = 1.2
B = 0.75


class WordIndex:
    """Which blocks hold which words.

    Args:
        texts: of the blocks.

    Attributes:
        blocks: their number.
        lengths: words per block, (N,).
        postings: per word the blocks that hold it and how often, ascending.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(texts))
        for n, text in enumerate(texts):
            counts = Counter(words_of(text))
            lengths[n] = counts.total()
            for word, count in counts.items():
                postings[word].append((n, count))
        self.blocks, self.lengths, self.postings = len(texts), lengths, dict(postings)

    def idf(self, word: str) -> float:
        """How much a word says about a block: more the fewer hold it; that of a word in no block is the highest."""
        holding = len(self.postings.get(word, ()))
        return math.log(1 + (self.blocks - holding + 0.5) / (holding + 0.5))

    def scores(self, question: str) -> np.ndarray:
        """BM25 of each block, (N,) float64; zeros where no word of the question occurs."""
        scores = np.zeros(self.blocks)
        norm = K1 * (1 - B + B * self.lengths / max(self.lengths.mean(), 1.0)) if self.blocks else scores
        for word in sorted(set(words_of(question))):  # a fixed order of summation: equal bits everywhere
            found = self.postings.get(word)
            if found:
                at, counts = np.array(found).T
                scores[at] += self.idf(word) * counts * (K1 + 1) / (counts + norm[at])
        return scores

    def matched(self, question: str, block: int) -> list[str]:
        """The words of the question that a block holds, the most telling first."""
        shared = [w for w in set(words_of(question)) if any(n == block for n, _ in self.postings.get(w, ()))]
        return sorted(shared, key=lambda word: (-self.idf(word), word))
