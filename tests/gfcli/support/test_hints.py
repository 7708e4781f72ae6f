"""What gf says to do next about an error of the cache format."""

from __future__ import annotations

import pytest
from gfcache import errors

from gfcli.support.exits import describe

CASES = [
    (errors.NotACacheFile("a", b"%PDF"), "gf prefill makes a cache from a text document"),
    (errors.NotACacheFile("my notes.txt", b"Dear"), "to ask it: gf ask 'my notes.txt' \"QUESTION\""),
    (errors.NotACacheFile("my notes.gfc", b"Dear"), "to ask it, pipe it: cat 'my notes.gfc' | gf ask - \"QUESTION\""),
    (errors.DamagedCache("a", "R5", 1, 2), "the file was cut or altered; pre-fill the document again"),
    (errors.UnsupportedVersion("a", 2, 1), "update gf, or pre-fill the document again with this version"),
    (
        errors.UnsupportedSection("a", "s", "codec", "x", ("raw",)),
        "update gf, or pre-fill the document again with this version",
    ),
    (errors.CacheLocked("a"), "wait until it has finished, or choose another output"),
    (
        errors.ParentMissing("a", "b", "c" * 64),
        "put the base cache back, or pre-fill the whole document without --base",
    ),
    (
        errors.ParentChanged("a", "b", "c" * 64, "d" * 64),
        "pre-fill this document again with --base, for the base cache was replaced",
    ),
    (errors.UnwritableCache("a", "R4", 1, 2), "keep fewer checkpoints, for instance --checkpoints auto"),
    (errors.UnwritableCache("a", "R7", 1, 2), "give the document a name in UTF-8"),
    (errors.UnwritableCache("a", "R9", 1, 2), "keep fewer checkpoints, for instance --checkpoints auto"),
    (
        errors.UnwritableCache("a", "R16", 1, 2),
        "compute in another dtype (--dtype float32), or check the weights with gf model verify",
    ),
    (errors.UnwritableCache("a", "R8", 1, 2), None),
    (
        errors.CacheWriteError("a", OSError(28, "No space left on device")),
        "make room or set the rights of its folder, or choose another output",
    ),
    (
        errors.NoRoom("a", 2, 1),
        "raise the cap (GF_CACHE_MAX_SIZE, cache.max_size), or unpin entries: gf cache ls --filter pinned=yes",
    ),
]


@pytest.mark.parametrize(("error", "hint"), CASES, ids=lambda value: type(value).__name__)
def test_every_error_has_its_hint(error: errors.CacheFormatError, hint: str | None) -> None:
    assert describe(error)[1] == hint
