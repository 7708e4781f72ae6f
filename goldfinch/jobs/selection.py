"""Which files of a folder a call wants: patterns as in .gitignore, relative to the folder that was named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from pathspec import GitIgnoreSpec

from goldfinch.errors import SourceError


@dataclass(frozen=True)
class Selection:
    """Patterns of one call.

    Attributes:
        left_out: files and folders that fit are not read.
        wanted: other files than those that fit are not read; None for all.
    """

    left_out: GitIgnoreSpec
    wanted: GitIgnoreSpec | None = None

    def takes(self, relative: PurePath, is_folder: bool) -> bool:
        """Whether a file is wanted, or a folder is to be looked into."""
        name = relative.as_posix()
        if self.left_out.match_file(name + "/" * is_folder):
            return False
        return is_folder or self.wanted is None or self.wanted.match_file(name)


def selection(exclude: Sequence[str] = (), include: Sequence[str] = (), extensions: Sequence[str] = ()) -> Selection:
    """The selection of patterns and of endings of names ("md" or ".md").

    Raises:
        SourceError: an empty pattern, or none that can be understood.
    """
    for ending in extensions:
        if not ending.strip("."):
            raise _refused(ending)
    wanted = [*include, *(f"*.{ending.removeprefix('.')}" for ending in extensions)]
    return Selection(_compiled(exclude), _compiled(wanted) if wanted else None)


def _compiled(patterns: Sequence[str]) -> GitIgnoreSpec:
    for pattern in patterns:
        if not pattern.strip() or pattern.startswith("#"):
            raise _refused(pattern)
        try:
            GitIgnoreSpec.from_lines([pattern])
        except ValueError as error:
            raise _refused(pattern) from error
    return GitIgnoreSpec.from_lines(patterns)


def _refused(pattern: str) -> SourceError:
    return SourceError(f"{pattern!r} is no pattern", hint="patterns are those of .gitignore: --exclude 'drafts/'")
