"""The archives that office files are, and the XML in them: read in a stream, bounded. No torch."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Protocol
from xml.parsers import expat

from goldfinch.errors import NotText

from ..inputs import MOST_DOCUMENT_BYTES

MOST_MEMBERS = 1 << 16
# Of a member that is read as a tree, which takes up to two hundred times its bytes.
MOST_TREE_BYTES = 1 << 25
MOST_DEPTH = 1000
_DIRECTORY_ENTRY = b"PK\x01\x02"
_CHUNK_BYTES = 1 << 20


def open_archive(data: bytes, in_a_stream: tuple[str, ...] = ()) -> zipfile.ZipFile:
    """A ZIP archive that unpacks to no more than a document may have.

    Args:
        in_a_stream: beginnings of names of members that are read piece by piece; all others are small.

    Raises:
        NotText: it unpacks to more.
        zipfile.BadZipFile: it is none.
    """
    if data.count(_DIRECTORY_ENTRY) > MOST_MEMBERS:
        raise NotText(f"it has more than {MOST_MEMBERS:,} files in it")
    archive = zipfile.ZipFile(io.BytesIO(data))
    members = archive.infolist()
    if sum(member.file_size for member in members) > MOST_DOCUMENT_BYTES:
        raise NotText(f"it unpacks to more than {MOST_DOCUMENT_BYTES:,} bytes")
    for member in members:
        is_tree = member.filename.endswith((".xml", ".rels", ".xhtml", ".html", ".htm", ".opf", ".vml"))
        if is_tree and member.file_size > MOST_TREE_BYTES and not member.filename.startswith(in_a_stream or "\0"):
            raise NotText(
                f"it has a part of more than {MOST_TREE_BYTES:,} bytes, {posixpath.basename(member.filename)}"
            )
    return archive


class Listener(Protocol):
    """Hears what stands in an XML file. Names are without their namespace, but for the second of two that are equal."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def characters(self, text: str) -> None:
        """Text, in pieces."""


def hear(archive: zipfile.ZipFile, member: str, listener: Listener) -> None:
    """Tell a listener what stands in a member: nothing of it is kept, nothing that it names opened, no entity taken.

    Raises:
        KeyError: there is no such member.
        expat.ExpatError, ValueError, OSError, zipfile.BadZipFile: it is damaged.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(f"elements in more than {MOST_DEPTH} others")
        listener.start(_local(name), _named(attributes))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        listener.end(_local(name))

    def refuse(*declaration: object) -> None:
        raise ValueError("entities, which grow")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = listener.characters
    parser.EntityDeclHandler = refuse
    with archive.open(member) as stream:
        while piece := stream.read(_CHUNK_BYTES):
            parser.Parse(piece, False)
        parser.Parse(b"", True)


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _named(attributes: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in attributes.items():
        name = _local(key)
        found[key if name in found else name] = value
    return found


class _Collected:
    def __init__(self, name: str) -> None:
        self.name, self.found = name, list[dict[str, str]]()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == self.name:
            self.found.append(attributes)

    def end(self, name: str) -> None: ...

    def characters(self, text: str) -> None: ...


def elements(archive: zipfile.ZipFile, member: str, name: str) -> list[dict[str, str]]:
    """Attributes of the elements of a name in a member, in order; none where there is no such member."""
    if member not in archive.NameToInfo:
        return []
    collected = _Collected(name)
    hear(archive, member, collected)
    return collected.found


def related(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[str, str, str]]:
    """What a part of an Office Open XML file refers to inside of it: identifier, last word of the type, member."""
    folder, name = posixpath.split(part)
    for one in elements(archive, f"{folder}/_rels/{name}.rels", "Relationship"):
        if one.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", folder, one.get("Target", ""))).lstrip("/")
            yield one.get("Id", ""), one.get("Type", "").rpartition("/")[2], target
