"""What was measured, a row for each document and method, in a file of JSON lines that a later run goes on from.

A row is known by its key: model, numerics, method, task, length, seed, document, data. The file may have been damaged,
or made by anybody: a line that is no row is passed over, counted and said, and is gone when the file is written next.
The file is written whole or not at all, under the lock of its name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gfcache.files.replace import replacing_output

from goldfinch.text.inputs import read_named
from goldfinch.text.json_files import is_count, is_text, parse_json

# Of what is computed for a row: another one, and rows of before are not taken for those of now.
VERSION = 2
# Of the file, of a line, of a text in it, and of numbers.
MOST_FILE_BYTES, MOST_LINE_BYTES, MOST_TEXT = 1 << 28, 1 << 16, 300
MOST_QUESTIONS, MOST_COUNT = 1000, 1 << 48
MOST_SECONDS, MOST_BITS = 1e7, 1e3


@dataclass(frozen=True)
class Key:
    """What a row is of.

    Attributes:
        model, tokenizer, template: fingerprints.
        numerics: device, dtype, backend, threads and library, as JSON.
        method, settings: as `Method` has them.
        task: its name; form of documents and questions is that of this version.
        tokens: the length that was asked for.
        seed, document: of the documents.
        data: fingerprint of what documents are made of.
        version: of gf, and VERSION.
    """

    model: str
    tokenizer: str
    template: str
    numerics: str
    method: str
    settings: str
    task: str
    tokens: int
    seed: int
    document: int
    data: str
    version: str

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Row:
    """A document, asked with one method.

    Attributes:
        key: what it is of.
        length: T, tokens of the cache.
        scores: of each question, 0 to 1, or bits per token.
        depths: where each answer stands, 0 to 1; None where no place is meant.
        answer_tokens: of each answer.
        bytes: of the file by part: rows, states, ids, index, rest.
        prefill_s: seconds of the pre-fill, which all methods of the document share.
        making_s: of making the method's file of it.
        load_s: of opening that file.
        first_token_s: from the open file to the first token of the first answer.
        decode_tok_s: tokens of answers a second, behind the first; None where too few were decoded.
        peak_bytes: largest memory while the file was open; None where the system does not tell.
        spent_s: seconds that the row took, the pre-fill counted in the first row of a document.
    """

    key: Key
    length: int
    scores: tuple[float, ...]
    depths: tuple[float | None, ...]
    answer_tokens: tuple[int, ...]
    bytes: Mapping[str, int]
    prefill_s: float
    making_s: float
    load_s: float
    first_token_s: float
    decode_tok_s: float | None
    peak_bytes: int | None
    spent_s: float

    def line(self) -> str:
        """As a line of the file, without its end."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps(values | {"key": asdict(self.key), "digest": self.key.digest}, sort_keys=True)


PARTS = ("rows", "states", "ids", "index", "rest")
_TEXTS = ("model", "tokenizer", "template", "numerics", "method", "settings", "task", "data", "version")
_SECONDS = ("prefill_s", "making_s", "load_s", "first_token_s", "spent_s")
_FIELDS = {field.name for field in dataclasses.fields(Row)} | {"digest"}


def row_of(line: bytes) -> Row:
    """The row in a line.

    Raises:
        ValueError: it is none, and why.
    """
    if len(line) > MOST_LINE_BYTES:
        raise ValueError(f"it has {len(line):,} bytes, allowed: {MOST_LINE_BYTES:,}")
    values = parse_json(line)
    if not isinstance(values, dict) or set(values) != _FIELDS:
        raise ValueError("it is no row of a comparison")
    key = _key_of(values["key"])
    if values["digest"] != key.digest:
        raise ValueError("its digest is not that of its key")
    scores, depths, counts = (values[name] for name in ("scores", "depths", "answer_tokens"))
    many = all(isinstance(one, list) and 1 <= len(one) <= MOST_QUESTIONS for one in (scores, depths, counts))
    _demand(
        many and len(scores) == len(depths) == len(counts), "scores, depths and answer_tokens are not of one length"
    )
    _demand(all(_is_number(one, MOST_BITS) for one in scores), "a score is none")
    _demand(all(one is None or _is_number(one, 1.0) for one in depths), "a depth is not between 0 and 1")
    _demand(all(is_count(one, MOST_COUNT) for one in counts), "a number of tokens is none")
    sizes = values["bytes"]
    _demand(isinstance(sizes, dict) and set(sizes) == set(PARTS), f"bytes are not of {', '.join(PARTS)}")
    _demand(all(is_count(one, MOST_COUNT) for one in sizes.values()), "a number of bytes is none")
    _demand(is_count(values["length"], MOST_COUNT) and values["length"] > 0, "its length is none")
    _demand(all(_is_number(values[name], MOST_SECONDS) for name in _SECONDS), "a number of seconds is none")
    rate, peak = values["decode_tok_s"], values["peak_bytes"]
    _demand(rate is None or _is_number(rate, MOST_COUNT), "decode_tok_s is no rate")
    _demand(peak is None or is_count(peak, MOST_COUNT), "peak_bytes is none")
    floats = {name: float(values[name]) for name in _SECONDS}
    return Row(
        key, values["length"], tuple(map(float, scores)), tuple(None if one is None else float(one) for one in depths),
        tuple(counts), sizes, decode_tok_s=None if rate is None else float(rate), peak_bytes=peak, **floats,
    )  # fmt: skip


def _key_of(values: Any) -> Key:
    names = {field.name for field in dataclasses.fields(Key)}
    _demand(isinstance(values, dict) and set(values) == names, "its key is none")
    _demand(all(is_text(values[name], MOST_TEXT) for name in _TEXTS), "a text of its key is none, or too long")
    _demand(all(is_count(values[name], MOST_COUNT) for name in ("tokens", "seed", "document")), "a count is none")
    return Key(**values)


def _is_number(value: object, most: float) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= most
    )


def _demand(holds: bool, words: str) -> None:
    if not holds:
        raise ValueError(words)


class Rows:
    """The rows of a file, and those that come.

    Args:
        path: of the file, which need not be there.

    Attributes:
        passed_over: lines that are no rows: (number of the line, why).

    Raises:
        InputRefused: it is no regular file, or too large.
        OSError: as the system says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Row] = {}
        self.passed_over: list[tuple[int, str]] = []
        for number, line in enumerate(self._lines(), 1):
            try:
                row = row_of(line)
            except ValueError as error:
                self.passed_over.append((number, str(error)))
            else:
                self._found.setdefault(row.key.digest, row)

    def _lines(self) -> list[bytes]:
        try:
            data = read_named(self._path, MOST_FILE_BYTES)
        except FileNotFoundError:
            return []
        return [line for line in data.split(b"\n") if line.strip()]

    def get(self, key: Key) -> Row | None:
        """The row of a key, if it is there."""
        return self._found.get(key.digest)

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows, and write the file.

        Raises:
            gfcache.CacheLocked: another process writes it now.
            gfcache.CacheWriteError: it cannot be written.
        """
        self._found |= {row.key.digest: row for row in rows}
        data = "".join(f"{row.line()}\n" for row in self._found.values()).encode()
        with replacing_output(self._path, mode=None, needed_bytes=len(data)) as stream:
            stream.write(data)
