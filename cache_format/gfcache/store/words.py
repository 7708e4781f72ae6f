"""What is known of the words of caches: opaque bytes under the digest of each, so that many are searched at once.

SQLite, one file. Nothing in it is needed: it may be deleted at any time, and is made anew when it is damaged or was
made by other rules. One that somebody else has put there, or a folder that takes none, leaves what is learned in
memory.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from gfcache.errors import CacheWriteError
from gfcache.files.places import make_private

# Of one row; the words of a document of ten million tokens take some ten.
MOST_ROW_BYTES = 64 << 20
# Rows that nobody has asked for so long are dropped, and how exactly that is noted.
KEPT_DAYS, NOTED_DAYS = 90, 7
BUSY_TIMEOUT_S = 10.0
# Rows have some two kilobytes and are not split: of large pages less stays empty.
PAGE_BYTES = 32768
_DAY_S = 86400
_CREATE = (
    "CREATE TABLE words (digest TEXT PRIMARY KEY, kept INTEGER NOT NULL, used_on INTEGER NOT NULL, data BLOB NOT NULL)"
)
_SCHEMA = [("table", "words", _CREATE), ("index", "sqlite_autoindex_words_1", None)]
# Of the parameters of one statement.
_MOST_PARAMETERS = 500
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG)


class WordFile:
    """The file, opened when it is first needed.

    Args:
        path: of the file; it and its folder are made when first written to.
        rules: how the rows are made. A file of other rules is emptied; None takes any, to forget rows.
        make_folder: makes the folder of the file, or raises when it is not one to write to; private by default.

    Attributes:
        in_memory: there is no file to be had, so that all is forgotten with this object.
    """

    def __init__(self, path: Path, rules: str | None, make_folder: Callable[[], None] | None = None) -> None:
        self.path, self.in_memory = path, False
        self._make_folder = make_folder or self._make_private_folder
        self._version = None if rules is None else zlib.crc32(rules.encode()) & 0x7FFFFFFF
        self._connection: sqlite3.Connection | None = None
        self._memory: dict[str, bytes] = {}

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> WordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, digests: Collection[str]) -> dict[str, bytes]:
        """The rows of caches, as far as they are known. What a row holds is to be checked by who reads it."""
        found = {digest: self._memory[digest] for digest in digests if digest in self._memory}
        today, wanted, stale = _today(), list(digests), list[str]()

        def read(connection: sqlite3.Connection) -> None:
            for start in range(0, len(wanted), _MOST_PARAMETERS):
                some = wanted[start : start + _MOST_PARAMETERS]
                query = f"SELECT digest, used_on, data FROM words WHERE digest IN ({', '.join('?' * len(some))})"
                for digest, used_on, data in connection.execute(query, some):
                    if isinstance(digest, str) and isinstance(data, bytes):
                        found[digest] = data
                        if not isinstance(used_on, int) or abs(today - used_on) >= NOTED_DAYS:
                            stale.append(digest)

        if os.path.lexists(self.path):
            self._with_file(read)
        if stale:
            rows = [(today, digest) for digest in stale]
            self._with_file(lambda c: c.executemany("UPDATE words SET used_on = ? WHERE digest = ?", rows))
        return found

    def put(self, rows: Mapping[str, bytes], *, kept: bool) -> None:
        """Keep rows.

        Args:
            kept: their caches are in the store, and `keep_only` speaks of them.
        """
        self._memory |= rows
        values = [(digest, kept, _today(), data) for digest, data in rows.items() if len(data) < MOST_ROW_BYTES]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO words VALUES (?, ?, ?, ?)", values)
            connection.execute("DELETE FROM words WHERE used_on < ?", (_today() - KEPT_DAYS,))

        if values and self._with_file(write):
            self._memory.clear()

    def forget(self, digests: Collection[str]) -> None:
        """Drop rows."""
        for digest in digests:
            self._memory.pop(digest, None)
        rows = [(digest,) for digest in digests]
        if rows and os.path.lexists(self.path):
            self._with_file(lambda c: c.executemany("DELETE FROM words WHERE digest = ?", rows))

    def keep_only(self, digests: Collection[str]) -> None:
        """Drop the rows of caches that the store had and has no more."""
        known = set[str]()
        if os.path.lexists(self.path):
            self._with_file(lambda c: known.update(row[0] for row in c.execute("SELECT digest FROM words WHERE kept")))
        self.forget(known - set(digests))

    def _with_file(self, action: Callable[[sqlite3.Connection], object]) -> bool:
        """Do something with the file in one transaction; False where there is none to be had."""
        for _ in range(2):
            if self.in_memory:
                return False
            try:
                if self._connection is None:
                    self._connection = self._open()
                with _transaction(self._connection):
                    action(self._connection)
                return True
            except (OSError, sqlite3.Error, UnicodeDecodeError, CacheWriteError) as error:
                self.close()
                if not (isinstance(error, UnicodeDecodeError) or _code(error) in _DAMAGE) or not self._unlink():
                    self.in_memory = True
        return False

    def _open(self) -> sqlite3.Connection:
        self._make_folder()
        self._check_own()
        connection = sqlite3.connect(str(self.path), timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_ROW_BYTES)
            # What a power cut takes or damages is made again, so no row waits for the disk.
            pragmas = ("trusted_schema = OFF", f"page_size = {PAGE_BYTES}", "secure_delete = ON", "synchronous = OFF")
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")
            with _transaction(connection):  # one process makes the table
                schema = list(connection.execute("SELECT type, name, sql FROM sqlite_master"))
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if not schema:
                    connection.execute(_CREATE)
                elif schema != _SCHEMA:
                    raise sqlite3.OperationalError(f"tables {schema}")
                if self._version not in (None, version):
                    connection.execute("DELETE FROM words")
                    connection.execute(f"PRAGMA user_version = {self._version}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_private_folder(self) -> None:
        make_private(self.path.parent)

    def _check_own(self) -> None:
        """Make the file, private whatever the umask, or see that what is there is a file of the user's own."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        for name in self._names():
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(name)
                if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
                    raise PermissionError(f"{name} is not a private file of this user")

    def _unlink(self) -> bool:
        """Remove a damaged file of ours, to make another; whether it is gone."""
        try:
            self._check_own()
            for name in self._names():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        except OSError:
            return False
        return True

    def _names(self) -> list[str]:
        return [f"{self.path}{suffix}" for suffix in ("", "-journal", "-wal", "-shm")]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _code(error: Exception) -> int:
    """The error code of sqlite without its details; that of damage where a right statement is refused without one."""
    if isinstance(error, sqlite3.OperationalError) and not hasattr(error, "sqlite_errorcode"):
        return sqlite3.SQLITE_ERROR
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _today() -> int:
    return int(time.time()) // _DAY_S
