"""Which documents a batch takes: names, patterns, folders, lists; and where below an output folder each goes."""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from gfcache import layout

from goldfinch.errors import EmptyInput, FolderNamed, NothingFound, SourceError
from goldfinch.text.documents import (
    MARKS,
    STDIN_LABEL,
    Document,
    document_of_bytes,
    is_binary,
    is_html,
    is_pdf,
    read_document,
)

from . import gitignore

STDIN = "-"
_PATTERN_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class Source:
    """A document to read.

    Attributes:
        name: path, or "-" for stdin.
        folder: relative folder that an output folder mirrors; "." for none.
        obstacle: why a folder could not be walked: then it fails in its turn, and the others do not.
    """

    name: str
    folder: str = "."
    obstacle: OSError | None = None

    def read(self) -> Document:
        """The document.

        Raises:
            OSError, NotText: the obstacle; the errors of `read_document`.
            EmptyInput: it holds nothing but white space.
        """
        if self.obstacle is not None:
            raise self.obstacle
        if self.name == STDIN:
            document = document_of_bytes(sys.stdin.buffer.read(), STDIN_LABEL)
        else:
            document = read_document(self.name)
        if not document.text.strip():
            raise EmptyInput(f"{document.label} is empty: there is nothing to read")
        return document


@dataclass
class Sources:
    """What was found.

    Attributes:
        documents: each once, in order.
        skipped: files found in folders that are not text, or are empty.
        left_out: files and folders found in folders that are hidden, caches, or ignored by git.
    """

    documents: list[Source]
    skipped: list[str]
    left_out: int = 0


def find_sources(
    names: Sequence[str], recursive: bool = False, files_from: str | None = None, null: bool = False
) -> Sources:
    """The documents that the arguments name.

    Args:
        names: files, patterns, and folders when `recursive`.
        files_from: a file that lists names, one per line; "-" for stdin.
        null: names in that list end in NUL, as `find -print0` gives them.

    Raises:
        SourceError: an empty name, stdin twice.
        FolderNamed: a folder, without `recursive`.
        NothingFound: no document.
        FileNotFoundError: a pattern that nothing fits, a list that is not there.
    """
    found = Sources([], [])
    for name in names:
        if not name:
            raise SourceError("a document with an empty name")
        if name == STDIN:
            found.documents.append(Source(name))
        elif os.path.isdir(name):
            if not recursive:
                raise FolderNamed(name)
            _walk(Path(name), found)
        elif not os.path.lexists(name) and _PATTERN_CHARACTERS & set(name):
            found.documents += [Source(match) for match in _matches(name)]
        else:
            found.documents.append(Source(name))
    if files_from is not None:
        found.documents += list(_listed(files_from, null))
    first: dict[str, Source] = {}
    for source in found.documents:
        first.setdefault(source.name if source.name == STDIN else os.path.abspath(source.name), source)
    if sum(name == STDIN for name in (*names, files_from)) > 1:
        raise SourceError("- (stdin) is named more than once")
    found.documents = list(first.values())
    if not found.documents and not (recursive and found.skipped):
        raise NothingFound(found.left_out)
    return found


def _matches(pattern: str) -> list[str]:
    """The files that fit a pattern, each under its shortest name: links to folders may lead to it several times."""
    found: dict[str, str] = {}
    for name in sorted(glob.glob(pattern, recursive=True), key=lambda name: (len(name), name)):
        if os.path.isfile(name):
            found.setdefault(os.path.realpath(name), name)
    if not found:
        raise FileNotFoundError(2, "no such file, and no file matches it as a pattern", pattern)
    return sorted(found.values())


def _listed(name: str, null: bool) -> Iterator[Source]:
    """Documents of a list; a relative name keeps its folder in an output folder."""
    data = (sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()).removeprefix(codecs.BOM_UTF8)
    for raw in data.split(b"\0" if null else b"\n"):
        text = os.fsdecode(raw if null else raw.rstrip(b"\r"))
        if text:
            yield Source(text, relative_folder(text))


def relative_folder(name: str | PurePath) -> str:
    """The folder of a relative name, "." for one that would lead out of an output folder."""
    folder = PurePath(name).parent
    return "." if folder.is_absolute() or ".." in folder.parts else str(folder)


def _walk(root: Path, found: Sources) -> None:
    """Text files below a folder: no hidden or ignored ones, no caches. Links to folders are not followed."""

    def enter(folder: Path, patterns: list[gitignore.IgnoreFile]) -> None:
        patterns = patterns + gitignore.read_patterns(folder)
        try:
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda e: e.name)
        except OSError as error:
            found.documents.append(Source(str(folder), obstacle=error))
            return
        for entry in entries:
            path = folder / entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            hidden = entry.name.startswith(".") or entry.name.endswith(layout.SUFFIX)
            if hidden or gitignore.is_ignored(path.absolute(), is_folder, patterns):
                found.left_out += 1
                continue
            if is_folder:
                enter(path, patterns)
            elif entry.is_file() and _is_text(path):
                found.documents.append(Source(str(path), str(path.parent.relative_to(root))))
            elif entry.is_file():
                found.skipped.append(str(path))

    enter(root, gitignore.patterns_above(root))


def _is_text(path: Path) -> bool:
    """Whether a file found in a folder is meant: what is not text there is no failure."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(4096)
    except OSError:
        return True  # fails when it is read, and is named then
    is_marked = start.startswith(tuple(MARKS))
    return bool(start.strip()) and not is_pdf(start) and not is_html(start) and (is_marked or not is_binary(start))
