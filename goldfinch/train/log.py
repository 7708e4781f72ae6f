"""The log of a run: JSON Lines that a later run resumes from. Read as anybody's file, and never through a link."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gfcache import CacheWriteError
from gfcache.files.regular import NotRegular, TooLarge, open_regular, read_regular

from ..errors import CheckpointError

MOST_LOG_BYTES = 256 << 20


def append_entry(log: Path, entry: dict[str, Any]) -> None:
    """Write one line more.

    Raises:
        CacheWriteError: the system does not let it be written, or the log is a link.
    """
    try:
        handle = open_regular(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode=0o666)
        with os.fdopen(handle, "ab") as stream:
            stream.write(json.dumps(entry).encode() + b"\n")
    except OSError as error:
        raise CacheWriteError(log, error) from error


def log_lines(log: Path) -> list[bytes]:
    """The lines of a log with their ends; none where there is no log.

    Raises:
        CheckpointError: the log is a link, no file, or larger than `MOST_LOG_BYTES`.
    """
    try:
        return read_regular(log, MOST_LOG_BYTES, follow=False).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except (NotRegular, TooLarge) as error:
        raise CheckpointError(f"{log}: {error.strerror}", hint="use another run folder or remove it") from error


def entry_of(line: bytes) -> dict[str, Any]:
    """The entry in a line; an empty one where that is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
