"""Reading documents: text, and a clear word about everything that is not text. No torch."""

from __future__ import annotations

import codecs
import datetime
import hashlib
import os
import shlex
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldfinch.errors import NotText

from .inputs import MOST_DOCUMENT_BYTES, read_named

FALLBACK_ENCODING = "cp1252"
# What stdin is called in messages and caches.
STDIN_LABEL = "stdin"
# Marks at the beginning of a file. Those of UTF-32 come first: one of them begins with one of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Share of control characters above which a file is not text.
MAX_CONTROL_SHARE = 0.02
# A file that changes while it is read is read again so often, at this distance.
READ_ATTEMPTS = 5
READ_AGAIN_S = 0.05
_SAMPLE_BYTES = 1 << 16
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x08\x1b")


@dataclass(frozen=True)
class Document:
    """A document as read.

    Attributes:
        label: what to call it in messages.
        path: the file, or None for text that came another way.
        text: its characters.
        source: provenance for the cache file: name, path, sha256, bytes, modified_at.
        remark: what a reader of messages should know (encoding, a file that kept changing), or None.
    """

    label: str
    path: Path | None
    text: str
    source: dict[str, Any]
    remark: str | None = None


def read_document(name: str | os.PathLike[str]) -> Document:
    """Read a document from a file.

    A file that changes meanwhile is read again; one that never rests is taken as it was at the last reading.

    Raises:
        FileNotFoundError, OSError: as the system says.
        NotText: a directory, PDF, HTML or binary data.
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
    modified = datetime.datetime.fromtimestamp(before.st_mtime, datetime.UTC)
    document = document_of_bytes(data, label, path, modified)
    if settled:
        return document
    remark = f"{label} changed while it was read: taken as it was, {len(data):,} bytes"
    return Document(label, path, document.text, document.source, remark)


def document_of_bytes(
    data: bytes, label: str, path: Path | None = None, modified: datetime.datetime | None = None
) -> Document:
    """A document from its bytes; see `read_document`."""
    text, remark = decode_text(data, label)
    source = {
        "name": label if path is None else storable_name(path.name),
        "path": None if path is None else storable_name(place_of(path)),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "modified_at": None if modified is None else modified.isoformat(timespec="seconds"),
    }
    return Document(label, path, text, source, remark)


def storable_name(name: str) -> str:
    """A file name as a cache file can hold it: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def place_of(name: str | os.PathLike[str]) -> str:
    """The absolute path of a file without `..`; links to folders stay in it where `..` does not lead out of one."""
    path = Path(name)
    place = os.path.abspath(path)
    is_same = ".." not in path.parts or (os.path.exists(place) and os.path.samefile(place, path))
    return place if is_same else os.path.realpath(path)


def _convert(command: str, label: str) -> str:
    """A command that makes text of a file, or of stdin, with the names to paste."""
    names = ("-", "-") if label == STDIN_LABEL else (label, str(Path(label).with_suffix(".txt")))
    return "convert it first: " + command.format(*map(shlex.quote, names))


def decode_text(data: bytes, label: str) -> tuple[str, str | None]:
    """Characters of a text file, and a remark.

    UTF-8 (with or without a mark), UTF-16 and UTF-32 with a mark, else a fallback.

    Raises:
        NotText: PDF, HTML, or binary data.
    """
    if is_pdf(data):
        raise NotText(f"{label} is a PDF, expected plain text", hint=_convert("pdftotext {} {}", label))
    if is_html(data):
        raise NotText(f"{label} is HTML, expected plain text", hint=_convert("pandoc -t plain {} -o {}", label))
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    if encoding is not None:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            raise NotText(f"{label} is not text: {error.reason}") from error
        if "\0" in text:
            raise NotText(f"{label} is binary data, expected plain text", hint="convert it to text first")
        return text, None
    if is_binary(data):
        raise NotText(f"{label} is binary data, expected plain text", hint="convert it to text first")
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        remark = f"{label} is not UTF-8 (byte {error.start}); read as {FALLBACK_ENCODING}, unknown bytes replaced"
        return data.decode(FALLBACK_ENCODING, errors="replace"), remark


def is_pdf(data: bytes) -> bool:
    """Whether a file that begins so is a PDF."""
    return _start(data).startswith(b"%PDF-")


def is_html(data: bytes) -> bool:
    """Whether a file that begins so is HTML."""
    lowered = _start(data)[:256].lower()
    is_xhtml = lowered.startswith(b"<?xml") and b"<html" in data[:4096].lower()
    return is_xhtml or lowered.startswith((b"<!doctype html", b"<html"))


def _start(data: bytes) -> bytes:
    return data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")


def is_binary(data: bytes) -> bool:
    """Whether the beginning of a file looks like anything but text."""
    sample = data[:_SAMPLE_BYTES]
    controls = sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in sample)
    return 0 in sample or controls > MAX_CONTROL_SHARE * len(sample)
