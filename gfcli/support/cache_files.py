"""Cache files that a command names, and those below the folders that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gfcache import layout

from .exits import CommandError


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
            found += sorted(p for p in path.rglob(f"*{layout.SUFFIX}") if p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(2, "no such file or folder", name)
    if not found:
        raise CommandError(f"no cache files in {', '.join(names)}", hint="gf prefill doc.txt makes one")
    return list(dict.fromkeys(found))
