"""Static word vectors: what a text is about, whatever its words.

A text is the mean of the vectors of its pieces, each weighted by how few blocks of the document hold it. The vectors
are the file of the package `wordllama` (MIT), of which nothing is imported: its loader looks for downloads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PACKAGE = "wordllama"
_WEIGHTS = Path("weights") / "l2_supercat_256.safetensors"
_TOKENIZER = Path("tokenizers") / "l2_supercat_tokenizer_config.json"


def vectors_at_hand() -> bool:
    """Whether the file of vectors is installed (the extra `find`)."""
    folder = _folder()
    return folder is not None and (folder / _WEIGHTS).is_file() and (folder / _TOKENIZER).is_file()


def _folder() -> Path | None:
    spec = find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None


class WordVectors:
    """Vectors of word pieces, (V, D) float32, and what cuts a text into pieces."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._vectors = load_file(folder / _WEIGHTS)["embedding.weight"].astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)  # no offsets are needed
        return [[i for i in e.ids if i < len(self._vectors)] for e in encoded]

    def sums(self, texts: Sequence[Sequence[int]], weights: Mapping[int, float], default: float) -> np.ndarray:
        """The weighted sum of the pieces of each text, (len(texts), D) float64; zeros where there are none."""
        pieces = np.array([piece for text in texts for piece in text], np.int64)
        ids, rows = np.unique(pieces, return_inverse=True)
        weight = np.array([weights.get(i, default) for i in ids.tolist()])
        vectors = weight[:, None] * self._vectors[ids]  # each piece once, however many texts have it
        sums, end = np.zeros((len(texts), self._vectors.shape[1])), 0
        for n, text in enumerate(texts):
            start, end = end, end + len(text)
            vectors[rows[start:end]].sum(0, out=sums[n])
        return sums


def directions(sums: np.ndarray) -> np.ndarray:
    """Vectors (..., D) scaled to length 1; zeros stay."""
    scaled: np.ndarray = sums / np.maximum(np.linalg.norm(sums, axis=-1, keepdims=True), 1e-12)
    return scaled


@lru_cache(maxsize=1)
def word_vectors() -> WordVectors:
    """The installed vectors, read once.

    Raises:
        FileNotFoundError: they are not installed (`vectors_at_hand`).
    """
    folder = _folder()
    if folder is None or not vectors_at_hand():
        raise FileNotFoundError(f"the word vectors of the package {PACKAGE} are not installed")
    return WordVectors(folder)


class VectorIndex:
    """What the blocks of a document, and their sentences, are about.

    Args:
        vectors: of word pieces.
        blocks: the sentences of each block; a block is all of them.
    """

    def __init__(self, vectors: WordVectors, blocks: Sequence[Sequence[str]]) -> None:
        self._vectors = vectors
        sentences = vectors.pieces([sentence for block in blocks for sentence in block])
        owners = [n for n, block in enumerate(blocks) for _ in block]
        whole: list[list[int]] = [[] for _ in blocks]
        for owner, pieces in zip(owners, sentences, strict=True):
            whole[owner] += pieces
        holding = Counter(piece for pieces in whole for piece in set(pieces))
        self._weights = {piece: self._idf(len(blocks), n) for piece, n in holding.items()}
        self._default = self._idf(len(blocks), 0)
        sums = vectors.sums(sentences, self._weights, self._default)
        first = np.searchsorted(owners, np.arange(len(blocks)))
        # A block is the sum of its sentences.
        self._blocks = directions(np.add.reduceat(sums, first, axis=0)) if len(blocks) else sums
        self._sentences = directions(sums)
        self._owners = np.array(owners)

    @staticmethod
    def _idf(blocks: int, holding: int) -> float:
        return math.log(1 + (blocks - holding + 0.5) / (holding + 0.5))

    def scores(self, question: str) -> np.ndarray:
        """Likeness of each block to the question, (N,): of the whole block plus of its best sentence."""
        pieces = self._vectors.pieces([question])
        asked = directions(self._vectors.sums(pieces, self._weights, self._default)[0])
        best = np.full(len(self._blocks), -1.0)
        np.maximum.at(best, self._owners, self._sentences @ asked)
        scores: np.ndarray = self._blocks @ asked + best
        return scores
