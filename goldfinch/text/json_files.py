"""JSON files of foreign origin: small enough, without what readers of JSON take in different ways."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

from gfcache.files.regular import read_regular

from .kinds import in_place_of

# Of a path, in characters; of a name in it, in bytes, with what temporary names need besides.
MOST_PATH, MOST_PART = 2048, 200
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def read_json(path: Path, most_bytes: int) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: larger than `most_bytes`, not JSON in UTF-8, nested without end, a name twice in one object, or a
            number that is not finite.
    """
    return parse_json(read_regular(path, most_bytes))


def parse_json(data: bytes) -> Any:
    """The value of a JSON text; errors as of `read_json`."""
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(in_place_of(data, "JSON") or f"it is not UTF-8 (byte {error.start:,})") from error
    except json.JSONDecodeError as error:
        where = f"it is not JSON (line {error.lineno:,}, column {error.colno:,})"
        raise ValueError(in_place_of(data, "JSON") or where) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"it has {twice!r:.60} twice in one object")
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text:.40}, which is more than a number can be")
    return value


def is_text(value: object, most_characters: int) -> bool:
    """Whether a value of foreign JSON is a text that can be stored and shown: not too long, no half of a pair."""
    return (
        isinstance(value, str) and len(value) <= most_characters and not any("\ud800" <= c <= "\udfff" for c in value)
    )


def is_path(value: object) -> bool:
    """Whether a value of a foreign file is a path that a file system takes: no NUL, neither it nor a part too long."""
    return (
        is_text(value, MOST_PATH)
        and "\0" not in str(value)
        and all(len(part.encode()) <= MOST_PART for part in PurePath(str(value)).parts)
    )


def is_count(value: object, below: int) -> bool:
    """Whether a value of foreign JSON is a whole number from 0 to `below` - 1; true and false are not numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below
