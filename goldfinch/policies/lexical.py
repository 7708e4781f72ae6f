"""Words in common: BM25 over the blocks of a document, and how many of them one sentence holds.

BM25 is that of Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, as a share of its limit:

    bm25(block) = sum over words w of the question of
                  idf(w) f(w) (k1 + 1) / (f(w) + k1 (1 - b + b length / mean length))   /   sum of idf(w) (k1 + 1)
    together(block) = the most of sum of idf(w) over the words of one of its sentences  /   sum of idf(w)
    score = 2 bm25 + together
    idf(w) = ln(1 + (N - n(w) + 0.5) / (n(w) + 0.5))

Notation: N sentences, n(w) sentences that hold w, f(w) how often a block does. A short document has too few blocks to
tell rare words from common ones; it has sentences enough.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from .words import words_of

K1 = 1.2
B = 0.75


BM25_WEIGHT = 2.0


class WordIndex:
    """Which blocks and which sentences hold which words.

    Args:
        blocks: the sentences of each block.

    Attributes:
        blocks: their number.
        lengths: words per block, (number of blocks,).
        postings: per word the blocks that hold it and how often, ascending.
    """

    def __init__(self, blocks: Sequence[Sequence[str]]) -> None:
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(blocks))
        self._sentences: list[list[frozenset[str]]] = []
        self._holding: Counter[str] = Counter()
        for n, sentences in enumerate(blocks):
            found = [words_of(sentence) for sentence in sentences]
            counts = Counter(word for words in found for word in words)
            lengths[n] = counts.total()
            for word, count in counts.items():
                postings[word].append((n, count))
            self._sentences.append([frozenset(words) for words in found])
            for words in self._sentences[-1]:
                self._holding.update(words)
        self._count = sum(len(sentences) for sentences in self._sentences)
        self.blocks, self.lengths, self.postings = len(blocks), lengths, dict(postings)

    def idf(self, word: str) -> float:
        """How much a word says: more the fewer sentences hold it; that of a word in none is the highest."""
        holding = self._holding.get(word, 0)
        return math.log(1 + (self._count - holding + 0.5) / (holding + 0.5))

    def scores(self, question: str) -> np.ndarray:
        """How well each block fits, (number of blocks,) float64, 0 to 3; zeros where no word of the question occurs."""
        # A fixed order of summation: equal bits everywhere.
        weights = {word: self.idf(word) for word in sorted(set(words_of(question)))}
        total = sum(weights.values())
        if not total or not self.blocks:
            return np.zeros(self.blocks)
        return (BM25_WEIGHT * self._bm25(weights) + self._together(weights)) / total

    def _bm25(self, weights: dict[str, float]) -> np.ndarray:
        scores = np.zeros(self.blocks)
        norm = K1 * (1 - B + B * self.lengths / max(float(self.lengths.mean()), 1.0))
        for word, weight in weights.items():
            found = self.postings.get(word)
            if found:
                at, counts = np.array(found).T
                scores[at] += weight * counts / (counts + norm[at])
        return scores

    def _together(self, weights: dict[str, float]) -> np.ndarray:
        best = [
            max((sum(weight for word, weight in weights.items() if word in words) for words in sentences), default=0.0)
            for sentences in self._sentences
        ]
        return np.array(best)

    def matched(self, question: str, block: int) -> list[str]:
        """The words of the question that a block holds, the most telling first."""
        shared = [w for w in set(words_of(question)) if any(n == block for n, _ in self.postings.get(w, ()))]
        return sorted(shared, key=lambda word: (-self.idf(word), word))
