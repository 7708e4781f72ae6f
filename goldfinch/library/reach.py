"""Where a command may read the sources that cache files name: anybody may have written such a file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gfcache import Header

from .known import MADE, how_known


class Reach:
    """The folders that a command was pointed at, and the current one.

    A source is read below one of them, no hidden folder or file between; beside its cache; and wherever a run of this
    user's has read it itself.

    Args:
        names: files and folders of the command line.
    """

    def __init__(self, names: Iterable[Path | str] = ()) -> None:
        places = [".", *names]
        real = [os.path.realpath(place) for place in places]
        self._folders = [Path(place if os.path.isdir(place) else os.path.dirname(place)) for place in real]

    def allows(self, source: Path | str, cache: Path, header: Header) -> bool:
        """Whether a source may be read; a link counts as what it leads to."""
        if "\0" in str(source):
            return True  # the name of no file
        real = Path(os.path.realpath(source))
        beside = Path(os.path.realpath(os.path.abspath(cache))).parent
        return any(_is_below(real, folder) for folder in (*self._folders, beside)) or how_known(header.digest) == MADE


def _is_below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
