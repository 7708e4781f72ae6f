"""Documents that a command names: files and stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from goldfinch.errors import EmptyInput
from goldfinch.text.documents import Document, decode_text
from goldfinch.text.documents import document_of_bytes as _of_bytes
from goldfinch.text.documents import read_document as _read

from .console import console

STDIN = "-"


def clean_text(text: str) -> str:
    """Text that was typed or piped in; bytes of it that are no UTF-8 came as surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def read_text(name: str) -> str:
    """The text of a file, or of stdin for "-", in any encoding that documents may have.

    Raises:
        OSError, NotText: see `read_document`.
    """
    data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    text, remark = decode_text(data, "stdin" if name == STDIN else name)
    if remark:
        console.warn(remark)
    return text


def read_document(name: str) -> Document:
    """Read a document; what is odd about it goes to stderr.

    Args:
        name: a path, or "-" for stdin.

    Raises:
        FileNotFoundError, OSError, NotText: see `goldfinch.documents.read_document`.
        EmptyInput: it holds nothing but white space.
    """
    document = _of_bytes(sys.stdin.buffer.read(), "stdin") if name == STDIN else _read(name)
    if document.remark:
        console.warn(document.remark)
    if not document.text.strip():
        raise EmptyInput(f"{document.label} is empty: there is nothing to read")
    return document
