"""The index of a store: facts that change (last use, hits, pins, tags) and a copy of what the headers say.

SQLite, one file. Everything but the changing facts can be built again from the cache files, and is when the file is
lost or damaged; where it cannot be written, it lives in memory for the length of the call.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from .errors import CacheLocked
from .header import Header

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Entry:
    """One cache of a store.

    Attributes:
        name: of the file, relative to the library folder: "ab/ab12....gfc".
        bytes, modified_ns: of the file; they tell whether the copy of its header is that of the present file.
        digest: of the header; empty when the file is damaged.
        identity: what a cache must share with a model and its settings to be used (`identity_key`).
        source_path, source_name, source_sha256: of the document, None where unknown.
        model, compute_dtype: what made it.
        tokens: T.
        created_at: seconds since 1970.
        parent_digest: of the base cache that it continues, or None.
        error: why the file cannot be read, or None.
        last_used: seconds since 1970; hits: answers without computing.
        pinned: never removed to make room.
        tags: names given by the user, sorted.
    """

    name: str
    bytes: int
    modified_ns: int
    digest: str
    identity: str
    source_path: str | None
    source_name: str | None
    source_sha256: str | None
    model: str | None
    compute_dtype: str | None
    tokens: int | None
    created_at: float
    parent_digest: str | None
    error: str | None
    last_used: float
    hits: int = 0
    pinned: bool = False
    tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """What people call it: the first 12 digits of its name."""
        return Path(self.name).stem[:12]


def identity_key(
    prefill_fingerprint: str, model_fingerprint: str, tokenizer_fingerprint: str | None, prefix: str, dtype: str
) -> str:
    """One digest over everything that two caches of one text must share to be interchangeable."""
    parts = (prefill_fingerprint, model_fingerprint, tokenizer_fingerprint or "", prefix, dtype)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def header_identity(header: Header) -> str:
    """The `identity_key` of a file."""
    return identity_key(
        header.model["prefill_fingerprint"],
        header.model["model_fingerprint"],
        header.tokenizer.get("fingerprint"),
        header.template["prefix_fingerprint"],
        str(header.numerics.get("compute_dtype")),
    )


# Everything of an Entry but its tags is a column, in this order.
_COLUMNS = tuple(f.name for f in fields(Entry))[:-1]
_CREATE = f"""
CREATE TABLE entries (
    name TEXT PRIMARY KEY, bytes INTEGER NOT NULL, modified_ns INTEGER NOT NULL, digest TEXT NOT NULL,
    identity TEXT NOT NULL, source_path TEXT, source_name TEXT, source_sha256 TEXT, model TEXT, compute_dtype TEXT,
    tokens INTEGER, created_at REAL NOT NULL, parent_digest TEXT, error TEXT,
    last_used REAL NOT NULL, hits INTEGER NOT NULL, pinned INTEGER NOT NULL
);
CREATE INDEX by_content ON entries (source_sha256, identity);
CREATE TABLE tags (name TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (name, tag));
PRAGMA user_version = {SCHEMA_VERSION};
"""
_FACTS = _COLUMNS[1:14]
_PUT = (
    f"INSERT INTO entries ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (name) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _FACTS)}"
)


class Index:
    """The index file, opened for one call.

    Args:
        path: of the file; made when absent, made anew when damaged or of another version.

    Attributes:
        rebuilt: it was damaged and is empty now: pins, tags and uses are gone with it.
        in_memory: there is no folder for it yet, or one that takes no file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rebuilt, self.in_memory = path, False, False
        self._connection = self._open()

    def close(self) -> None:
        self._connection.close()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect(str(self.path))
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                raise CacheLocked(self.path) from error
            self.in_memory = True
            return self._connect(":memory:")
        except sqlite3.DatabaseError:
            return self._anew()

    def _connect(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"index of version {version}")
            if version == 0:
                connection.execute("BEGIN IMMEDIATE")  # one process makes the tables
                if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in _CREATE.split(";"):
                        connection.execute(statement)
                connection.execute("COMMIT")
                with contextlib.suppress(OSError):
                    os.chmod(name, 0o600)
        except BaseException:
            connection.close()
            raise
        return connection

    def _anew(self) -> sqlite3.Connection:
        """An empty index in place of a damaged one."""
        self.rebuilt = True
        for suffix in ("", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")
        return self._connect(str(self.path))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._guarded():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                raise CacheLocked(self.path) from error
            raise OSError(error.sqlite_errorcode, f"the index cannot be written ({error})", str(self.path)) from error
        except sqlite3.DatabaseError as error:  # damage found on the way
            self._connection.close()
            self._connection = self._anew()
            raise IndexDamaged from error

    def rows(self) -> list[Entry]:
        """All entries, as the index knows them."""
        with self._guarded():
            tags: dict[str, list[str]] = {}
            for name, tag in self._connection.execute("SELECT name, tag FROM tags ORDER BY tag"):
                tags.setdefault(name, []).append(tag)
            found = self._connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM entries").fetchall()
        return [
            Entry(
                **dict(zip(_COLUMNS, row, strict=True)) | {"pinned": bool(row[-1]), "tags": tuple(tags.get(row[0], ()))}
            )
            for row in found
        ]

    def of_content(self, sha256: str, identity: str) -> list[str]:
        """Names of the caches of a text, last used first."""
        query = "SELECT name FROM entries WHERE source_sha256 = ? AND identity = ? ORDER BY last_used DESC"
        with self._guarded():
            return [row[0] for row in self._connection.execute(query, (sha256, identity))]

    def put(self, entries: Iterable[Entry], gone: Iterable[str] = ()) -> None:
        """Take over what files say now; uses, pins and tags of known ones stay. Forget the files that are gone."""
        with self._changing() as connection:
            connection.executemany(_PUT, [astuple(entry)[: len(_COLUMNS)] for entry in entries])
            for table in ("entries", "tags"):
                connection.executemany(f"DELETE FROM {table} WHERE name = ?", [(name,) for name in gone])

    def use(self, name: str, at: float, hit: bool) -> None:
        """Note a use."""
        with self._changing() as connection:
            connection.execute("UPDATE entries SET last_used = ?, hits = hits + ? WHERE name = ?", (at, hit, name))

    def pin(self, names: Iterable[str], pinned: bool) -> None:
        """Pin or unpin."""
        with self._changing() as connection:
            connection.executemany("UPDATE entries SET pinned = ? WHERE name = ?", [(pinned, n) for n in names])

    def tag(self, names: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> None:
        """Add and remove tags."""
        names, add, remove = list(names), list(add), list(remove)
        with self._changing() as connection:
            pairs = [(n, t) for n in names for t in remove]
            connection.executemany("DELETE FROM tags WHERE name = ? AND tag = ?", pairs)
            connection.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(n, t) for n in names for t in add])


class IndexDamaged(Exception):
    """The index was damaged and is empty now: scan the files and try again."""


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
