"""The folder of a store: its places, its files on disk, its lock. What lies in it and why is in store.py."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gfcache import layout
from gfcache.errors import CacheLocked, CacheWriteError
from gfcache.files.locks import acquire, output_lock
from gfcache.files.places import folder_of, user_folder

TAG_FILE = "CACHEDIR.TAG"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder holds caches of gf and can be made again. See https://bford.info/cachedir/\n"
)
LOCK_WAIT_S = 30.0
REMNANT_AGE_S = 3600.0


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

    def path_of(self, *key: str) -> Path:
        """The file of a key (any texts that name the cache)."""
        name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:40]
        return self.folder / name[:2] / f"{name}{layout.SUFFIX}"

    def name(self, path: Path) -> str:
        """The name of a file of this store."""
        return path.relative_to(self.folder).as_posix()

    def make_folders(self, path: Path) -> None:
        """Make the folders that a file needs, and the tag that keeps backups away.

        Raises:
            CacheWriteError: they cannot be made.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            tag = self.root / TAG_FILE
            if not tag.exists():
                tag.write_text(TAG_TEXT)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise CacheWriteError(path, error) from error

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """(name, stat) of every file in the fanned-out folders whose name is text."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as folders:
            for folder in folders:
                if len(folder.name) != 2 or not folder.is_dir(follow_symlinks=False):
                    continue
                with contextlib.suppress(OSError), os.scandir(folder.path) as found:
                    for file in found:
                        with contextlib.suppress(FileNotFoundError):
                            if file.name.isprintable() and file.is_file(follow_symlinks=False):
                                yield f"{folder.name}/{file.name}", file.stat(follow_symlinks=False)

    def used_bytes(self) -> int:
        """Bytes of all cache files, unfinished ones included; the index is not counted."""
        return sum(stat.st_size for _, stat in self.files())

    def remnants(self, older_than_s: float = REMNANT_AGE_S) -> list[tuple[str, int]]:
        """(name, bytes) of files that runs cut short have left, oldest first: journals and temporary files."""
        limit = time.time() - older_than_s
        found = [(s.st_mtime, n, s.st_size) for n, s in self.files() if not is_cache(n) and not n.endswith(".lock")]
        return [(name, size) for at, name, size in sorted(found) if at <= limit]

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

    def unlink(self, output: Path, names: Sequence[str]) -> bool:
        """Remove files that belong to an output; False when somebody writes it now.

        Raises:
            CacheWriteError: the system does not let them be removed.
        """
        try:
            with output_lock(output):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.folder / name)
        except CacheLocked:
            return False
        except OSError as error:
            raise CacheWriteError(output, error) from error
        return True

    def output_of(self, remnant: str) -> Path:
        """The cache file that a journal or temporary file belongs to."""
        folder, _, base = remnant.rpartition("/")
        return self.folder / folder / (base.lstrip(".").split(layout.SUFFIX)[0] + layout.SUFFIX)


def is_cache(name: str) -> bool:
    """Whether a file of a store is a finished cache."""
    base = name.rpartition("/")[2]
    return base.endswith(layout.SUFFIX) and not base.startswith(".")
