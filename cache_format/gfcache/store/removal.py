"""What a removal of caches did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field

from .index import Entry

# Why an entry stays.
PINNED, LOCKED, PARENT = "pinned", "locked", "in use as a base"
PERHAPS_PINNED = "perhaps pinned, the index cannot be used"
FOREIGN = "not known to be a cache of gf"
CHANGED = "changed since it was listed"


@dataclass
class Removal:
    """What a removal did, or would do.

    Attributes:
        removed: entries, in the order of removal.
        remnants: files of runs that were cut short, relative names.
        freed_bytes: of both.
        skipped: (entry, why) pairs: pinned or perhaps so, locked, in use as a base, not ours, changed meanwhile.
    """

    removed: list[Entry] = field(default_factory=list)
    remnants: list[str] = field(default_factory=list)
    freed_bytes: int = 0
    skipped: list[tuple[Entry, str]] = field(default_factory=list)

    def add(self, more: Removal) -> None:
        """Count another removal in."""
        self.removed += more.removed
        self.remnants += more.remnants
        self.skipped += more.skipped
        self.freed_bytes += more.freed_bytes
