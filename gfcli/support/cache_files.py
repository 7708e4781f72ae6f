"""Cache files that a command names, and those below the folders that it names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gfcache import layout

from goldfinch.jobs.patterns import files_below, fitting

from .exits import NOT_FOUND, CommandError


def find_caches(names: Sequence[str]) -> list[Path]:
    """Cache files: those named, and all `*.gfc` below the folders named, sorted.

    Raises:
        FileNotFoundError: a name that does not exist.
        CommandError: nothing found.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found += files_below(path, layout.SUFFIX)
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(2, "no such file or folder", name)
    if not found:
        raise CommandError(f"no cache files in {', '.join(names)}", hint="gf prefill doc.txt makes one")
    return list(dict.fromkeys(found))


def expand(names: Sequence[str]) -> list[str]:
    """Files of names and patterns, each once, in the order given.

    Raises:
        CommandError: a pattern that no file matches (exit 4).
    """
    found: list[str] = []
    for pattern in names:
        matches = [pattern] if os.path.exists(pattern) else sorted(set(fitting(pattern)))
        if not matches:
            raise CommandError(f"no such file, and no file matches the pattern {pattern!r}", code=NOT_FOUND)
        found += matches
    return list(dict.fromkeys(found))


def are_several(names: Sequence[str]) -> bool:
    """Whether names of cache files mean several, however many a pattern fits today."""
    return len(names) > 1 or any(not os.path.lexists(name) and set("*?[") & set(name) for name in names)
