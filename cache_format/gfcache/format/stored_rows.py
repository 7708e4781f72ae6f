"""The rows of compressed_k of a cache and its bases, read and checked a few at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfcache import layout

from .header import Section
from .kept import Runs
from .parents import ancestors, open_parent
from .reader import CacheFile


@dataclass(frozen=True)
class _Part:
    """Rows that one section of one file holds: from token `start` to `end`."""

    file: CacheFile
    section: Section
    start: int
    end: int


class StoredRows:
    """Rows (T, R) that stay in their files until they are asked for. The files stay open as long as this is kept.

    Args:
        parts: in the order of their tokens, without gaps.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        self.dtype = parts[0].section.dtype
        self.shape = (parts[-1].end, parts[0].section.shape[1])

    @classmethod
    def of(cls, file: CacheFile) -> StoredRows | None:
        """Those of an open file, its bases' included; None where they can only be read whole.

        Raises:
            ParentMissing, ParentChanged, DamagedCache: see `ancestors`.
        """
        if file.header.parent is not None:
            ancestors(file.path)  # a chain that is too long is refused before any of it is read
        parts = _parts(file, file.header.tokens)
        return cls(parts) if parts and len({(p.section.dtype, p.section.shape[1]) for p in parts}) == 1 else None

    def read(self, first: int, last: int) -> np.ndarray:
        """The rows of the tokens from `first` to `last`, read-only; bf16 as 16-bit words.

        Raises:
            DamagedCache: R3, R16 or R18.
        """
        found = [
            part.file.rows(part.section, max(first - part.start, 0), min(last, part.end) - part.start)
            for part in self._parts
            if part.start < last and part.end > first
        ]
        if not found:
            return np.zeros((0, self.shape[1]), layout.NUMPY_DTYPES[self.dtype])
        return found[0] if len(found) == 1 else np.concatenate(found)


def kept_in(file: CacheFile) -> Runs | None:
    """The runs of rows of compressed_k that an open file keeps; None where none of them was dropped.

    Raises:
        DamagedCache: R14, R15, R19.
    """
    found = [section for section in file.header.of_kind(layout.KEPT_POSITIONS) if len(section.shape) == 2]
    return tuple((int(a), int(b)) for a, b in file.array(found[0])) if found else None


def _parts(file: CacheFile, tokens: int) -> list[_Part]:
    """The parts that hold the first tokens; none where a file has no digests."""
    if not file.has_digests():
        return []
    own = file.duplicate()
    parts: list[_Part] = []
    if file.header.parent is not None:
        with open_parent(file) as parent:
            parts = _parts(parent, file.header.first_token)
        if not parts:
            return []
    for section in sorted(file.header.of_kind(layout.COMPRESSED_K), key=lambda s: s.token_start or 0):
        start = section.token_start or 0
        if start < tokens:
            parts.append(_Part(own, section, start, min(start + section.shape[0], tokens)))
    return parts
