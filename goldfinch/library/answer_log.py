"""What was asked and answered, kept where the user wants that: lines of JSON in one private file that stays small."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gfcache import CacheFormatError
from gfcache.files.locks import sweep
from gfcache.files.places import make_private, user_folder
from gfcache.files.regular import open_regular, read_at_most
from gfcache.files.replace import replacing_output

# Above so many bytes the older half goes; of a text so many characters are kept.
MOST_BYTES, MOST_CHARACTERS = 16 << 20, 20_000
Entry = dict[str, Any]


def log_file() -> Path:
    """Where answers are kept; nobody else may read it."""
    return user_folder("data", "goldfinch") / "answers.jsonl"


class AnswerLog:
    """A log of answers; a link, a pipe or a device in its place is refused, as every OSError is the caller's to tell.

    Args:
        path: of the file.
        most_bytes: that it may have.
    """

    def __init__(self, path: Path | None = None, most_bytes: int = MOST_BYTES) -> None:
        self.path, self._most_bytes = path or log_file(), most_bytes

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, with the time; two processes may do so at once."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        cut = {name: value[:MOST_CHARACTERS] if isinstance(value, str) else value for name, value in entry.items()}
        line = json.dumps({"time": now} | cut).encode() + b"\n"
        make_private(self.path.parent)
        with os.fdopen(self._locked(), "rb+", buffering=0) as stream:
            os.fchmod(stream.fileno(), 0o600)
            sweep(self.path)
            size = stream.seek(0, os.SEEK_END)
            if size + len(line) > self._most_bytes:
                stream.seek(0)
                newer = self._newer_half(read_at_most(stream, size))
                with _as_an_error_of_the_system(), replacing_output(self.path, follow=False) as other:
                    other.write(newer + line)
                return
            if size:  # a line that was cut short would join this one
                stream.seek(size - 1)
                line = line if stream.read(1) == b"\n" else b"\n" + line
            stream.seek(0, os.SEEK_END)
            stream.write(line)

    def entries(self) -> list[Entry]:
        """All of them, the oldest first; what is no entry is left out."""
        try:
            handle = open_regular(self.path)
        except FileNotFoundError:
            return []
        with os.fdopen(handle, "rb") as stream:
            lines = read_at_most(stream, 2 * self._most_bytes).splitlines()
        return [entry for entry in map(_parsed, lines) if entry is not None]

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _locked(self) -> int:
        """A descriptor of the file that has the name now, which nobody else writes to until it is closed."""
        while True:
            handle = open_regular(self.path, os.O_CREAT | os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(handle), os.lstat(self.path)):
                    return handle
            except FileNotFoundError:  # removed meanwhile
                pass
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def _newer_half(self, data: bytes) -> bytes:
        newer = data[-self._most_bytes // 2 :]
        return newer[newer.find(b"\n") + 1 :] if b"\n" in newer else b""


@contextlib.contextmanager
def _as_an_error_of_the_system() -> Iterator[None]:
    try:
        yield
    except CacheFormatError as error:
        raise error.__cause__ if isinstance(error.__cause__, OSError) else OSError(errno.EAGAIN, str(error)) from error


def _parsed(line: bytes) -> Entry | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    texts = ("time", "question", "answer")
    return found if isinstance(found, dict) and all(isinstance(found.get(name), str) for name in texts) else None
