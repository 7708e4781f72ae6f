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

from . import repository

FILE_NAME = ".gitignore"
# Of an ignore file, which anybody may have written: each of its patterns is tried on each path.
MOST_BYTES, MOST_PATTERNS, MOST_CHARACTERS = 1 << 20, 4000, 1000
# Of all ignore files of a walk: different patterns, their characters (a thousand are compiled in some 10 ms), and
# patterns that hold for one folder.
MOST_DIFFERENT, MOST_COMPILED, MOST_ABOVE = 20_000, 2 << 20, 8000
_MOST_KEPT = 256
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


class Compiled:
    """The patterns of one walk, each compiled once however many files have it, and no more of them than a limit.

    Attributes:
        files: those read last, by folder: many links may lead to one.
        repositories: what holds in each repository besides .gitignore, by the root of its working tree.
    """

    def __init__(self) -> None:
        self.files: dict[Path, IgnoreFile] = {}
        self.repositories: dict[Path, list[IgnoreFile]] = {}
        self._patterns: dict[str, _Pattern | None] = {}
        self._characters = 0

    def keep(self, file: IgnoreFile) -> None:
        """Keep a file in place of the one that was read first."""
        self.files[file.folder] = file
        if len(self.files) > _MOST_KEPT:
            del self.files[next(iter(self.files))]

    def pattern(self, line: str) -> _Pattern | None:
        """The pattern of a line; None for one that is none.

        Raises:
            TooLarge: it is one too many.
        """
        if line not in self._patterns:
            self._characters += len(line)
            if len(self._patterns) >= MOST_DIFFERENT or self._characters > MOST_COMPILED:
                reason = f"with those before, more than {MOST_DIFFERENT:,} patterns or {MOST_COMPILED:,} characters"
                raise TooLarge(errno.EFBIG, reason)
            try:
                self._patterns[line] = _Pattern(line)
            except (ValueError, re.error):
                self._patterns[line] = None
        return self._patterns[line]


def read_patterns(
    folder: Path,
    remark: Callable[[str], object] = lambda _: None,
    compiled: Compiled | None = None,
    above: Sequence[IgnoreFile] = (),
) -> list[IgnoreFile]:
    """The ignore files that hold in a folder: those above, and its own. A line that is no pattern ignores nothing.

    In the root of a repository these are also `info/exclude` and the user's `core.excludesFile`.

    Args:
        remark: takes what a reader of messages should know: a link is not followed, as git does not.
        compiled: the patterns of the walk so far.
        above: the ignore files of the folders above.

    Raises:
        OSError: it cannot be used: no rights, no regular file, larger than the limits.
    """
    path = folder / FILE_NAME
    compiled = Compiled() if compiled is None else compiled
    above = [*above, *_of_repository(folder, compiled)]
    if path.is_symlink():
        remark(f"{path} is a link: it is not followed, as git does not")
        return list(above)
    own = compiled.files.get(folder.absolute())
    if own is None:
        try:
            own = _read(path, folder, compiled, follow=False)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return list(above)
        compiled.keep(own)
    held = sum(len(file.spec.patterns) for file in (*above, own))
    if held > MOST_ABOVE:
        many = f"with those of the folders above, {held:,} patterns hold here, the most is {MOST_ABOVE:,}"
        raise TooLarge(errno.EFBIG, many, str(path))
    return [*above, own]


def _of_repository(folder: Path, compiled: Compiled) -> list[IgnoreFile]:
    """What git ignores in a repository besides .gitignore, where a folder is the root of one."""
    place = folder.absolute()
    if place in compiled.repositories or not os.path.lexists(place / repository.GIT) or not folder_is_users(place):
        return compiled.repositories.get(place, [])
    found = compiled.repositories[place] = []
    for path in repository.ignore_files(place):
        try:
            found.append(_read(path, place, compiled, follow=True))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return found


def _read(path: Path, folder: Path, compiled: Compiled, *, follow: bool) -> IgnoreFile:
    """The patterns of an ignore file.

    Args:
        folder: that they are relative to.
        follow: links.

    Raises:
        OSError: as of `read_patterns`.
    """
    text = read_regular(path, MOST_BYTES, follow=follow).decode("utf-8-sig", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) > MOST_PATTERNS:
        raise TooLarge(errno.EFBIG, f"more than {MOST_PATTERNS:,} patterns, the most that is read here", str(path))
    patterns = list[_Pattern]()
    for line in lines:
        if len(line) > MOST_CHARACTERS:
            longest = f"a pattern of {len(line):,} characters, the most is {MOST_CHARACTERS:,}"
            raise TooLarge(errno.EFBIG, longest, str(path))
        try:
            pattern = compiled.pattern(line)
        except TooLarge as error:
            raise TooLarge(errno.EFBIG, error.strerror, str(path)) from error
        if pattern is not None:
            patterns.append(pattern)
    return IgnoreFile(folder.absolute(), GitIgnoreSpec(patterns))


def patterns_above(folder: Path, remark: Callable[[str], object], compiled: Compiled | None = None) -> list[IgnoreFile]:
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
            found = list[IgnoreFile]()
            for above in reversed(chain):
                found = read_patterns(above, remark, compiled, found)
            return found
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
