"""Reading documents: text files and stdin, and a clear word about everything that is not text."""

from __future__ import annotations

import datetime
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .console import console
from .exits import CommandError

STDIN = "-"
FALLBACK_ENCODING = "cp1252"
# Share of control characters above which a file is not text.
MAX_CONTROL_SHARE = 0.02
_SAMPLE_BYTES = 1 << 16
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x08\x1b")


@dataclass(frozen=True)
class Document:
    """A document as read.

    Attributes:
        label: what to call it in messages.
        path: the file, or None for stdin.
        text: its characters.
        source: provenance for the cache file: name, path, sha256, bytes, modified_at.
    """

    label: str
    path: Path | None
    text: str
    source: dict[str, Any]


def read_document(name: str) -> Document:
    """Read a document.

    Args:
        name: a path, or "-" for stdin.

    Raises:
        FileNotFoundError, OSError: as the system says.
        CommandError: a directory, PDF, HTML or other non-text (exit 2).
    """
    if name == STDIN:
        data = sys.stdin.buffer.read()
        return Document("stdin", None, decode_text(data, "stdin"), _source("stdin", None, data, None))
    path = Path(name)
    if path.is_dir():
        raise CommandError(
            f"{name} is a directory, expected a text file", hint=f"name its files: {name.rstrip('/')}/*.txt"
        )
    data = path.read_bytes()
    modified = datetime.datetime.fromtimestamp(os.stat(path).st_mtime, datetime.UTC)
    return Document(name, path, decode_text(data, name), _source(path.name, path, data, modified))


def _source(name: str, path: Path | None, data: bytes, modified: datetime.datetime | None) -> dict[str, Any]:
    return {
        "name": name,
        "path": None if path is None else str(path.absolute()),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "modified_at": None if modified is None else modified.isoformat(timespec="seconds"),
    }


def decode_text(data: bytes, label: str) -> str:
    """Characters of a text file; UTF-8 (with or without a mark), UTF-16 with a mark, else a stated fallback.

    Raises:
        CommandError: PDF, HTML, or binary data.
    """
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"%PDF-"):
        raise CommandError(
            f"{label} is a PDF, expected plain text", hint="convert it first: pdftotext FILE.pdf FILE.txt"
        )
    lowered = start[:256].lower()
    if lowered.startswith((b"<!doctype html", b"<html")) or (
        lowered.startswith(b"<?xml") and b"<html" in data[:4096].lower()
    ):
        raise CommandError(
            f"{label} is HTML, expected plain text", hint="convert it first: pandoc -t plain FILE.html -o FILE.txt"
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise CommandError(f"{label} is not text: {error.reason}") from error
    sample = data[:_SAMPLE_BYTES]
    controls = sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in sample)
    if 0 in sample or controls > MAX_CONTROL_SHARE * len(sample):
        raise CommandError(f"{label} is binary data, expected plain text", hint="convert it to text first")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        console.warn(f"{label} is not UTF-8 (byte {error.start}); read as {FALLBACK_ENCODING}, unknown bytes replaced")
        return data.decode(FALLBACK_ENCODING, errors="replace")
