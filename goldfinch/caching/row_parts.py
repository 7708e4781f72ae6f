"""Which codec has rounded which rows of a cache. Knows no torch.

A section of compressed_k is rounded for itself. What a base holds was rounded with the base, so rows of one document
may have passed several codecs, and a run may go on from rows only where it would round them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gfcache import Coding, layout
from gfcache.codecs.registry import RAW
from gfcache.format.convert import is_lossy

from goldfinch.policies.dropping.named import Dropping

# (first token, codec) of each part that was rounded for itself, in their order; none where nothing was rounded.
RowParts = tuple[tuple[int, str], ...]
LOSSLESS = Coding()


def normal(parts: Sequence[tuple[int, str]]) -> RowParts:
    """Parts with one way to say the same: what was not rounded has no inner borders."""
    if not any(is_lossy(codec) for _, codec in parts):
        return ()
    whole: list[tuple[int, str]] = []
    for start, codec in parts:
        if not whole or is_lossy(codec) or is_lossy(whole[-1][1]):
            whole.append((start, codec if is_lossy(codec) else RAW.name))
    return tuple(whole)


def parts_of(
    coding: Coding,
    tokens: int,
    parent: RowParts = (),
    parent_tokens: int = 0,
    section_tokens: int = layout.CHUNK_TOKENS,
) -> RowParts:
    """The parts of the rows of a document's file.

    Args:
        coding: of its own part.
        tokens: T.
        parent: parts of the base that it continues.
        parent_tokens: what the base holds of it.
        section_tokens: of a full section.
    """
    kept = [(start, codec) for start, codec in parent if start < parent_tokens]
    if parent_tokens and not kept:
        kept = [(0, RAW.name)]
    return normal([*kept, *((start, coding.rows) for start in range(parent_tokens, tokens, section_tokens))])


@dataclass(frozen=True)
class Form:
    """What the file of a cache is to be.

    Attributes:
        coding: its codecs.
        parent: the base that it continues, or None.
        parent_tokens: what that holds of the document.
        dropping: which rows are dropped before the others are rounded; None for none.
    """

    coding: Coding = LOSSLESS
    parent: Any = None
    parent_tokens: int = 0
    dropping: Dropping | None = None

    def parts(self, tokens: int, section_tokens: int = layout.CHUNK_TOKENS) -> RowParts:
        """Of its rows, T where none are dropped; a full section has `section_tokens`."""
        parent = getattr(self.parent, "row_parts", ())
        return parts_of(self.coding, tokens, parent, self.parent_tokens, section_tokens)


# A file that stands alone, its values as computed.
PLAIN = Form()


def can_continue(base: RowParts, wanted: RowParts) -> bool:
    """Whether rows of a cache of parts `base` become those of a cold run when they are rounded as `wanted`."""
    n = min(len(base), len(wanted))
    return not base or (n > 0 and base[:n] == wanted[:n])
