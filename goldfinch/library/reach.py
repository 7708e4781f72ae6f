"""Where a command may read the sources and bases that cache files name: anybody may have written such a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import gfcache
from gfcache import Header

from .known import MADE, how_known


class Reach:
    """The folders that a command was pointed at, and the current one.

    A source, or a base whose digest is not compared, is read below one of them, no hidden folder or file between;
    beside its cache; and wherever a run of this user's has read it itself.

    Args:
        names: files and folders of the command line.
    """

    def __init__(self, names: Iterable[Path | str] = ()) -> None:
        places = [".", *names]
        real = [os.path.realpath(place) for place in places]
        self._folders = [Path(place if os.path.isdir(place) else os.path.dirname(place)) for place in real]

    def allows(self, source: Path | str, cache: Path, header: Header) -> bool:
        """Whether a source or a base may be read; a link counts as what it leads to."""
        if "\0" in str(source):
            return True  # the name of no file
        real = Path(os.path.realpath(source))
        beside = Path(os.path.realpath(os.path.abspath(cache))).parent
        return any(_is_below(real, folder) for folder in (*self._folders, beside)) or how_known(header.digest) == MADE

    def chain(self, cache: Path) -> tuple[list[Path], Path | None]:
        """A cache, its base, the base of that, and so on, as far as they can be read; and one that may not be, or None.

        Bases are those that lie there now, whatever their digests.
        """
        found = [cache]
        with contextlib.suppress(OSError, gfcache.CacheFormatError):
            while True:
                with gfcache.read_cache(found[-1]) as file:
                    header = file.header
                base = base_place(found[-1], header)
                if base is None or any(base.samefile(other) for other in found):
                    break
                if not self.allows(base, found[-1], header):
                    return found, base
                found.append(base)
        return found, None


def base_place(path: Path, header: Header) -> Path | None:
    """Where the base of a cache lies now; None when it has none, or it is gone."""
    if header.parent is None:
        return None
    places = (path.parent / header.parent["path"], path.parent / Path(header.parent["name"]).name)
    return next((p for p in places if os.path.exists(p)), None)


def _is_below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
