"""What jobs say while they run: records that a command prints, a server sends on, and tests compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gfcache import Removal

from .sources import Source

WARNING, NOTE, DETAIL = "warning", "note", "detail"


@dataclass(frozen=True)
class Report:
    """What became of a document.

    Attributes:
        path: its cache file.
        tokens: in the whole document, a base included.
        tokens_reused: of them, not computed by this run.
        bytes: of the file.
        seconds: from reading it to the written file.
        first_changed_token: where it departs from what it was resumed from; None when all of that is shared.
        checkpoint_bytes: of the file, for positions to resume from; None in a library.
        tok_s: tokens per second of computing; None when nothing was computed, and in a library.
    """

    path: Path
    tokens: int
    tokens_reused: int
    bytes: int
    seconds: float = 0.0
    first_changed_token: int | None = None
    checkpoint_bytes: int | None = None
    tok_s: float | None = None


@dataclass(frozen=True)
class Begun:
    """A document has its turn."""

    source: Source


@dataclass(frozen=True)
class Written:
    """A document was computed, and its cache is in its place."""

    source: Source
    report: Report


@dataclass(frozen=True)
class PassedOver:
    """The cache that is there is good enough."""

    source: Source
    report: Report


@dataclass(frozen=True)
class Skipped:
    """A file of a folder turned out to hold no text."""

    source: Source
    reason: Exception


@dataclass(frozen=True)
class Failed:
    """A document failed, and the others go on.

    Attributes:
        path: its cache file, where that is known.
        undone: the event that reported it before, when its cache had to make room for another one.
    """

    source: Source
    error: Exception
    path: Path | None = None
    undone: type[Written] | type[PassedOver] | None = None


@dataclass(frozen=True)
class Planned:
    """A cache would be made anew."""

    source: Source
    path: Path


@dataclass(frozen=True)
class Progress:
    """Told while a document is computed: tokens done, of all of them."""

    label: str
    done: int
    total: int


@dataclass(frozen=True)
class Remark:
    """Told when there is something to know.

    Attributes:
        level: WARNING, NOTE, or DETAIL of what was found and decided.
        text: what there is to know.
        error: what led to it, or None.
    """

    level: str
    text: str
    error: Exception | None = None


@dataclass(frozen=True)
class Removed:
    """Told when caches of a library had to make room."""

    removal: Removal


# A run yields what became of its documents, and tells what happens while one is computed.
Outcome = Begun | Written | PassedOver | Skipped | Failed | Planned
Told = Progress | Remark | Removed
Tell = Callable[[Told], object]


def tell_nobody(event: Told) -> None:
    """A `Tell` that drops everything."""
