"""Finding among many documents: BM25 over the blocks of all of them, from what is kept of the words of each.

    score(block) = (BM25(block) + DOCUMENT_SHARE BM25(document)) / most

where `most` is what a block could have at the most. The blocks, or documents, that hold a word are counted over the
documents that are asked, so that the order does not depend on what else is kept. A word is kept as a hash of 24 bits:
of the words of a question, hardly one in a hundred is mistaken for another. The best blocks are compared again by their
texts where there are word vectors.
"""

from __future__ import annotations

import hashlib
import math
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version

import numpy as np
import zstandard

from .blocks import sentences_of
from .lexical import K1, B, WordIndex
from .vectors import VectorIndex, word_vectors
from .words import words_of

# Of the cut into blocks, of the words, and of how they are kept; with what decides on words besides.
RULES_VERSION = 1
# Chosen on questions from articles among 1,000 documents; a half more or less finds about as much.
DOCUMENT_SHARE = 0.5
WORDS_WEIGHT = 4.0
# Blocks whose texts are compared with the question, besides their words.
CANDIDATES = 50
# Decompressed; a document of ten million tokens takes some fifty.
MOST_BYTES = 256 << 20
_HASH_BYTES = 3
# Words, pairs, blocks; bytes of a number in the columns behind the hashes.
_HEAD = struct.Struct("<III4B")
_WIDTHS = (1, 2, 4)
_MOST_FREQUENCY = 65535
_LEVEL = 9


def rules() -> str:
    """How the words of documents are found and kept: what was kept by others is of no use."""
    return f"{RULES_VERSION}, Unicode {unicodedata.unidata_version}, snowballstemmer {version('snowballstemmer')}"


@dataclass(frozen=True)
class BlockWords:
    """The words of one document. Notation: N blocks, U different words, P pairs of a word and a block that holds it.

    Attributes:
        hashes: of the words, (U,) uint32 ascending.
        counts: blocks that hold each, (U,); these and all below are unsigned integers of any width.
        blocks, frequencies: of the pairs, word by word, (P,).
        lengths: words per block, (N,).
    """

    hashes: np.ndarray
    counts: np.ndarray
    blocks: np.ndarray
    frequencies: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, words: WordIndex) -> BlockWords:
        """The words of a document's blocks, from its own index."""
        hashes = np.array([word_hash(word) for word in words.words()], np.int64)
        # Two words may have one hash, and a word stands in several sentences of a block.
        keys = np.repeat(hashes, words.counts) << 32 | words.block_of[words.sentences]
        pairs, inverse = np.unique(keys, return_inverse=True)
        frequencies = np.bincount(inverse, words.frequencies, minlength=len(pairs))
        found, counts = np.unique(pairs >> 32, return_counts=True)
        columns = found, counts, pairs & 0xFFFFFFFF, np.minimum(frequencies, _MOST_FREQUENCY), words.lengths
        return cls(*(column.astype(np.uint32) for column in columns))

    def pack(self) -> bytes:
        """As bytes: some 1.7 kB for a document of 2,000 tokens."""
        gaps = np.diff(self.hashes, prepend=np.uint32(0))
        others = (self.counts, self.blocks, self.frequencies, self.lengths)
        widths = [_width(column) for column in others]
        head = _HEAD.pack(len(self.hashes), len(self.blocks), len(self.lengths), *widths)
        parts = [column.astype(f"<u{width}").tobytes() for column, width in zip(others, widths, strict=True)]
        return zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join((head, _planes(gaps), *parts)))

    @classmethod
    def unpack(cls, data: bytes) -> BlockWords:
        """From bytes, whoever wrote them.

        Raises:
            ValueError: they are not those of `pack`.
        """
        raw = _decompressed(data)
        words, pairs, blocks, *widths = _HEAD.unpack_from(raw)
        sizes = (words, pairs, pairs, blocks)
        expected = _HEAD.size + words * _HASH_BYTES + sum(n * width for n, width in zip(sizes, widths, strict=True))
        if len(raw) != expected or not set(widths) <= set(_WIDTHS):
            raise ValueError(f"{len(raw)} bytes for {words} words in {blocks} blocks")
        at = _HEAD.size + words * _HASH_BYTES
        gaps, columns = _of_planes(raw[_HEAD.size : at], words), []
        for n, width in zip(sizes, widths, strict=True):
            columns.append(np.frombuffer(raw, f"<u{width}", n, at))
            at += n * width
        found = cls(np.cumsum(gaps, dtype=np.uint32), *columns)
        if int(found.counts.sum(dtype=np.uint64)) != pairs or (pairs and int(found.blocks.max()) >= blocks):
            raise ValueError(f"{pairs} pairs that do not fit {blocks} blocks")
        if not (found.counts.all() and gaps[1:].all() and found.frequencies.all()):
            raise ValueError("a word in no block, or twice")
        return found


def _width(column: np.ndarray) -> int:
    most = int(column.max()) if len(column) else 0
    return next(width for width in _WIDTHS if most < 1 << 8 * width)


def _planes(gaps: np.ndarray) -> bytes:
    """The lowest bytes of all numbers, then the next ones: what compresses together stands together."""
    return np.ascontiguousarray(gaps.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :_HASH_BYTES].T).tobytes()


def _of_planes(data: bytes, count: int) -> np.ndarray:
    planes = np.frombuffer(data, np.uint8).reshape(_HASH_BYTES, count).astype(np.uint32)
    gaps: np.ndarray = planes[0] | planes[1] << 8 | planes[2] << 16
    return gaps


def _decompressed(data: bytes) -> bytes:
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if not _HEAD.size <= size <= MOST_BYTES:
            raise ValueError(f"{size} bytes, allowed: {_HEAD.size} to {MOST_BYTES}")
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


@lru_cache(maxsize=1 << 16)
def word_hash(word: str) -> int:
    """What is kept of a word."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=_HASH_BYTES).digest(), "little")


@dataclass(frozen=True)
class Candidate:
    """A block of one of the documents, both by number, and how well it fits: 0 to 1."""

    document: int
    block: int
    score: float


class CollectionIndex:
    """The words of many documents together.

    Args:
        documents: their words, in an order that decides between equals.
    """

    def __init__(self, documents: Sequence[BlockWords]) -> None:
        self._documents = len(documents)
        blocks = [len(d.lengths) for d in documents]
        self._first_block = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
        self._owner = np.repeat(np.arange(len(documents)), blocks)
        self._lengths = _joined([d.lengths for d in documents]).astype(np.float64)
        self._hashes = _joined([d.hashes for d in documents])
        self._word_owner = np.repeat(np.arange(len(documents)), [len(d.hashes) for d in documents])
        self._counts = _joined([d.counts for d in documents]).astype(np.int64)
        self._first_pair = np.cumsum(self._counts) - self._counts
        self._pair_blocks = _joined([d.blocks for d in documents]).astype(np.int64)
        self._frequencies = _joined([d.frequencies for d in documents]).astype(np.float64)

    @cached_property
    def _document_lengths(self) -> np.ndarray:
        return np.bincount(self._owner, self._lengths, minlength=self._documents)

    def scores(self, question: str) -> tuple[np.ndarray, np.ndarray, float]:
        """BM25 of each block of each document, one after the other, of each document, and the most of both together."""
        blocks, documents, most = np.zeros(len(self._lengths)), np.zeros(self._documents), 0.0
        block_norm, document_norm = _norm(self._lengths), _norm(self._document_lengths)
        for word in sorted(set(words_of(question))):  # a fixed order of summation: equal bits everywhere
            at = np.flatnonzero(self._hashes == word_hash(word))
            idf = _idf(len(blocks), int(self._counts[at].sum())), _idf(self._documents, len(at))
            most += (idf[0] + DOCUMENT_SHARE * idf[1]) * (K1 + 1)
            if not len(at):
                continue
            counts, owners = self._counts[at], self._word_owner[at]
            ends = np.cumsum(counts)
            pairs = np.arange(ends[-1]) + np.repeat(self._first_pair[at] - ends + counts, counts)
            where = self._pair_blocks[pairs] + np.repeat(self._first_block[owners], counts)
            frequencies = self._frequencies[pairs]
            blocks[where] += idf[0] * _saturated(frequencies, block_norm[where])
            whole = np.add.reduceat(frequencies, ends - counts)
            documents[owners] += idf[1] * _saturated(whole, document_norm[owners])
        return blocks, documents, most

    def best(self, question: str, most: int) -> list[Candidate]:
        """The best blocks, best first; ties go to the earlier document and block. None without a word in common."""
        blocks, documents, most_score = self.scores(question)
        both = (blocks + DOCUMENT_SHARE * documents[self._owner]) / max(most_score, 1e-9)
        scores = np.where(blocks > 0, both, 0.0)
        found = np.flatnonzero(scores)
        order = found[np.argsort(-scores[found], kind="stable")[:most]]
        owners = self._owner[order]
        numbers = order - self._first_block[owners]
        rows = zip(owners.tolist(), numbers.tolist(), scores[order].tolist(), strict=True)
        return [Candidate(document, block, score) for document, block, score in rows]


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.uint32)


def _norm(lengths: np.ndarray) -> np.ndarray:
    mean = max(float(lengths.mean()), 1.0) if len(lengths) else 1.0
    norm: np.ndarray = K1 * (1 - B + B * lengths / mean)
    return norm


def _idf(total: int, holding: int) -> float:
    """How much a word says that `holding` of `total` texts hold."""
    return math.log(1 + (total - holding + 0.5) / (holding + 0.5))


def _saturated(frequencies: np.ndarray, norm: np.ndarray) -> np.ndarray:
    found: np.ndarray = frequencies * (K1 + 1) / (frequencies + norm)
    return found


def compared(question: str, texts: Sequence[str], scores: Sequence[float]) -> np.ndarray:
    """Scores of blocks, WORDS_WEIGHT times, with the likeness of their texts to the question.

    Args:
        texts: of the blocks.
        scores: as `CollectionIndex.best` gives them.

    Raises:
        FileNotFoundError: the word vectors are not installed.
    """
    vectors = VectorIndex(word_vectors(), [sentences_of(text) for text in texts])
    return WORDS_WEIGHT * np.array(scores) + vectors.scores(question)
