"""The journal of a prefill under way: a cache of the document's beginning, from which a killed run resumes.

It lies beside the output as `.NAME.journal` (cache_format/SPEC.md, W6), is itself a complete .gfc file, and is
replaced atomically, so it is always that of some moment. What has that name and is a link, or no cache, is somebody's:
it is not read, written or removed, and the run goes on without a journal. Nor is the journal of another user believed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gfcache
from gfcache.files.locks import lock_path
from gfcache.files.names import fitting
from gfcache.files.regular import open_regular, starts_with

from goldfinch.errors import GoldFinchError

from .document_cache import DocumentCache, open_cache
from .numerics import numerics_difference

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel

# A cache, of whatever model.
T = TypeVar("T")
# Told what is on the disk from which a run that is ended now would resume.
KEPT = logging.getLogger("goldfinch.kept")

_SUFFIX = ".journal"
EVERY_S = 10.0
# Writing takes at most this share of the time: the next journal waits until it does.
MOST_SHARE = 0.05


class Journal:
    """Where a prefill notes how far it is.

    Args:
        output: the cache file that the prefill will write.
        every_s: least seconds between two notes; 0 notes after every block.
        save: writes a note to a path; it may leave out one for which there is no room.

    Attributes:
        obstacle: why the last note could not be written, or None; the prefill goes on without it.
        noted: takes the digest of each note that was written.
    """

    def __init__(
        self,
        output: Path,
        every_s: float = EVERY_S,
        *,
        save: Callable[[Any, Path], object] | None = None,
    ) -> None:
        self.path = output.with_name(f".{fitting(output.name, 1 + len(_SUFFIX))}{_SUFFIX}")
        self.obstacle: gfcache.CacheWriteError | None = None
        self.noted: Callable[[str], object] = lambda _: None
        self._every_s, self._save = every_s, save or save_journal
        self._next = time.monotonic() + every_s

    def note(self, partial: Callable[[], Any]) -> None:
        """Write the cache of the tokens done so far, if it is time and the disk takes it; else an earlier one stays."""
        started = time.monotonic()
        if started < self._next:
            return
        try:
            self._check_free()
            cache = partial()
            self._save(cache, self.path)
            self.obstacle = None
            KEPT.info("noted %s", self.path)
            if cache.digest is not None:
                self.noted(cache.digest)
        except gfcache.CacheWriteError as error:
            self.obstacle = error
        ended = time.monotonic()
        wait = (ended - started) / MOST_SHARE if self._every_s else 0.0
        self._next = ended + max(self._every_s, wait)

    def _check_free(self) -> None:
        if os.path.lexists(self.path) and not self._is_ours():
            reason = OSError(errno.EEXIST, "what has the name of its journal is a link, or no cache of gf")
            raise gfcache.CacheWriteError(self.path, reason)

    def _is_ours(self) -> bool:
        return starts_with(self.path, gfcache.layout.MAGIC)

    def read(self, model: LanguageModel) -> DocumentCache | None:
        """What an interrupted run left; None when nothing did, or nothing that gives the bits of a cold run."""
        return self.left_by(lambda path: reusable(path, model))

    def left_by(self, read: Callable[[Path], T | None]) -> T | None:
        """The same, read by the engine of a model (None for what it cannot resume from)."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return None
        if found.st_uid not in (0, os.geteuid()) or not self._is_ours():
            return None
        left = read(self.path)
        if left is not None:
            KEPT.info("resumed from %s", self.path)
        return left

    def finish(self, write: Callable[[], gfcache.Header]) -> gfcache.Header:
        """Write the output, on a full disk in the room of the journal, and remove the journal.

        Raises:
            gfcache.CacheWriteError: of `write`; the journal is still there.
        """
        try:
            header = write()
        except gfcache.CacheWriteError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._is_ours():
                raise
            noted = self.path.read_bytes()
            self.remove()
            try:
                header = write()
            except BaseException:
                with contextlib.suppress(OSError):
                    handle = open_regular(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                    with os.fdopen(handle, "wb") as stream:
                        stream.write(noted)
                raise
        with contextlib.suppress(gfcache.CacheFormatError):
            self.remove()
        return header

    def is_there(self) -> bool:
        """Whether there is a journal, or what a killed writer of it left."""
        return os.path.lexists(self.path) or lock_path(self.path).exists()

    def remove(self) -> None:
        """The output is complete: the journal and what a killed writer of it left have done their part."""
        if self.path.is_symlink() or not self.is_there():
            return
        with gfcache.output_lock(self.path), contextlib.suppress(FileNotFoundError):
            if self._is_ours():
                self.path.unlink()


def tidy(output: Path) -> None:
    """Remove what a run that was killed when its output was complete has left: lock, journal, temporary files."""
    journal = Journal(output)
    if os.path.lexists(lock_path(output)) or journal.is_there():
        with contextlib.suppress(gfcache.CacheFormatError), gfcache.output_lock(output):
            journal.remove()


def save_journal(cache: Any, path: Path) -> None:
    """Write a note; a link that has its name by now is replaced, not followed."""
    cache.save(path, follow=False, index=False)


def reusable(path: Path, model: LanguageModel) -> DocumentCache | None:
    """A cache from which a prefill of this model may resume, bit for bit; None when absent, damaged or another's."""
    try:
        cache = open_cache(path, model)
    except (OSError, gfcache.CacheFormatError, GoldFinchError):
        return None
    return cache if numerics_difference(cache.numerics, model) is None else None
