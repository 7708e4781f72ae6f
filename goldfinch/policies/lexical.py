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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .words import words_of

K1 = 1.2
B = 0.75


BM25_WEIGHT = 2.0


@dataclass(frozen=True, eq=False)
class WordIndex:
    """Which sentences of which blocks hold which words. U different words, P pairs of a word and a sentence with it.

    Attributes:
        text: the words, sorted by their UTF-8, each between two line ends.
        counts: sentences that hold each word, (U,).
        sentences, frequencies: of the pairs, word by word, (P,): which sentence, ascending, and how often.
        sentences_of: sentences of each block, (number of blocks,); one or more.
        lengths: words of each block, (number of blocks,).
    """

    text: bytes
    counts: np.ndarray
    sentences: np.ndarray
    frequencies: np.ndarray
    sentences_of: np.ndarray
    lengths: np.ndarray

    COLUMNS = 6

    @classmethod
    def of(cls, blocks: Sequence[Sequence[str]]) -> WordIndex:
        """Of the sentences of each block."""
        numbers: dict[str, int] = {}
        words: list[int] = []
        owners: list[int] = []
        lengths, sentence = [], 0
        for sentences in blocks:
            before = len(words)
            for text in sentences:
                found = words_of(text)
                words += [numbers.setdefault(word, len(numbers)) for word in found]
                owners += [sentence] * len(found)
                sentence += 1
            lengths.append(len(words) - before)
        ordered = sorted(numbers, key=str.encode)
        rank = np.zeros(len(numbers), np.int64)
        rank[[numbers[word] for word in ordered]] = np.arange(len(ordered))
        keys = rank[np.array(words, np.int64)] * max(sentence, 1) + np.array(owners, np.int64)
        pairs, frequencies = np.unique(keys, return_counts=True)
        word, held_by = np.divmod(pairs, max(sentence, 1))
        return cls(
            "".join(f"\n{word}" for word in (*ordered, "")).encode(),
            np.bincount(word, minlength=len(ordered)),
            held_by,
            frequencies,
            np.array([len(sentences) for sentences in blocks], np.int64),
            np.array(lengths, np.int64),
        )

    def columns(self) -> list[np.ndarray]:
        """As many as COLUMNS, of numbers that are mostly small."""
        steps = np.diff(self.sentences, prepend=0)
        steps[self._first_pair] = self.sentences[self._first_pair]
        text = np.frombuffer(self.text, np.uint8)
        return [text, self.counts, steps, self.frequencies, self.sentences_of, self.lengths]

    @classmethod
    def of_columns(cls, columns: Sequence[np.ndarray]) -> WordIndex:
        """The inverse of `columns`; ValueError where they are no such index."""
        text = columns[0].tobytes()
        text.decode()  # a UnicodeDecodeError is a ValueError
        counts, steps, frequencies, sentences_of, lengths = (column.astype(np.int64) for column in columns[1:])
        if text.count(b"\n") != len(counts) + 1 or int(counts.sum()) != len(steps) or len(steps) != len(frequencies):
            raise ValueError(f"{len(counts)} words in {len(steps)} places")
        if len(sentences_of) != len(lengths) or not (counts.all() and sentences_of.all()):
            raise ValueError("a block without sentences, or a word without places")
        sentences = np.cumsum(steps)
        before = np.cumsum(counts) - counts
        sentences -= np.repeat(sentences[before] - steps[before], counts)
        if len(sentences) and int(sentences.max()) >= int(sentences_of.sum()):
            raise ValueError(f"a sentence beyond {int(sentences_of.sum())}")
        return cls(text, counts, sentences, frequencies, sentences_of, lengths)

    @property
    def blocks(self) -> int:
        """Their number."""
        return len(self.lengths)

    @cached_property
    def _first_pair(self) -> np.ndarray:
        """Of each word."""
        first: np.ndarray = np.cumsum(self.counts) - self.counts
        return first

    @cached_property
    def block_of(self) -> np.ndarray:
        """The block of each sentence."""
        return np.repeat(np.arange(self.blocks), self.sentences_of)

    def words(self) -> list[str]:
        """All of them, in their order."""
        return self.text.decode().split("\n")[1:-1]

    def _pairs(self, word: str) -> slice:
        """Where the pairs of a word stand; nowhere when no sentence holds it."""
        at = self.text.find(f"\n{word}\n".encode())
        if at < 0:
            return slice(0, 0)
        number = self.text.count(b"\n", 0, at)
        first = int(self._first_pair[number])
        return slice(first, first + int(self.counts[number]))

    def idf(self, word: str) -> float:
        """How much a word says: more the fewer sentences hold it; that of a word in none is the highest."""
        pairs = self._pairs(word)
        holding = pairs.stop - pairs.start
        return math.log(1 + (len(self.block_of) - holding + 0.5) / (holding + 0.5))

    def scores(self, question: str) -> np.ndarray:
        """How well each block fits, (number of blocks,) float64, 0 to 3; zeros where no word of the question occurs."""
        # A fixed order of summation: equal bits everywhere.
        weights = {word: self.idf(word) for word in sorted(set(words_of(question)))}
        total = sum(weights.values())
        if not total or not self.blocks:
            return np.zeros(self.blocks)
        norm = K1 * (1 - B + B * self.lengths / max(float(self.lengths.mean()), 1.0))
        bm25, held = np.zeros(self.blocks), np.zeros(len(self.block_of))
        for word, weight in weights.items():
            pairs = self._pairs(word)
            if pairs.stop == pairs.start:
                continue
            sentences = self.sentences[pairs]
            held[sentences] += weight
            at, first = np.unique(self.block_of[sentences], return_index=True)
            counts = np.add.reduceat(self.frequencies[pairs], first)
            bm25[at] += weight * counts / (counts + norm[at])
        together = np.maximum.reduceat(held, np.cumsum(self.sentences_of) - self.sentences_of)
        scores: np.ndarray = (BM25_WEIGHT * bm25 + together) / total
        return scores

    def matched(self, question: str, block: int) -> list[str]:
        """The words of the question that a block holds, the most telling first."""
        shared = [w for w in set(words_of(question)) if block in self.block_of[self.sentences[self._pairs(w)]]]
        return sorted(shared, key=lambda word: (-self.idf(word), word))
