"""Reading documents: text, and a clear word about everything that is not text. No torch."""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from goldfinch.errors import NotText

from .converters import converted
from .encodings import STDIN_LABEL, Decoded, decode
from .inputs import MOST_DOCUMENT_BYTES, read_named
from .prepare import SAID_FROM, prepare

__all__ = ["STDIN_LABEL", "Document", "Reading", "document_of_bytes", "place_of", "read_document", "storable_name"]

# A file that changes while it is read is read again so often, at this distance.
READ_ATTEMPTS = 5
READ_AGAIN_S = 0.05


@dataclass(frozen=True)
class Reading:
    """How the bytes of a file become the text that a model reads.

    Attributes:
        encoding, noted: as of `decode`.
        verbatim, skip_blobs: as of `prepare`.
    """

    encoding: str | None = None
    noted: str | None = None
    verbatim: bool = False
    skip_blobs: bool = False


USUAL = Reading()


@dataclass(frozen=True)
class Document:
    """A document as read.

    Attributes:
        label: what to call it in messages.
        path: the file, or None for text that came another way.
        text: its characters, as a model is to read them.
        source: provenance for the cache file: name, path, sha256, bytes, modified_at; encoding, where its bytes do not
            say that by themselves; prepared, where what `prepare` does has changed it.
        remark: what a reader of messages should know (encoding, a file that kept changing), or None.
    """

    label: str
    path: Path | None
    text: str
    source: dict[str, Any]
    remark: str | None = None


def read_document(name: str | os.PathLike[str], reading: Reading = USUAL) -> Document:
    """Read a document from a file.

    A file that changes meanwhile is read again; one that never rests is taken as it was at the last reading.

    Raises:
        FileNotFoundError, OSError: as the system says.
        NotText: a directory, or a file that is not plain text.
        InputRefused: see `read_named`.
    """
    path, label = Path(name), os.fspath(name)
    if path.is_dir():
        raise NotText(
            f"{label} is a directory, expected a text file", hint=f"all text files below it: gf prefill -r {label}"
        )
    for attempt in range(READ_ATTEMPTS):
        if attempt:
            time.sleep(READ_AGAIN_S)
        before = os.stat(path)
        data = read_named(path, MOST_DOCUMENT_BYTES)
        after = os.stat(path)
        settled = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if settled and len(data) == after.st_size:
            break
        if not stat.S_ISREG(after.st_mode):  # a pipe is read once
            settled = True
            break
    document = document_of_bytes(data, label, path, _time(before.st_mtime), reading)
    if settled:
        return document
    remark = f"{label} changed while it was read: taken as it was, {len(data):,} bytes"
    return replace(document, remark=f"{document.remark}; {remark}" if document.remark else remark)


def _time(seconds: float) -> datetime.datetime | None:
    """A time of a file; None for one that no calendar has."""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def document_of_bytes(
    data: bytes,
    label: str,
    path: Path | None = None,
    modified: datetime.datetime | None = None,
    reading: Reading = USUAL,
) -> Document:
    """A document from its bytes; see `read_document`."""
    made = converted(data, label, reading.encoding)
    decoded = decode(data, label, reading.encoding, reading.noted) if made is None else Decoded(made.text)
    prepared = prepare(decoded.text, verbatim=reading.verbatim, skip_blobs=reading.skip_blobs)
    source: dict[str, Any] = {
        "name": label if path is None else storable_name(path.name),
        "path": None if path is None else storable_name(place_of(path)),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "modified_at": None if modified is None else modified.isoformat(timespec="seconds"),
    }
    if decoded.encoding is not None:
        source["encoding"] = decoded.encoding
    notes = [note for note in (None if made is None else made.note, prepared.note) if note is not None]
    if notes:
        source["prepared"] = ", ".join(notes)
    remarks = [] if decoded.remark is None else [decoded.remark]
    if prepared.blobs >= SAID_FROM and not reading.skip_blobs:
        blobs = f"{label}: {prepared.blobs:,} of its {len(prepared.text):,} characters are an encoded blob"
        remarks.append(f"{blobs}, which takes tokens and answers nothing (--skip-blobs leaves it out)")
    return Document(label, path, prepared.text, source, "; ".join(remarks) or None)


def storable_name(name: str) -> str:
    """A file name as a cache file can hold it: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def place_of(name: str | os.PathLike[str]) -> str:
    """The absolute path of a file without `..`; links to folders stay in it where `..` does not lead out of one."""
    path = Path(name)
    place = os.path.abspath(path)
    is_same = ".." not in path.parts or (os.path.exists(place) and os.path.samefile(place, path))
    return place if is_same else os.path.realpath(path)
