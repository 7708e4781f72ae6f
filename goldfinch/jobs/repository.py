"""Where git keeps ignore patterns besides .gitignore: `info/exclude` of a repository, the user's `core.excludesFile`.

Nothing is run: the files of git's configuration are read, each up to a limit; `[include]` in them is not followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from gfcache.files.places import expanded, folder_is_users, home_folder
from gfcache.files.regular import read_regular

GIT = ".git"
# Of a file of git's configuration, and of the files that say where a repository is.
MOST_CONFIGURATION, MOST_POINTER = 1 << 20, 4096
_SECTION = re.compile(r"\[\s*([\w.-]+)\s*(\"[^\"]*\")?\s*\]")


def ignore_files(folder: Path) -> Iterator[Path]:
    """The ignore files that hold in a repository besides .gitignore, from the weakest to the strongest.

    Args:
        folder: a working tree's root: it has an entry `.git`.
    """
    git = _git_folder(folder)
    if git is None:
        return
    chosen = _excludes_file(git)
    if chosen is not None:
        yield folder / chosen
    yield git / "info" / "exclude"


def _git_folder(folder: Path) -> Path | None:
    """The folder of a repository's own files, that of the main working tree for a linked one; None for none of ours."""
    git = folder / GIT
    if not git.is_dir():
        words = _first_line(git)
        if not words.startswith("gitdir:"):
            return None
        git = folder / words.removeprefix("gitdir:").strip()
        git = git / (_first_line(git / "commondir") or ".")
    return git if folder_is_users(git) else None


def _first_line(path: Path) -> str:
    try:
        return os.fsdecode(read_regular(path, MOST_POINTER)).partition("\n")[0]
    except OSError:
        return ""


def _excludes_file(git: Path) -> Path | None:
    """The file that core.excludesFile names, as the last of the configuration's files says it, else git's default."""
    home, given = home_folder(), os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(given) if os.path.isabs(given) else None if home is None else home / ".config"
    files = [Path("/etc/gitconfig")]
    if os.environ.get("GIT_CONFIG_GLOBAL") is not None:
        files += [Path(os.environ["GIT_CONFIG_GLOBAL"])]
    else:
        files += [] if base is None else [base / "git" / "config"]
        files += [] if home is None else [home / ".gitconfig"]
    for file in reversed([*files, git / "config"]):
        value = _value(file, "core", "excludesfile")
        if value is not None:
            try:
                return expanded(value) if value else None
            except FileNotFoundError:
                return None
    return None if base is None else base / "git" / "ignore"


def _value(file: Path, section: str, name: str) -> str | None:
    """The last value of a name in a file of git's configuration; None where there is none."""
    try:
        text = read_regular(file, MOST_CONFIGURATION).decode("utf-8-sig", "surrogateescape")
    except OSError:
        return None
    found, inside = None, False
    for line in text.replace("\\\n", "").split("\n"):
        line = line.strip()
        heading = _SECTION.match(line)
        if heading is not None:
            inside = heading[1].lower() == section and heading[2] is None
            line = line[heading.end() :].strip()
        key, equals, value = line.partition("=")
        if inside and equals and key.strip().lower() == name:
            found = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    """A value without its comment, quotes and escapes."""
    out, quoted, escaped = "", False, False
    for c in value:
        if escaped:
            out, escaped = out + {"n": "\n", "t": "\t", "b": "\b"}.get(c, c), False
        elif c == "\\":
            escaped = True
        elif c == '"':
            quoted = not quoted
        elif c in "#;" and not quoted:
            break
        else:
            out += c
    return out.strip()
