"""What is known of the words of caches: kept, dropped with them, made again when it is damaged, not taken from others."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path
from random import Random

import pytest
from gfcache import Store
from gfcache.store import words as store_words
from gfcache.store.words import WordFile

from tests.cache_format.small_store import put

ROWS = {f"{n:064x}": bytes([n % 251]) * 100 for n in range(1200)}
FIRST = next(iter(ROWS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "words.sqlite3"


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def fill(path: Path) -> None:
    with WordFile(path, "rules") as words:
        words.put(ROWS, kept=True)


def test_rows_are_kept(path: Path) -> None:
    assert WordFile(path, "rules").of(ROWS) == {}
    assert not path.parent.exists()
    fill(path)
    with WordFile(path, "rules") as words:
        assert words.of([*ROWS, "ff" * 32]) == ROWS
        words.put({FIRST: b"new"}, kept=True)
        assert words.of([FIRST]) == {FIRST: b"new"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_rows_of_other_rules_are_dropped(path: Path) -> None:
    fill(path)
    with WordFile(path, None) as words:
        words.forget([FIRST])
        assert len(words.of(ROWS)) == len(ROWS) - 1
    with WordFile(path, "other rules") as words:
        assert words.of(ROWS) == {}
    with WordFile(path, "other rules") as words:
        words.put({FIRST: b"new"}, kept=False)
        assert words.of(ROWS) == {FIRST: b"new"}


def test_what_the_store_has_no_more_is_dropped(path: Path) -> None:
    fill(path)
    with WordFile(path, "rules") as words:
        words.put({"loose": b"of a file elsewhere"}, kept=False)
        words.keep_only([FIRST])
        assert set(words.of([*ROWS, "loose"])) == {FIRST, "loose"}


def test_a_removed_cache_takes_its_words_along(store: Store) -> None:
    first, second = put(store, "a.txt"), put(store, "bc.txt")
    with store.words("rules") as words:
        words.put({first.digest: b"1", second.digest: b"2"}, kept=True)
    store.remove([first])
    with store.words("rules") as words:
        assert words.of([first.digest, second.digest]) == {second.digest: b"2"}


def test_removing_makes_no_file(store: Store) -> None:
    store.remove([put(store, "a.txt")])
    assert not store.words(None).path.exists()


def test_a_folder_that_gf_did_not_make_gets_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.folder.mkdir()
    (store.folder / "thesis.txt").write_text("mine")
    words_of_somebody = store.words(None).path
    words_of_somebody.write_text("mine, too")
    for rules in ("rules", None):
        with store.words(rules) as words:
            assert words.of([FIRST]) == {}
            words.put({FIRST: b"x"}, kept=True)
            words.forget(["other"])
            assert words.of([FIRST]) == {FIRST: b"x"}
    assert words_of_somebody.read_text() == "mine, too"
    assert sorted(path.name for path in store.folder.iterdir()) == ["thesis.txt", "words.sqlite3"]


def test_what_nobody_asks_for_is_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path)
    today = store_words._today()
    for days, asked in ((60, True), (120, False)):
        monkeypatch.setattr(store_words, "_today", lambda days=days: today + days)
        with WordFile(path, "rules") as words:
            if asked:
                assert len(words.of([FIRST])) == 1
            words.put({"new": b"x"}, kept=False)
    with WordFile(path, "rules") as words:
        assert set(words.of([*ROWS, "new"])) == {FIRST, "new"}


@pytest.mark.parametrize("damage", ["not a database", "cut", "altered", "other tables", "a trigger", "wrong types"])
def test_a_damaged_file_is_made_again(path: Path, damage: str) -> None:
    fill(path)
    data = path.read_bytes()
    if damage == "not a database":
        path.write_bytes(b"never was one" * 1000)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "altered":
        path.write_bytes(data[:1024] + bytes(b ^ 0x5A for b in data[1024:]))
    elif damage == "other tables":
        change(path, "DROP TABLE words", "CREATE TABLE other (a)")
    elif damage == "a trigger":
        change(path, "CREATE TRIGGER t AFTER INSERT ON words BEGIN DELETE FROM words; END")
    else:
        change(path, "UPDATE words SET data = 'text', used_on = 'never', digest = CAST(digest AS BLOB)")
    with WordFile(path, "rules") as words:
        assert words.of(ROWS) == {}
        words.put(ROWS, kept=True)
    with WordFile(path, "rules") as words:
        assert words.of(ROWS) == ROWS


def test_no_bit_of_the_file_stops_a_search(path: Path) -> None:
    rows = {digest: ROWS[digest] for digest in list(ROWS)[:5]}
    with WordFile(path, "rules") as words:
        words.put(rows, kept=True)
    data, random = path.read_bytes(), Random(1)
    for n in range(100):
        altered = bytearray(data)
        altered[n if n < 60 else random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(altered)
        with WordFile(path, "rules") as words:
            words.of(rows)
            words.put(rows, kept=True)
            assert words.of(rows) == rows, n


@pytest.mark.parametrize("kind", ["a link", "a folder", "writable by others", "a link as its journal", "another's"])
def test_a_file_of_somebody_else_is_not_used(path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = path.parent.parent / "other"
    fill(path)
    if kind == "a link":
        path.rename(other)
        path.symlink_to(other)
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    elif kind == "writable by others":
        path.chmod(0o666)
    elif kind == "a link as its journal":
        other.write_text("")
        Path(f"{path}-journal").symlink_to(other)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with WordFile(path, "rules") as words:
        assert words.of(ROWS) == {}
        words.put({FIRST: b"x"}, kept=False)
        assert words.of(ROWS) == {FIRST: b"x"}
        words.forget([FIRST])
        assert words.of(ROWS) == {}
        assert words.in_memory


def test_a_large_row_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path)
    monkeypatch.setattr(store_words, "MOST_ROW_BYTES", 5000)
    change(path, f"UPDATE words SET data = zeroblob(100000) WHERE digest = '{FIRST}'")
    with WordFile(path, "rules") as words:
        assert FIRST not in words.of(ROWS)
        words.put({FIRST: bytes(6000)}, kept=True)
        assert words.of([FIRST]) in ({}, {FIRST: bytes(6000)})
