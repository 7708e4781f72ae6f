"""The index of a store: facts that change (last use, hits, pins, tags) and a copy of what the headers say.

SQLite, one file. Everything but the changing facts can be built again from the cache files, and is when the file is
lost or damaged, or holds anything that we do not make (a trigger runs whatever its author likes): it is set aside then.
Where it cannot be written, it lives in memory for the length of the call. One that cannot be read stays.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import sqlite3
from collections.abc import Container, Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from gfcache.errors import CacheLocked
from gfcache.files.regular import open_regular

# Of the tables.
INDEX_VERSION = 1
BUSY_TIMEOUT_S = 10.0
# Of a text, a row, a statement: a name has 4 KiB at the most, a reason of damage some hundred bytes.
MOST_ROW_BYTES = 1 << 20
SET_ASIDE = ".set-aside"
_BESIDE = ("-journal", "-wal", "-shm")


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
        parent_digest: of the base cache that it continues, or, with blanks between them, of those that lend it blocks;
            None.
        error: why the file cannot be read, or None.
        last_used: seconds since 1970; hits: answers without computing.
        pinned: never removed to make room.
        tags: names given by the user, sorted.

    Raises:
        ValueError: a value that no index holds; it comes from a damaged index, or from a file of another making.
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

    def __post_init__(self) -> None:
        for name, (kind, optional) in _KINDS.items():
            value = getattr(self, name)
            holds = optional if value is None else isinstance(value, kind)
            if kind is str and holds and value is not None:
                value.encode()  # a lone surrogate is a ValueError, too
            if not holds or (kind is float and not math.isfinite(value)):
                raise ValueError(f"{name} is {value!r:.60}")

    @property
    def id(self) -> str:
        """What people call it: the first 12 digits of its name."""
        return Path(self.name).stem[:12]

    @property
    def rests_on(self) -> list[str]:
        """Digests of the files without which it cannot be read."""
        return (self.parent_digest or "").split()

    @property
    def is_set_aside(self) -> bool:
        """Whether another cache took its place, and it is kept for those that rest on it."""
        return bool(self.digest) and Path(self.name).stem == self.digest[:40]


# Everything of an Entry but its tags is a column, in this order: its type, and whether it may be absent.
_KINDS: dict[str, tuple[type, bool]] = {
    "name": (str, False),
    "bytes": (int, False),
    "modified_ns": (int, False),
    "digest": (str, False),
    "identity": (str, False),
    "source_path": (str, True),
    "source_name": (str, True),
    "source_sha256": (str, True),
    "model": (str, True),
    "compute_dtype": (str, True),
    "tokens": (int, True),
    "created_at": (float, False),
    "parent_digest": (str, True),
    "error": (str, True),
    "last_used": (float, False),
    "hits": (int, False),
    "pinned": (bool, False),
}
_SQL_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER"}
_COLUMNS = tuple(_KINDS)
# What a file says of itself; the columns after these change without it.
_FACTS = _COLUMNS[1 : _COLUMNS.index("last_used")]
_SQL_COLUMNS = ", ".join(
    f"{name} {_SQL_TYPES[kind]}{'' if optional else ' NOT NULL'}" for name, (kind, optional) in _KINDS.items()
)
_CREATE = f"""
CREATE TABLE entries ({_SQL_COLUMNS}, PRIMARY KEY (name));
CREATE INDEX by_content ON entries (source_sha256, identity);
CREATE TABLE tags (name TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (name, tag));
PRAGMA user_version = {INDEX_VERSION};
"""
_TABLES = {"entries": _COLUMNS, "tags": ("name", "tag")}
# Whatever versions of gf have made: columns with types, and nothing that computes.
_OBJECTS = {("index", "by_content")}
_OBJECTS |= {("table", name) for name in _TABLES} | {("index", f"sqlite_autoindex_{name}_1") for name in _TABLES}
_COLUMN = r"\s*(\w+ (TEXT|INTEGER|REAL)( PRIMARY KEY| NOT NULL)*|PRIMARY KEY \(\w+(, \w+)?\))"
_PLAIN = re.compile(
    rf"CREATE TABLE \w+ \({_COLUMN}(,{_COLUMN})*\s*\)|CREATE INDEX by_content ON entries \(source_sha256, identity\)"
)
_PUT = (
    f"INSERT INTO entries ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (name) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _FACTS)}"
)


class Index:
    """The index file, opened for one call.

    Args:
        path: of the file; made when absent, made anew when damaged or not as we make it.
        is_ours: whether its folder is one that we may write to.

    Attributes:
        made: it was absent or damaged and is empty now; what was pinned, tagged and used is not known.
        in_memory: there is no folder for it yet, or one that takes no file.
        homeless: there is no folder for it yet.
        obstacle: why the file that is there cannot be used, or None; what it holds pinned is not known then.
        set_aside: where the file is that was there, when it was damaged or not as we make it; None otherwise.
    """

    def __init__(self, path: Path, *, is_ours: bool = True) -> None:
        self.path, self.made, self.in_memory, self.homeless = path, False, False, not path.parent.is_dir()
        self.obstacle: str | None = None
        self.set_aside: Path | None = None
        self._connection = self._open() if is_ours or self.homeless else self._without(OSError("no index of gf"))

    def close(self) -> None:
        self._connection.close()

    def _open(self) -> sqlite3.Connection:
        try:
            self._make_file()
            return self._connect(str(self.path))
        except OSError as error:
            return self._without(error)
        except _ERRORS as error:
            if _code(error) in _BUSY:
                raise CacheLocked(self.path) from error
            return self._anew() if self._is_damage(error) else self._without(error)

    def _make_file(self) -> None:
        """Make the file, or see that what is there is a file: private whatever the umask, and no link."""
        for suffix in _BESIDE:
            if os.path.islink(f"{self.path}{suffix}"):
                raise OSError(errno.ELOOP, f"{self.path.name}{suffix} is a link", str(self.path))
        try:
            handle = open_regular(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            handle = open_regular(self.path)
        try:
            found = os.fstat(handle)
            if found.st_uid == os.geteuid() and found.st_mode & 0o077:
                os.fchmod(handle, 0o600)
        finally:
            os.close(handle)

    def _connect(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_ROW_BYTES)
            connection.execute("PRAGMA trusted_schema = OFF")
            if not _has_content(connection):
                connection.execute("BEGIN IMMEDIATE")  # one process makes the tables
                if not _has_content(connection):
                    for statement in _CREATE.split(";"):
                        connection.execute(statement)
                connection.execute("COMMIT")
                self.made = True
            _check_ours(connection)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        except BaseException:
            connection.close()
            raise
        return connection

    def _anew(self) -> sqlite3.Connection:
        """An empty index in place of a damaged or foreign one, which is set aside."""
        aside = Path(f"{self.path}{SET_ASIDE}")
        try:
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path, aside)
                self.set_aside = aside
            for suffix in _BESIDE:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self.path}{suffix}")
            self._make_file()
            return self._connect(str(self.path))
        except (OSError, sqlite3.Error) as error:
            return self._without(error)

    def _without(self, error: Exception) -> sqlite3.Connection:
        """An index in memory, where there is no file to be had."""
        self.in_memory = True
        if os.path.lexists(self.path):
            self.obstacle = getattr(error, "strerror", None) or str(error)
        return self._connect(":memory:")

    def _is_damage(self, error: Exception) -> bool:
        # Read-only for sqlite: a disk that did not let it be opened for writing, or a first page that says so.
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY:
            return self._says_read_only()
        # A ProgrammingError is about what was asked, not about what was found.
        other = isinstance(error, (sqlite3.NotSupportedError, sqlite3.ProgrammingError))
        return _code(error) not in _SURROUNDINGS and not other

    def _says_read_only(self) -> bool:
        """Whether the format version for writing in the first page is one that sqlite does not write."""
        try:
            with os.fdopen(open_regular(self.path), "rb") as stream:
                return stream.read(19)[18:] > b"\2"
        except OSError:
            return False

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
        except _ERRORS as error:
            if _code(error) in _BUSY:
                raise CacheLocked(self.path) from error
            if not self._is_damage(error):
                raise OSError(_code(error), f"the index cannot be used ({error})", str(self.path)) from error
            self._connection.close()
            self._connection = self._anew()
            raise IndexDamaged from error

    def names(self) -> list[str]:
        """Names of all entries, those of files that are gone included."""
        with self._guarded():
            return [row[0] for row in self._connection.execute("SELECT name FROM entries")]

    def rows(self, names: Container[str]) -> list[Entry]:
        """The entries of these files, as the index knows them; it may hold any number of others."""
        with self._guarded():
            tags: dict[str, list[str]] = {}
            for name, tag in self._connection.execute("SELECT name, tag FROM tags ORDER BY tag"):
                if name in names:
                    tags.setdefault(name, []).append(str(tag))
            found = self._connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM entries")
            rows = (dict(zip(_COLUMNS, row, strict=True)) for row in found if row[0] in names)
            try:
                return [
                    Entry(**row | {"pinned": bool(row["pinned"]), "tags": tuple(tags.get(row["name"], ()))})
                    for row in rows
                ]
            except ValueError as error:
                raise sqlite3.DatabaseError(f"a row that is no entry: {error}") from error

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

    def _demand_file(self) -> None:
        if self.in_memory:
            why = self.obstacle or "its folder takes no file"
            raise OSError(errno.EIO, f"the index cannot keep pins and tags ({why})", str(self.path))

    def pin(self, names: Iterable[str], pinned: bool) -> None:
        """Pin or unpin.

        Raises:
            OSError: it would be lost.
        """
        self._demand_file()
        with self._changing() as connection:
            connection.executemany("UPDATE entries SET pinned = ? WHERE name = ?", [(pinned, n) for n in names])

    def tag(self, names: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> None:
        """Add and remove tags.

        Raises:
            OSError: they would be lost.
        """
        self._demand_file()
        names, add, remove = list(names), list(add), list(remove)
        with self._changing() as connection:
            pairs = [(n, t) for n in names for t in remove]
            connection.executemany("DELETE FROM tags WHERE name = ? AND tag = ?", pairs)
            connection.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(n, t) for n in names for t in add])


class IndexDamaged(Exception):
    """The index was damaged and is empty now: scan the files and try again."""


# What sqlite says of other processes, and of the disk and the folder. Whatever else it says of right statements comes
# from damage, such as a name that is not UTF-8.
_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SURROUNDINGS = (
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_AUTH,
)  # fmt: skip


def _code(error: Exception) -> int:
    """The error code of sqlite without its details; 0 where it gives none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _has_content(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _check_ours(connection: sqlite3.Connection) -> None:
    """Refuse an index of a later version, and one with anything in it that no version makes.

    Raises:
        sqlite3.NotSupportedError, sqlite3.DatabaseError: as said.
    """
    objects = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchmany(len(_OBJECTS) + 1)
    is_plain = all(sql is None or _PLAIN.fullmatch(sql) for _, _, sql in objects)
    columns = {n: tuple(row[1] for row in connection.execute(f"PRAGMA table_xinfo('{n}')")) for n in _TABLES}
    if {(kind, name) for kind, name, _ in objects} != _OBJECTS or not is_plain or columns != _TABLES:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > INDEX_VERSION:
            raise sqlite3.NotSupportedError(f"version {version}, this gf knows up to {INDEX_VERSION}")
        raise sqlite3.DatabaseError("it holds more or other things than gf makes")
