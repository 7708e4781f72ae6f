"""The journal of a prefill under way: a cache of the document's beginning, from which a killed run goes on.

It lies beside the output as `.NAME.journal` (cache_format/SPEC.md, W5), is itself a complete .gfc file, and is
replaced atomically, so it is always that of some moment.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import gfcache
from gfcache.locks import lock_path

from .cache import DocumentCache, numerics_difference, open_cache
from .errors import GoldFinchError
from .model import LanguageModel

EVERY_S = 10.0
# Writing takes at most this share of the time: the next journal waits until it does.
MOST_SHARE = 0.05


class Journal:
    """Where a prefill notes how far it is.

    Args:
        output: the cache file that the prefill will write.
        every_s: least seconds between two notes; 0 notes after every block.
    """

    def __init__(self, output: Path, every_s: float = EVERY_S) -> None:
        self.path = output.with_name(f".{output.name}.journal")
        self._every_s = every_s
        self._next = time.monotonic() + every_s

    def note(self, partial: Callable[[], DocumentCache]) -> None:
        """Write the cache of the tokens done so far, if it is time.

        Raises:
            gfcache.CacheWriteError: the disk is full, ...; an earlier journal is untouched.
        """
        started = time.monotonic()
        if started < self._next:
            return
        self.save(partial())
        ended = time.monotonic()
        wait = (ended - started) / MOST_SHARE if self._every_s else 0.0
        self._next = ended + max(self._every_s, wait)

    def save(self, cache: DocumentCache) -> None:
        """Write the journal."""
        cache.save(self.path)

    def read(self, model: LanguageModel) -> DocumentCache | None:
        """What an interrupted run left; None when nothing did, or nothing that gives the bits of a cold run."""
        return reusable(self.path, model)

    def remove(self) -> None:
        """The output is complete: the journal and what a killed writer of it left have done their part."""
        if not self.path.exists() and not lock_path(self.path).exists():
            return
        with gfcache.output_lock(self.path), contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def reusable(path: Path, model: LanguageModel) -> DocumentCache | None:
    """A cache from which a prefill of this model may go on, bit for bit; None when absent, damaged or another's."""
    try:
        cache = open_cache(path, model)
    except (OSError, gfcache.CacheFormatError, GoldFinchError):
        return None
    return cache if numerics_difference(cache.numerics, model) is None else None
