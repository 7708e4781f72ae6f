"""Which files below a folder git would ignore: the patterns of gitignore(5), in the standard library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = ".gitignore"


@dataclass(frozen=True)
class Pattern:
    """One line of an ignore file.

    Attributes:
        folder: where the file lies; paths are matched relative to it.
        regex: over a relative path with slashes.
        negated: a match takes files in again.
        only_folders: the line ends in a slash.
    """

    folder: Path
    regex: re.Pattern[str]
    negated: bool
    only_folders: bool


def read_patterns(folder: Path) -> list[Pattern]:
    """The patterns of a folder's own ignore file, in order; none when there is no readable one."""
    try:
        text = (folder / FILE_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = (_pattern(folder, line) for line in text.splitlines())
    return [pattern for pattern in found if pattern is not None]


def patterns_above(folder: Path) -> list[Pattern]:
    """The patterns of the folders above one, down from the root of the repository that it lies in; none outside one."""
    folder = folder.absolute()
    if (folder / ".git").exists():
        return []
    chain: list[Path] = []
    for parent in folder.parents:
        chain.append(parent)
        if (parent / ".git").exists():
            return [pattern for above in reversed(chain) for pattern in read_patterns(above)]
    return []


def is_ignored(path: Path, is_folder: bool, patterns: list[Pattern]) -> bool:
    """Whether the last pattern that fits a path ignores it.

    Args:
        path: absolute; the folders above it are not ignored.
        patterns: from the outermost ignore file to the innermost.
    """
    for pattern in reversed(patterns):
        if pattern.only_folders and not is_folder:
            continue
        try:
            relative = path.relative_to(pattern.folder).as_posix()
        except ValueError:
            continue
        if pattern.regex.fullmatch(relative):
            return not pattern.negated
    return False


def _pattern(folder: Path, line: str) -> Pattern | None:
    line = re.sub(r"(?<!\\) +$", "", line)
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[1:] if negated else line
    only_folders = line.endswith("/")
    line = line.rstrip("/")
    if not line:
        return None
    anchored = "/" in line
    body = _translated(line.lstrip("/"))
    regex = body if anchored else f"(?:.*/)?{body}"
    try:
        return Pattern(folder.absolute(), re.compile(regex, re.DOTALL), negated, only_folders)
    except re.error:
        return None


def _translated(text: str) -> str:
    """A glob as a regular expression: `*` and `?` stop at slashes, `**` between slashes crosses them."""
    out, i = "", 0
    while i < len(text):
        if text.startswith("**/", i) and (i == 0 or text[i - 1] == "/"):
            out, i = out + "(?:.*/)?", i + 3
        elif text.startswith("**", i) and i + 2 == len(text) and i and text[i - 1] == "/":
            out, i = out + ".*", i + 2
        elif text[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif text[i] == "?":
            out, i = out + "[^/]", i + 1
        elif text[i] == "[" and (end := text.find("]", i + 2)) > 0:
            inner = text[i + 1 : end].replace("\\", "\\\\")
            out += f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
            i = end + 1
        elif text[i] == "\\" and i + 1 < len(text):
            out, i = out + re.escape(text[i + 1]), i + 2
        else:
            out, i = out + re.escape(text[i]), i + 1
    return out
