"""Where the blocks of a document lie, among its tokens and in its lines: found once, kept as columns of numbers.

Notation: N blocks, H headings that parts of tables take along, T tokens of the document.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .blocks import Block, TokenMap


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


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of a document's text, as its tokens hold them; each column (n,) int64.

    Attributes:
        token: the token that the first character lies in; of several that share it, the first.
        skip: characters of that token, or tokens, before it.
        characters: its length.
        first_row, last_row: first and past the last token that begins in it.
    """

    token: np.ndarray
    skip: np.ndarray
    characters: np.ndarray
    first_row: np.ndarray
    last_row: np.ndarray

    @classmethod
    def of(cls, tokens: TokenMap, ranges: Sequence[tuple[int, int]]) -> Stretches:
        """Of ranges of characters."""
        rows = []
        for start, end in ranges:
            first, last = tokens.tokens(start, end)
            token = bisect_left(tokens.starts, tokens.starts[bisect_right(tokens.starts, start) - 1])
            rows.append((token, start - tokens.starts[token], end - start, first, last))
        return cls(*np.array(rows, np.int64).reshape(-1, 5).T)

    def columns(self) -> list[np.ndarray]:
        """Numbers that are mostly small, none negative."""
        token = np.diff(self.token, prepend=0)
        # Zigzag: headings may be named in any order.
        return [
            (token << 1) ^ (token >> 63),
            self.skip,
            self.characters,
            self.first_row - self.token,
            self.last_row - self.first_row,
        ]

    @classmethod
    def of_columns(cls, columns: Sequence[np.ndarray], tokens: int) -> Stretches:
        """The inverse of `columns`, in a document of T tokens; ValueError where they do not fit it."""
        change, skip, characters, first, rows = (column.astype(np.int64) for column in columns)
        if len({len(column) for column in columns}) != 1:
            raise ValueError("columns of several lengths")
        token = np.cumsum((change >> 1) ^ -(change & 1))
        found = cls(token, skip, characters, token + first, token + first + rows)
        if len(token) and not (token.min() >= 0 and found.last_row.max() <= tokens):
            raise ValueError(f"rows outside {tokens} tokens")
        return found


@dataclass(frozen=True, eq=False)
class Places:
    """Where the blocks of a document lie.

    Attributes:
        blocks: (N,) stretches; headings: (H,) stretches.
        heading_of: (N,) 1 + the number of the heading that a block takes along, 0 for none.
        first_line, last_line: (N,) from 1, inclusive, without blank lines at its ends.
    """

    blocks: Stretches
    headings: Stretches
    heading_of: np.ndarray
    first_line: np.ndarray
    last_line: np.ndarray

    COLUMNS = 13

    def __len__(self) -> int:
        return len(self.heading_of)

    @classmethod
    def of(cls, tokens: TokenMap, blocks: Sequence[Block]) -> Places:
        """Of the blocks of a text."""
        numbers = {heading: n for n, heading in enumerate(dict.fromkeys(b.heading for b in blocks if b.heading), 1)}
        lines = [_lines_of(tokens, block) for block in blocks]
        return cls(
            Stretches.of(tokens, [(block.start, block.end) for block in blocks]),
            Stretches.of(tokens, list(numbers)),
            np.array([numbers[b.heading] if b.heading else 0 for b in blocks], np.int64),
            np.array([first for first, _ in lines], np.int64),
            np.array([last for _, last in lines], np.int64),
        )

    def columns(self) -> list[np.ndarray]:
        """As many as COLUMNS."""
        lines = [np.diff(self.first_line, prepend=0), self.last_line - self.first_line]
        return [*self.blocks.columns(), *self.headings.columns(), self.heading_of, *lines]

    @classmethod
    def of_columns(cls, columns: Sequence[np.ndarray], tokens: int) -> Places:
        """The inverse of `columns`, in a document of T tokens; ValueError where they do not fit it."""
        blocks, headings = (Stretches.of_columns(columns[n : n + 5], tokens) for n in (0, 5))
        heading_of, step, more = (column.astype(np.int64) for column in columns[10:])
        if {len(heading_of), len(step), len(more)} != {len(blocks.token)}:
            raise ValueError("columns of several lengths")
        if len(heading_of) and int(heading_of.max()) > len(headings.token):
            raise ValueError(f"a heading beyond {len(headings.token)}")
        first = np.cumsum(step)
        return cls(blocks, headings, heading_of, first, first + more)

    def rows(self) -> np.ndarray:
        """Tokens of each block, (N, 4): heading rows from the first to past the last (zeros: none), then the text."""
        known, heads = self.heading_of > 0, np.maximum(self.heading_of - 1, 0)
        ends = [np.append(column, 0)[heads] * known for column in (self.headings.first_row, self.headings.last_row)]
        return np.stack([*ends, self.blocks.first_row, self.blocks.last_row], axis=1)

    def found(self, block: int, score: float) -> Found:
        """A block as what is read of it."""
        rows = tuple((int(s.first_row[n]), int(s.last_row[n])) for s, n in self.parts(block))
        return Found(block, score, int(self.first_line[block]), int(self.last_line[block]), rows)

    def parts(self, block: int) -> list[tuple[Stretches, int]]:
        """The stretches of a block, its heading first, each with its number."""
        heading = int(self.heading_of[block])
        return ([(self.headings, heading - 1)] if heading else []) + [(self.blocks, block)]


def _lines_of(tokens: TokenMap, block: Block) -> tuple[int, int]:
    own = tokens.text[block.start : block.end]
    first = block.start + len(own) - len(own.lstrip())
    return tokens.line(first), tokens.line(max(block.start + len(own.rstrip()) - 1, first))
