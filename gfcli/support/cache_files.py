"""Cache files that a command names, and those below the folders that it names."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from gfcache import layout

from goldfinch.jobs.patterns import files_below, fitting

from .exits import CommandError
from .targets import cache_files_of, is_cache_file


def find_caches(names: Sequence[str], *, library: bool = False) -> list[Path]:
    """Cache files: those named or that fit patterns, and all `*.gfc` below the folders named, sorted.

    Args:
        library: take the names of documents, and IDs, for what the library has of them.

    Raises:
        FileNotFoundError: a name that does not exist, a pattern that no file matches.
        CommandError: nothing found; a file that is not a cache.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found += files_below(path, layout.SUFFIX)
            continue
        fits = sorted(set(fitting(name))) if _is_pattern(name) else []
        if fits:  # of a pattern like caches/*, what is a cache is meant
            found += [Path(fit) for fit in fits if is_cache_file(fit) and not os.path.isdir(fit)]
            continue
        paths = [Path(other) for other in cache_files_of([name])] if library else [path]
        if not paths[0].exists():
            raise _missing(name)
        if not is_cache_file(str(paths[0])):
            raise CommandError(f"{name} is not a cache file", hint=f"gf prefill {shlex.quote(name)} makes one of it")
        found += paths
    if not found:
        raise CommandError(f"no cache files in {', '.join(names)}", hint="gf prefill doc.txt makes one")
    return list(dict.fromkeys(found))


def expand(names: Sequence[str]) -> list[str]:
    """Cache files of names, patterns and folders, or of what has such a name in the library, each once, in their order.

    Raises:
        FileNotFoundError: a name that does not exist, a pattern that no file matches.
    """
    found: list[str] = []
    for pattern in names:
        if os.path.isdir(pattern):
            matches = [str(path) for path in files_below(Path(pattern), layout.SUFFIX)] or [pattern]
        else:
            matches = [pattern] if os.path.exists(pattern) else sorted(set(fitting(pattern)))
        matches = matches or [name for name in cache_files_of([pattern]) if name != pattern]
        if not matches:
            raise _missing(pattern)
        found += matches
    return list(dict.fromkeys(found))


def files_named(names: Sequence[str]) -> list[str]:
    """As `cache_files_of`, with patterns and folders: what fits none, or means nothing, fails where it is opened."""
    found: list[str] = []
    for name in names:
        if os.path.isdir(name):
            found += [str(path) for path in files_below(Path(name), layout.SUFFIX)] or [name]
            continue
        found += (sorted(set(fitting(name))) if _is_pattern(name) else []) or cache_files_of([name])
    return list(dict.fromkeys(found))


def are_several(names: Sequence[str]) -> bool:
    """Whether names of cache files mean several, however many a pattern fits today."""
    return len(names) > 1 or any(_is_pattern(name) or os.path.isdir(name) for name in names)


def _missing(name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _is_pattern(name: str) -> bool:
    return not os.path.lexists(name) and bool(set("*?[") & set(name))
