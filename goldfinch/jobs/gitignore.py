"""Which files below a folder git would ignore: the patterns of gitignore(5), each file's by `pathspec`."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gfcache.files.places import folder_is_users, home_folder
from gfcache.files.regular import TooLarge, read_regular
from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

FILE_NAME = ".gitignore"
# Of an ignore file, which anybody may have written: each of its patterns is tried on each path.
MOST_BYTES, MOST_PATTERNS, MOST_CHARACTERS = 1 << 20, 4000, 1000
# As pathspec writes them: `*` in a segment, and `**` between segments.
_STAR, _STARS = "[^/]*", "(?:/.+)?"
_FIRST_STARS = "^(?:.+/)?"
# A `*`, what stands between it and the next one in its segment: characters, escaped ones, sets.
_TO_NEXT_STAR = re.compile(
    rf"{re.escape(_STAR)}((?:(?!{re.escape(_STAR)})(?:\\.|\[\^?\]?[^\]]*\]|[^\\\[\]()/$]))+)(?={re.escape(_STAR)})"
)
# An escaped character, which is left alone, or a set.
_SET = re.compile(r"\\.|\[\^?\]?[^\]]*\]", re.DOTALL)


class _Pattern(GitIgnoreSpecPattern):
    """A line of an ignore file, which anybody may have written: no stars of it are slow, no sets match a /."""

    __slots__ = ()

    @classmethod
    def pattern_to_regex(cls, pattern: str | bytes) -> tuple[str | None, bool | None]:  # type: ignore[override]
        regex, include = super().pattern_to_regex(pattern)
        return (None if regex is None else _within_segments(_first_match_only(str(regex)))), include


def _within_segments(regex: str) -> str:
    """The same without slashes in sets, which git does not match there."""
    return _SET.sub(lambda found: f"(?!/){found[0]}" if found[0][0] == "[" and found[0] != "[^/]" else found[0], regex)


def _first_match_only(regex: str) -> str:
    """The same language, without trying all the ways in which several stars may share a path.

    What stands between two stars may be taken where it first occurs: the star behind it takes what is left.
    """
    regex = re.sub(rf"(?:{re.escape(_STAR)})+", lambda _: _STAR, regex)
    regex = _TO_NEXT_STAR.sub(r"(?>[^/]*?\1)", regex)
    first, *rest = regex.split(_STARS)
    if not rest:
        return regex
    if first.startswith(_FIRST_STARS):
        first = f"^(?>(?:.+?/)??{first.removeprefix(_FIRST_STARS)}(?=/))"
    *between, last = rest
    return first + "".join(f"(?>(?:/.+?)??{part}(?=/))" for part in between) + _STARS + last


@dataclass(frozen=True)
class IgnoreFile:
    """The patterns of one ignore file, and the folder that they are relative to."""

    folder: Path
    spec: GitIgnoreSpec


def read_patterns(folder: Path, remark: Callable[[str], object] = lambda _: None) -> list[IgnoreFile]:
    """A folder's own ignore file; none when there is none. A line that is no pattern ignores nothing.

    Args:
        remark: takes what a reader of messages should know: a link is not followed, as git does not.

    Raises:
        OSError: it cannot be used: no rights, no regular file, larger than the limits.
    """
    path = folder / FILE_NAME
    if path.is_symlink():
        remark(f"{path} is a link: it is not followed, as git does not")
        return []
    try:
        text = read_regular(path, MOST_BYTES, follow=False).decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) > MOST_PATTERNS:
        raise TooLarge(errno.EFBIG, f"more than {MOST_PATTERNS:,} patterns, the most that is read here", str(path))
    patterns = []
    for line in lines:
        if len(line) > MOST_CHARACTERS:
            longest = f"a pattern of {len(line):,} characters, the most is {MOST_CHARACTERS:,}"
            raise TooLarge(errno.EFBIG, longest, str(path))
        try:
            patterns.append(_Pattern(line))
        except (ValueError, re.error):
            continue
    return [IgnoreFile(folder.absolute(), GitIgnoreSpec(patterns))]


def patterns_above(folder: Path, remark: Callable[[str], object]) -> list[IgnoreFile]:
    """The ignore files above a folder, down from the root of the repository that it lies in; none outside one.

    As with git, a repository counts only while its folders are the user's: above them, and above the home folder,
    anybody may have put files. Arguments and errors as of `read_patterns`.
    """
    folder = folder.absolute()
    home = home_folder()
    chain: list[Path] = []
    for place in (folder, *folder.parents):
        if not folder_is_users(place):
            return []
        if place != folder:
            chain.append(place)
        if os.path.lexists(place / ".git"):
            return [found for above in reversed(chain) for found in read_patterns(above, remark)]
        if place == home:
            return []
    return []


def is_ignored(path: Path, is_folder: bool, files: Sequence[IgnoreFile]) -> bool:
    """Whether the last pattern that fits a path ignores it.

    Args:
        path: absolute; the folders above it are not ignored.
        files: from the outermost ignore file to the innermost.
    """
    for file in reversed(files):
        try:
            relative = path.relative_to(file.folder).as_posix()
        except ValueError:
            continue
        found = file.spec.check_file(relative + "/" * is_folder).include
        if found is not None:
            return found
    return False
