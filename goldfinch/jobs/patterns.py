"""Files that fit a pattern, or lie below a folder; no link to a folder is walked through. No torch.

`glob` of the standard library follows them in `**`: two links of a folder to itself make it try 2^40 paths.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

_ANY_FOLDERS = "**"


def fitting(pattern: str) -> Iterator[str]:
    """Paths that fit a pattern of `*`, `?`, `[]` and `**`; as in a shell, nothing hidden that it does not spell.

    A path may come several times. Links are followed where the pattern has a part for them: all but in `**`, which also
    finds no link that leads out of the folder that it begins in, as a whole folder has none.
    """
    head, found, tail = _parted(pattern)
    if not found:
        yield from glob.iglob(pattern)
        return
    for base in glob.iglob(head) if head else [""]:
        real = os.path.realpath(base or ".")
        for path in _below(base, tail):
            if Path(os.path.realpath(path)).is_relative_to(real):
                yield path


def _below(base: str, tail: str) -> Iterator[str]:
    """What fits the rest of a pattern in a folder or any below it."""
    for folder in _folders(base or "."):
        # The names that a pattern without "./" gives have none either.
        below = os.path.join(base, os.path.relpath(folder, base or ".")) if folder != (base or ".") else base
        if tail:
            yield from fitting(os.path.join(glob.escape(below), tail))
        else:
            if below:
                yield below
            yield from glob.iglob(os.path.join(glob.escape(below), "*"))


def _parted(pattern: str) -> tuple[str, bool, str]:
    """What comes before the first `**` between slashes, whether there is one, and what comes after it."""
    parts = pattern.split(os.sep)
    if _ANY_FOLDERS not in parts:
        return pattern, False, ""
    at = parts.index(_ANY_FOLDERS)
    rest = parts[at:]
    while rest and rest[0] in (_ANY_FOLDERS, ""):  # several of them are as one
        del rest[0]
    head = os.sep.join(parts[:at])
    return head or (os.sep if pattern.startswith(os.sep) else ""), True, os.sep.join(rest)


def _folders(root: str) -> Iterator[str]:
    """A folder and those below it, hidden ones and links left out, without recursion: there may be thousands deep."""
    to_do = [root]
    while to_do:
        folder = to_do.pop()
        try:
            with os.scandir(folder) as found:
                below = [e.path for e in found if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        yield folder
        to_do += sorted(below, reverse=True)


def files_below(folder: Path, suffix: str) -> list[Path]:
    """Regular files of a suffix below a folder, sorted; hidden ones, too. No link that leads out of it counts."""
    found, to_do, real = list[Path](), [str(folder)], os.path.realpath(folder)
    while to_do:
        try:
            with os.scandir(to_do.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        to_do.append(entry.path)
                    elif entry.name.endswith(suffix) and entry.is_file():
                        place = os.path.realpath(entry.path) if entry.is_symlink() else None
                        if place is None or Path(place).is_relative_to(real):
                            found.append(Path(entry.path))
        except OSError:
            continue
    return sorted(found)
