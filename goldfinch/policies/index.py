"""The index of a document: its blocks and its words, from its token ids or as a cache file holds them.

The packed form follows from the token ids, the tokenizer and the rules below, and from nothing else. It begins with a
digest of all three, so that what belongs to others is not used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from goldfinch.text.tokenizer import Tokenizer

from .blocks import Block, Pieces, map_tokens, sentences_of, split_blocks, text_of
from .collection import rules
from .columns import pack_columns, unpack_columns
from .lexical import WordIndex
from .places import Found, Places
from .vectors import VectorIndex, word_vectors

_VERSION = 1
_DIGEST_BYTES = 32
# Beyond so many bytes per token, and for a short document besides, an index costs more than finding anew.
MOST_BYTES_PER_TOKEN, MOST_BYTES_BESIDES = 8, 4096
# A few bytes can state billions of sentences, each of which takes memory.
MOST_SENTENCES_PER_TOKEN = 64


class DocumentIndex:
    """A document cut into blocks, and its words.

    Args:
        tokenizer: of the document.
        token_ids: its own, (T,) integers.
        packed: what `packed` gave for the same document, or anything else, which is then not used.
        blocks: (N, 4) integers, tokens of the blocks that the document is to have, where they may be others than the
            rules find: heading rows from the first to past the last (equal: none), then the text.

    Attributes:
        tokenizer, token_ids: as given; the ids as int64.
        from_packed: whether it was.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        token_ids: Sequence[int] | np.ndarray,
        packed: np.ndarray | None = None,
        *,
        blocks: np.ndarray | None = None,
    ) -> None:
        self.tokenizer, self.token_ids = tokenizer, np.asarray(token_ids, np.int64)
        self._texts: dict[int, str] = {}
        self._words: WordIndex | None = None
        self.from_packed = packed is not None and self._take(packed)
        if not self.from_packed:
            tokens = map_tokens(tokenizer, self.token_ids.tolist())
            split = split_blocks(tokens.text)
            self.places = Places.of(tokens, split)
            self._texts = {n: block.text(tokens.text) for n, block in enumerate(split)}
        self._by_rules = blocks is None or not len(self) or np.array_equal(self.places.rows(), blocks)
        if not self._by_rules and blocks is not None:
            self._cut(blocks)

    def _cut(self, blocks: np.ndarray) -> None:
        """Take other blocks than the rules find."""
        tokens = map_tokens(self.tokenizer, self.token_ids.tolist())
        starts = [*tokens.starts, len(tokens.text)]
        given = [
            Block(starts[first], starts[last], (starts[start], starts[end]) if start < end else None)
            for start, end, first, last in blocks.tolist()
        ]
        self.places, self.from_packed, self._words = Places.of(tokens, given), False, None
        self._texts = {n: block.text(tokens.text) for n, block in enumerate(given)}

    def __len__(self) -> int:
        """The number of blocks."""
        return len(self.places)

    def _take(self, packed: np.ndarray) -> bool:
        data = packed.tobytes()
        if data[:_DIGEST_BYTES] != self._belonging():
            return False
        try:
            columns = unpack_columns(data[_DIGEST_BYTES:], Places.COLUMNS + WordIndex.COLUMNS)
            self.places = Places.of_columns(columns[: Places.COLUMNS], len(self.token_ids))
            words = WordIndex.of_columns(columns[Places.COLUMNS :])
        except ValueError:
            return False
        most = MOST_SENTENCES_PER_TOKEN * len(self.token_ids) + words.blocks
        if words.blocks != len(self.places) or int(words.sentences_of.sum()) > most:
            return False
        self._words = words
        return True

    def _belonging(self) -> bytes:
        what = f"{_VERSION}, {rules()}, {self.tokenizer.fingerprint}\n"
        return hashlib.sha256(what.encode() + self.token_ids.astype("<i8").tobytes()).digest()

    def packed(self) -> np.ndarray | None:
        """As a file holds it, (bytes,) uint8; None where it would be larger than finding anew is worth, or the blocks
        are not those of the rules."""
        if not self._by_rules:
            return None
        data = self._belonging() + pack_columns([*self.places.columns(), *self.words.columns()])
        within = len(data) <= most_packed_bytes(len(self.token_ids))
        return np.frombuffer(data, np.uint8) if within else None

    def is_same(self, packed: np.ndarray) -> bool | None:
        """Whether a packed index is this one; None where it was made by other rules, or of something else."""
        if packed[:_DIGEST_BYTES].tobytes() != self._belonging():
            return None
        own = self.packed()
        return own is not None and np.array_equal(own, packed)

    @cached_property
    def texts(self) -> list[str]:
        """The text of each block, heading rows first."""
        return [self.text(n) for n in range(len(self))]

    def text(self, block: int) -> str:
        """The text of a block, heading rows first, decoded from its own tokens alone."""
        if block not in self._texts:
            parts = []
            for stretches, n in self.places.parts(block):
                token, skip, characters = (
                    int(column[n]) for column in (stretches.token, stretches.skip, stretches.characters)
                )
                ids = self.token_ids[token : int(stretches.last_row[n])].tolist()
                text = text_of(self.tokenizer, ids, token == 0, self._pieces)
                parts.append(text[skip : skip + characters])
            self._texts[block] = "".join(parts)
        return self._texts[block]

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces(self.tokenizer, self.token_ids.tolist())

    def sentences(self, block: int) -> list[str]:
        """The sentences of a block."""
        return sentences_of(self.text(block))

    @property
    def words(self) -> WordIndex:
        """For words in common."""
        if self._words is None:
            self._words = WordIndex.of([self.sentences(n) for n in range(len(self))])
        return self._words

    def likeness(self, question: str, blocks: Sequence[int]) -> np.ndarray:
        """Likeness of some blocks to a question, (len(blocks),).

        Raises:
            FileNotFoundError: the word vectors are not installed.
        """
        key = tuple(blocks)
        if key not in self._vectors:
            self._vectors.clear()  # a few hundred vectors: those of the last question are kept
            self._vectors[key] = VectorIndex(word_vectors(), [self.sentences(n) for n in blocks])
        return self._vectors[key].scores(question)

    @cached_property
    def _vectors(self) -> dict[tuple[int, ...], VectorIndex]:
        return {}

    def found(self, block: int, score: float) -> Found:
        """A block as what is read of it."""
        return self.places.found(block, score)


def most_packed_bytes(tokens: int) -> int:
    """Bytes that the packed index of a document of so many tokens takes at most."""
    return MOST_BYTES_PER_TOKEN * tokens + MOST_BYTES_BESIDES
