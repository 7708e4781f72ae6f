"""Which documents a batch takes: names, patterns, folders, lists; and where below an output folder each goes."""

from __future__ import annotations

import codecs
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from gfcache import layout
from gfcache.files.regular import open_regular

from goldfinch.errors import EmptyInput, FolderNamed, NothingFound, NotText, SourceError
from goldfinch.text.converters import may_be_converted
from goldfinch.text.documents import STDIN_LABEL, USUAL, Document, Reading, document_of_bytes, read_document
from goldfinch.text.encodings import looks_like_text
from goldfinch.text.inputs import MOST_DOCUMENT_BYTES, MOST_LIST_BYTES, read_named, read_stdin

from . import gitignore, patterns
from .selection import Selection

STDIN = "-"
_PATTERN_CHARACTERS = frozenset("*?[")
# How the file CACHEDIR.TAG begins.
_CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"
# Of a list of documents.
MOST_LISTED = 1_000_000


@dataclass(frozen=True)
class Source:
    """A document to read.

    Attributes:
        name: path, or "-" for stdin.
        folder: relative folder that an output folder mirrors; "." for none.
        obstacle: why a folder could not be walked: then it fails in its turn, and the others do not.
        reading: how it becomes text.
        is_found: in a folder, not named by itself: one that holds no text is passed over.
    """

    name: str
    folder: str = "."
    obstacle: OSError | None = None
    reading: Reading = USUAL
    is_found: bool = False

    def is_passed_over(self, error: Exception) -> bool:
        """Whether an error of `read` means that there is no text, in a file that nobody named."""
        return self.is_found and isinstance(error, NotText | EmptyInput)

    def read(self) -> Document:
        """The document.

        Raises:
            OSError, NotText: the obstacle; the errors of `read_document`.
            EmptyInput: it holds nothing but white space.
        """
        if self.obstacle is not None:
            raise self.obstacle
        if self.name == STDIN:
            document = document_of_bytes(read_stdin(MOST_DOCUMENT_BYTES), STDIN_LABEL, reading=self.reading)
        else:
            document = read_document(self.name, self.reading)
        return with_text(document)


def with_text(document: Document) -> Document:
    """The document.

    Raises:
        EmptyInput: it holds nothing but white space.
    """
    if not document.text.strip():
        raise EmptyInput(f"{document.label} is empty: there is nothing to read")
    return document


@dataclass
class Sources:
    """What was found.

    Attributes:
        documents: each once, in order.
        skipped: files found in folders that are not text, or are empty.
        left_out: files and folders found in folders that are hidden, caches, ignored by git, or links that lead out.
        remarks: what a reader of messages should know.
    """

    documents: list[Source]
    skipped: list[str]
    left_out: int = 0
    remarks: list[str] = field(default_factory=list)


def find_sources(
    names: Sequence[str],
    recursive: bool = False,
    files_from: str | None = None,
    null: bool = False,
    reading: Reading = USUAL,
    only: Selection | None = None,
) -> Sources:
    """The documents that the arguments name.

    Args:
        names: files, patterns, and folders when `recursive`.
        files_from: a file that lists names, one per line; "-" for stdin.
        null: names in that list end in NUL, as `find -print0` gives them.
        reading: how all of them become text.
        only: which files of folders are meant.

    Raises:
        SourceError: an empty name, stdin twice, a list of too many names.
        InputRefused: a list that is a device, or too large.
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
            _walk(Path(name), found, only)
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
    found.documents = [replace(source, reading=reading) for source in first.values()]
    if not found.documents and not (recursive and found.skipped):
        raise NothingFound(found.left_out, only is not None)
    return found


def shard_of(sources: Sources, index: int, count: int) -> Sources:
    """Every `count`-th document from the `index`-th (from 1) on: what one of several machines takes of a call."""
    return replace(sources, documents=sources.documents[index - 1 :: count])


def _matches(pattern: str) -> list[str]:
    """The files that fit a pattern, each under its shortest name: links to folders may lead to it several times."""
    found: dict[str, str] = {}
    for name in sorted(set(patterns.fitting(pattern)), key=lambda name: (len(name), name)):
        if os.path.isfile(name):
            found.setdefault(os.path.realpath(name), name)
    if not found:
        raise FileNotFoundError(2, "no such file, and no file matches it as a pattern", pattern)
    return sorted(found.values())


def _listed(name: str, null: bool) -> Iterator[Source]:
    """Documents of a list; a relative name keeps its folder in an output folder."""
    data = read_stdin(MOST_LIST_BYTES) if name == STDIN else read_named(Path(name), MOST_LIST_BYTES)
    data = data.removeprefix(codecs.BOM_UTF8)
    if not null and b"\0" in data:
        raise SourceError(
            f"{name} lists names that end in NUL", hint=f"-0 reads such a list: --files-from {shlex.quote(name)} -0"
        )
    count = 0
    for found in re.finditer(rb"[^\0]+" if null else rb"[^\n]+", data):
        text = os.fsdecode(found[0] if null else found[0].rstrip(b"\r"))
        if not text:
            continue
        count += 1
        if count > MOST_LISTED:
            raise SourceError(f"{name} lists more than {MOST_LISTED:,} documents, the most that one run takes")
        yield Source(text, relative_folder(text))


def relative_folder(name: str | PurePath) -> str:
    """The folder of a relative name, "." for one that would lead out of an output folder."""
    folder = PurePath(name).parent
    return "." if folder.is_absolute() or ".." in folder.parts else str(folder)


def _walk(root: Path, found: Sources, only: Selection | None) -> None:
    """Text files below a folder: no hidden or ignored ones, no caches, nothing that links lead to outside of it.

    Folders that a program has tagged as its cache (bford.info/cachedir) are left out, but for the one that was named.

    Links to folders are not followed at all. A folder whose ignore file cannot be used fails: what it was to leave out
    may be secret.
    """
    compiled = gitignore.Compiled()
    try:
        top = gitignore.patterns_above(root, found.remarks.append, compiled)
    except OSError as error:
        found.documents.append(Source(str(root), obstacle=error))
        return
    to_do = [(root, top)]
    while to_do:
        folder, above = to_do.pop()
        try:
            ignored = gitignore.read_patterns(folder, found.remarks.append, compiled, above)
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda e: e.name)
        except OSError as error:
            found.documents.append(Source(str(folder), obstacle=error))
            continue
        below = []
        for entry in entries:
            path = folder / entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            wanted = not (entry.name.startswith(".") or entry.name.endswith(layout.SUFFIX))
            wanted = wanted and not gitignore.is_ignored(path.absolute(), is_folder, ignored)
            wanted = wanted and (only is None or only.takes(path.relative_to(root), is_folder))
            wanted = wanted and not (is_folder and _is_tagged(path))
            if not wanted or (entry.is_symlink() and not _leads_to_wanted(path, root, top, compiled)):
                found.left_out += 1
            elif is_folder:
                below.append((path, ignored))
            elif entry.is_file() and _is_text(path):
                found.documents.append(Source(str(path), str(path.parent.relative_to(root)), is_found=True))
            elif entry.is_file():
                found.skipped.append(str(path))
        to_do += reversed(below)


def _is_tagged(folder: Path) -> bool:
    """Whether a folder is tagged as the cache of a program."""
    try:
        with os.fdopen(open_regular(folder / "CACHEDIR.TAG"), "rb") as stream:
            return stream.read(len(_CACHE_TAG)) == _CACHE_TAG
    except OSError:
        return False


def _leads_to_wanted(link: Path, root: Path, ignored: list[gitignore.IgnoreFile], compiled: gitignore.Compiled) -> bool:
    """Whether a link stays in the folder that was named, and leads to nothing that is left out there.

    Args:
        ignored: the ignore files above that folder.
    """
    parts = PurePath(os.path.relpath(os.path.realpath(link), os.path.realpath(root))).parts
    if any(part.startswith(".") for part in parts) or (parts and parts[-1].endswith(layout.SUFFIX)):
        return False
    place = root.absolute()
    for i, part in enumerate(parts):
        try:
            ignored = gitignore.read_patterns(place, compiled=compiled, above=ignored)
        except OSError:  # what it was to leave out may be secret
            return False
        place /= part
        if gitignore.is_ignored(place, i < len(parts) - 1, ignored):
            return False
    return True


def _is_text(path: Path) -> bool:
    """Whether a file found in a folder is meant: what is not text there is no failure."""
    try:
        with os.fdopen(open_regular(path, follow=True), "rb") as stream:
            start = stream.read(4096)
    except OSError:
        return True  # fails when it is read, and is named then
    return looks_like_text(start) or may_be_converted(start)
