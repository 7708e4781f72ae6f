"""Reading the training corpora (JSON Lines, zstandard) from the folder named by GF_DATA_DIR."""

from __future__ import annotations

import io
import itertools
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gfcache.files.places import expanded
from gfcache.files.regular import NotRegular, open_regular

from goldfinch.errors import CorpusDamaged, CorpusMissing, GoldFinchError

MAX_WINDOW_BYTES = 1 << 27
# Of one record; a few kilobytes of Zstandard can state a line without end.
MAX_LINE_BYTES = 1 << 28
# What fields hold wherever they stand.
_TEXTS = dict.fromkeys(("title", "text", "doc", "doc_id", "context", "question", "source", "file", "kind"), str)
FIELDS: dict[str, type] = {**_TEXTS, "para": int, "answers": list, "qas": list}
_NAMES = {str: "a text", int: "a whole number", list: "a list", dict: "an object", type(None): "null"}
HOLDS = (
    "its files are NAME.jsonl.zst, one object per line: corpus-wikipedia-00, corpus-wikipedia-01 and corpus-books with "
    "title and text, train_qa, train_qa_unanswerable and train_docqa with questions, and whatever else a recipe names "
    "under corpora; gf eval also asks about the documents of samples/questions.jsonl"
)
HINT = f"name its folder with --data or GF_DATA_DIR; {HOLDS}"


def data_directory(given: str | None = None) -> Path:
    """The corpora's folder: the argument, or GF_DATA_DIR.

    Raises:
        GoldFinchError: neither is set, or the folder is not there.
    """
    name = given or os.environ.get("GF_DATA_DIR")
    if not name:
        raise GoldFinchError("no training data given", hint=HINT)
    path = expanded(name)  # what sets a variable may not have been a shell
    if not path.is_dir():
        raise GoldFinchError(f"training data folder {name} does not exist", hint=HINT)
    return path


class _Record(dict[str, Any]):
    """A line of a corpus, which says where it stands when it lacks a field that is asked for."""

    def __init__(self, values: dict[str, Any], place: str) -> None:
        super().__init__(values)
        self._place = place

    def __missing__(self, field: str) -> Any:
        raise CorpusDamaged(f"{self._place}: the record has no {field!r}", hint=HINT)


def read_records(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The records of one .jsonl.zst file, at most `limit`; lines with nothing but white space are passed over.

    Raises:
        CorpusMissing: it is not there.
        CorpusDamaged: it is cut short, no Zstandard, or a line is no record: with file and line. A record raises it,
            too, when a field is asked for that it lacks.
    """
    import zstandard

    try:
        raw = os.fdopen(open_regular(path, follow=True), "rb")
    except FileNotFoundError as error:
        raise CorpusMissing(f"{path}: no such corpus", hint=HINT) from error
    except NotRegular as error:
        raise CorpusDamaged(f"{path}: {error.strerror}", hint=HINT) from error
    found = 0
    with raw:
        lines = io.BufferedReader(_Frames(raw))
        for number in itertools.count(1):
            if found == limit:
                return
            try:
                line = lines.readline(MAX_LINE_BYTES + 1)
            except zstandard.ZstdError as error:
                raise CorpusDamaged(f"{path}: {error}, behind line {number - 1:,}", hint=HINT) from error
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                raise CorpusDamaged(f"{path}: line {number:,} has more than {MAX_LINE_BYTES:,} bytes", hint=HINT)
            if line.strip():
                found += 1
                yield record_of(line, f"{path}: line {number:,}")


# What is decompressed at a time: four bytes of Zstandard may stand for 128 KB.
_PIECE_BYTES = 1 << 6


class _Frames(io.RawIOBase):
    """What the Zstandard frames in a stream hold, one after the other. Unlike the reader of the library, it does not
    take a last frame that is cut short for a whole one.

    Raises:
        zstandard.ZstdError: while it is read: no Zstandard, or cut short.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._left = raw, b""
        self._frame: Any = None
        self._made = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._made and self._decompress():
            pass
        count = min(len(buffer), len(self._made))
        buffer[:count], self._made = self._made[:count], self._made[count:]
        return count

    def _decompress(self) -> bool:
        """The next piece; whether there was one."""
        import zstandard

        piece, self._left = self._left or self._raw.read(_PIECE_BYTES), b""
        if not piece:
            if self._frame is not None:
                raise zstandard.ZstdError("the file was cut short")
            return False
        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
        self._made = memoryview(self._frame.decompress(piece))
        if self._frame.eof:
            self._left, self._frame = self._frame.unused_data, None
        return True


def record_of(line: bytes, place: str) -> dict[str, Any]:
    """The record in a line of a corpus.

    Args:
        place: of the line, for errors.

    Raises:
        CorpusDamaged: it is none, or a field in it is not what that field holds.
    """
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise CorpusDamaged(f"{place}: not UTF-8, at byte {error.start}", hint=HINT) from error
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else "; it has no end: the file may have been cut short"
        raise CorpusDamaged(f"{place}: no JSON: {error}{cut}", hint=HINT) from error
    if not isinstance(values, dict):
        raise CorpusDamaged(f"{place}: {type(values).__name__}, expected an object", hint=HINT)
    return _checked(values, place)


def _checked(values: dict[str, Any], place: str) -> _Record:
    for field in FIELDS.keys() & values.keys():
        _demand(values[field], FIELDS[field], f"{place}: {field!r}")
    for answer in values.get("answers", ()):
        _demand(answer, str, f"{place}: one of the 'answers'")
    for qa in values.get("qas", ()):
        _demand(qa, dict, f"{place}: one of the 'qas'")
    return _Record(
        values | {"qas": [_checked(qa, place) for qa in values["qas"]]} if "qas" in values else values, place
    )


def _demand(value: Any, kind: type, what: str) -> None:
    if not isinstance(value, kind):
        found = _NAMES.get(type(value), type(value).__name__)
        raise CorpusDamaged(f"{what} is {found}, expected {_NAMES[kind]}", hint=HINT)


def is_held_out_document(key: str) -> bool:
    """One document in fifty, by a hash of its title or id, is kept for evaluation."""
    return zlib.crc32(("document:" + key).encode()) % 50 == 0


def is_for_choosing(key: str) -> bool:
    """One of the other documents in sixty is kept from training with a pointer, to choose among its weights by."""
    return zlib.crc32(("choosing:" + key).encode()) % 60 == 0
