"""The folder of a store: its places, its files on disk, its lock. What lies in it and why is in store.py.

Whoever removes files has to know whose they are. The folder bears a mark that is made with it; without the mark nothing
is written or removed in it. A file in it is ours when its name is one that `path_of` gives, or that a writer of it
leaves, and when it begins as a cache does, or is held by our lock. Links are never followed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gfcache import layout
from gfcache.errors import CacheLocked, CacheWriteError
from gfcache.files.locks import acquire, is_free, output_lock
from gfcache.files.places import folder_of, make_private, user_folder
from gfcache.files.regular import open_regular, starts_with
from gfcache.format.lenders import kept_place

from .removal import FOREIGN, LOCKED

TAG_FILE = "CACHEDIR.TAG"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder holds caches of gf and can be made again. See https://bford.info/cachedir/\n"
)
LOCK_WAIT_S = 30.0
REMNANT_AGE_S = 3600.0
INDEX_FILE, WORDS_FILE, BLOCKS_FILE = "index.sqlite3", "words.sqlite3", "blocks.sqlite3"
_PRIVATE_FOLDER = 0o700
# Digits of a key: those of the folder, and all of the file.
_FOLDER, _KEY = re.compile(r"[0-9a-f]{2}"), r"[0-9a-f]{40}"
_SUFFIX = re.escape(layout.SUFFIX)
_CACHE = re.compile(rf"({_KEY}){_SUFFIX}")
_JOURNAL = re.compile(rf"\.({_KEY}){_SUFFIX}\.journal")
_TEMPORARY = re.compile(rf"\.{{1,2}}({_KEY}){_SUFFIX}(?:\.journal)?\.(?:gf-\d+-)?\w{{4,16}}\.tmp")
_LOCK = re.compile(rf"\.{{1,2}}({_KEY}){_SUFFIX}(?:\.journal)?\.lock")
# What lies beside the folders of caches.
_FILES = "|".join(map(re.escape, (INDEX_FILE, WORDS_FILE, BLOCKS_FILE)))
_BESIDE = re.compile(rf"\.lock|({_FILES})(-journal|-wal|-shm|\.set-aside)?|{re.escape(TAG_FILE)}")


def default_root() -> Path:
    """GF_CACHE_DIR, or gf in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    return folder_of("GF_CACHE_DIR") or user_folder("cache", "gf")


class StoreFolder:
    """The files of a store.

    Args:
        root: its folder; `default_root()` by default. Made when first written to.

    Attributes:
        folder: where the caches are: ROOT/library.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_root() if root is None else Path(root)
        self.folder = self.root / "library"
        self._is_ours = False

    def path_of(self, *key: str) -> Path:
        """The file of a key (any texts that name the cache)."""
        name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:40]
        return self.folder / name[:2] / f"{name}{layout.SUFFIX}"

    def name(self, path: Path) -> str:
        """The name of a file of this store."""
        return path.relative_to(self.folder).as_posix()

    def make_folders(self, path: Path) -> None:
        """Make the folders that a file needs, and the mark, which also keeps backups away.

        Raises:
            CacheWriteError: they cannot be made, or the folder is not one of ours.
        """
        try:
            if _make_folder(self.root, parents=True):
                _write_mark(self.root)
            if _make_folder(self.folder) or (not self._has_mark() and self.is_ours()):
                _write_mark(self.folder)
            if not self.is_ours():
                raise CacheWriteError(self.folder, OSError(errno.EEXIST, NOT_OURS))
            _make_folder(path.parent)
        except OSError as error:
            raise CacheWriteError(path, error) from error

    def is_ours(self) -> bool:
        """Whether gf made the folder of the caches: it bears the mark, or holds nothing but what gf puts there."""
        self._is_ours = self._is_ours or self._has_mark() or self._holds_ours_alone()
        return self._is_ours

    def _has_mark(self) -> bool:
        try:
            if not stat.S_ISDIR(os.lstat(self.folder).st_mode):
                return False
            with os.fdopen(open_regular(self.folder / TAG_FILE), "rb") as stream:
                return stream.read(len(TAG_TEXT) + 1) == TAG_TEXT.encode()
        except OSError:
            return False

    def _holds_ours_alone(self) -> bool:
        """Of a library without the mark: that of an earlier version, or one that was copied without it."""
        try:
            if not stat.S_ISDIR(os.lstat(self.folder).st_mode):
                return False
            with os.scandir(self.folder) as found:
                entries = [(entry, entry.is_dir(follow_symlinks=False)) for entry in found]
            folders = [entry.path for entry, is_folder in entries if is_folder and _FOLDER.fullmatch(entry.name)]
            beside = [e for e, is_folder in entries if not is_folder and e.is_file(follow_symlinks=False)]
            if len(folders) + len(beside) < len(entries) or not all(_BESIDE.fullmatch(entry.name) for entry in beside):
                return False
            return all(key_of(f"{os.path.basename(f)}/{name}") for f in folders for name in os.listdir(f))
        except OSError:
            return False

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """(name, stat) of every file in the fanned-out folders that has a name of ours."""
        if self.folder.is_symlink():
            return
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as folders:
            for folder in folders:
                if not _FOLDER.fullmatch(folder.name) or not folder.is_dir(follow_symlinks=False):
                    continue
                with contextlib.suppress(OSError), os.scandir(folder.path) as found:
                    for file in found:
                        name = f"{folder.name}/{file.name}"
                        with contextlib.suppress(FileNotFoundError):
                            if key_of(name) and file.is_file(follow_symlinks=False):
                                yield name, file.stat(follow_symlinks=False)

    def used_bytes(self) -> int:
        """Bytes of all cache files, unfinished ones included; the index is not counted."""
        return sum(stat.st_size for _, stat in self.files())

    def remnants(self, older_than_s: float = REMNANT_AGE_S) -> list[tuple[str, int]]:
        """(name, bytes) of files that runs cut short have left, oldest first: journals, temporary files, locks.

        Args:
            older_than_s: of journals, from which a run may still be resumed, and where no lock tells that the writer
                has gone.
        """
        limit = time.time() - older_than_s
        found = sorted((s.st_mtime, n, s.st_size) for n, s in self.files() if not is_cache(n))
        return [(name, size) for at, name, size in found if at <= limit or self._writer_has_gone(name)]

    def _writer_has_gone(self, remnant: str) -> bool:
        """Whether the lock of the output of a temporary file or lock is nobody's; a journal is kept without one."""
        return not _JOURNAL.fullmatch(remnant.rpartition("/")[2]) and is_free(self.output_of(remnant))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store: nobody else makes room or writes meanwhile.

        Raises:
            CacheLocked: not within LOCK_WAIT_S.
            CacheWriteError: the folder cannot be written to.
        """
        path = self.folder / ".lock"
        self.make_folders(path)
        try:
            handle = acquire(path, LOCK_WAIT_S)
        except BlockingIOError as error:
            raise CacheLocked(path) from error
        except OSError as error:
            raise CacheWriteError(path, error) from error
        try:
            yield
        finally:
            os.close(handle)

    def set_aside(self, path: Path, digest: str) -> Path | None:
        """Give a cache that is about to be replaced the name of its digest; None where that is there.

        Raises:
            CacheWriteError: it cannot be.
        """
        place = kept_place(self.folder, digest)
        self.make_folders(place)
        try:
            os.link(path, place, follow_symlinks=False)  # pins and tags of the name that stays are not lost
        except FileExistsError:
            return None
        except OSError:  # no file here has two names
            try:
                os.replace(path, place)
            except OSError as error:
                raise CacheWriteError(place, error) from error
        return place

    @staticmethod
    def forgo(aside: Path | None, path: Path) -> None:
        """Drop the second name of a file that was not replaced."""
        with contextlib.suppress(OSError):
            if aside is not None and aside.samefile(path):
                os.unlink(aside)

    def unlink(self, output: Path, names: Sequence[str]) -> str | None:
        """Remove files that belong to an output; why not, when it is LOCKED or one of them FOREIGN: then none goes.

        Raises:
            CacheWriteError: the system does not let them be removed.
        """
        if not self.is_ours():
            return FOREIGN
        try:
            with output_lock(output):
                folder = os.open(output.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    bases = [name.rpartition("/")[2] for name in names]
                    there = [base for base in bases if _is_there(base, folder)]
                    if not all(_is_own(base, folder) for base in there):
                        return FOREIGN
                    for base in there:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(base, dir_fd=folder)
                finally:
                    os.close(folder)
        except CacheLocked:
            return LOCKED
        except OSError as error:
            raise CacheWriteError(output, error) from error
        return None

    def is_locked(self, output: Path) -> bool:
        """Whether somebody else holds an output now, or it cannot be known."""
        try:
            with output_lock(output):
                return False
        except (CacheLocked, OSError):
            return True

    def output_of(self, remnant: str) -> Path:
        """The cache file that a journal, temporary file or lock belongs to."""
        return self.folder / remnant[:2] / f"{key_of(remnant)}{layout.SUFFIX}"


NOT_OURS = "this folder was not made by gf: nothing is written or removed in it; name another one with GF_CACHE_DIR"


def key_of(name: str) -> str | None:
    """The key of a file of a store by its name ("ab/ab12....gfc", or what writers of that leave); None for others."""
    folder, _, base = name.rpartition("/")
    for pattern in (_CACHE, _JOURNAL, _TEMPORARY, _LOCK):
        found = pattern.fullmatch(base)
        if found is not None and found[1][:2] == folder:
            return found[1]
    return None


def is_cache(name: str) -> bool:
    """Whether a file of a store is a finished cache."""
    return _CACHE.fullmatch(name.rpartition("/")[2]) is not None


def _is_there(base: str, folder: int) -> bool:
    try:
        os.stat(base, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_own(base: str, folder: int) -> bool:
    """Whether a file with such a name is ours: a cache by how it begins, what a writer left by its lock, held now."""
    if _CACHE.fullmatch(base) or _JOURNAL.fullmatch(base):
        return starts_with(base, layout.MAGIC, folder=folder)
    return stat.S_ISREG(os.stat(base, dir_fd=folder, follow_symlinks=False).st_mode)


def _make_folder(path: Path, *, parents: bool = False) -> bool:
    """Make a folder (mode 0700 whatever the umask) where there is none; whether it was made now."""
    if parents:
        make_private(path.parent)
    try:
        path.mkdir(mode=_PRIVATE_FOLDER)
    except FileExistsError:
        if not path.is_dir():
            raise
        return False
    path.chmod(_PRIVATE_FOLDER)
    return True


def _write_mark(folder: Path) -> None:
    """Mark a folder; what has that name stays, and a link is not followed."""
    try:
        handle = os.open(folder / TAG_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "wb") as stream:
        stream.write(TAG_TEXT.encode())
