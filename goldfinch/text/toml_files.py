"""TOML files of foreign origin: small, with lines that the parser takes in reasonable time and memory."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from gfcache.files.regular import read_regular

# The parser's time and memory grow with the square of a line of dotted keys: 200 KB of them take 40 GB.
MOST_LINE = 1_000


def read_toml(path: Path, most_bytes: int) -> dict[str, Any]:
    """The values of a TOML file; a link is followed.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger than `most_bytes`.
        ValueError: not TOML in UTF-8, nested without end, or a line of more than `MOST_LINE` characters.
    """
    text = read_regular(path, most_bytes).decode("utf-8-sig")
    if any(len(line) > MOST_LINE for line in text.split("\n")):
        raise ValueError(f"a line has more than {MOST_LINE:,} characters")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
