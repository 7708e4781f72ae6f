"""The index: made again when it is lost or damaged, and nothing removed while it cannot be seen."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
from random import Random

import gfcache
import pytest
from gfcache import Store
from gfcache.store import index as store_index

from tests.cache_format.small_store import put


@pytest.mark.parametrize("damage", ["lost", "not a database", "cut", "altered"])
def test_the_index_is_rebuilt(store: Store, damage: str) -> None:
    for n in range(40):
        put(store, f"{'x' * n}.txt")
    store.close()
    index = store.folder / "index.sqlite3"
    data = index.read_bytes()
    if damage == "lost":
        index.unlink()
    elif damage == "not a database":
        index.write_bytes(b"never was one" * 1000)
    elif damage == "cut":
        index.write_bytes(data[: len(data) // 2])
    else:
        index.write_bytes(data[:4096] + bytes(b ^ 0x5A for b in data[4096:]))
    again = Store(store.root)
    assert len(again.entries()) == 40
    assert again.rebuilt
    again.pin(again.entries()[:1], True)
    again.close()
    assert sum(e.pinned for e in Store(store.root).entries()) == 1


def change(store: Store, *statements: str) -> None:
    """Change the index by hand, and begin anew."""
    store.close()
    with contextlib.closing(sqlite3.connect(store.folder / "index.sqlite3", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE tags",
        "ALTER TABLE entries DROP COLUMN hits",
        "UPDATE entries SET created_at = 'x'",
        "UPDATE entries SET created_at = 9e999",
        "UPDATE entries SET hits = 'many'",
        "UPDATE entries SET source_name = X'ff41'",
        "UPDATE entries SET source_path = CAST(X'ff41' AS TEXT)",
    ],
)
def test_an_index_that_is_wrong_within_is_rebuilt(store: Store, damage: str) -> None:
    entry = put(store, "a.txt")
    change(store, damage)
    with Store(store.root) as again:
        assert [e.name for e in again.entries()] == [entry.name]
        assert again.rebuilt
        again.pin([entry], True)
        assert [e.pinned for e in again.entries()] == [True]


def test_no_bit_of_the_index_blocks_the_library(store: Store) -> None:
    entry = put(store, "a.txt")
    store.tag([entry], ["kb"], [])
    store.close()
    index = store.folder / "index.sqlite3"
    data, random = index.read_bytes(), Random(1)
    for n in range(120):
        altered = bytearray(data)
        altered[n if n < 60 else random.randrange(len(data))] ^= 1 << random.randrange(8)
        index.write_bytes(altered)
        with Store(store.root) as again:
            assert len(again.entries()) == 1, n
            again.pin(again.entries(), True)
            again.of_content(entry.source_sha256 or "", entry.identity)


def test_a_text_is_found_with_an_index_that_was_lost(store: Store) -> None:
    entry = put(store, "a.txt")
    store.close()
    (store.folder / "index.sqlite3").unlink()
    assert Store(store.root).of_content(entry.source_sha256 or "", entry.identity) == [store.path(entry)]


def test_a_wrong_number_of_version_costs_no_pins(store: Store) -> None:
    store.pin([put(store, "a.txt")], True)
    change(store, "PRAGMA user_version = 0")
    assert [e.pinned for e in Store(store.root).entries()] == [True]


def refuse_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """No index but one in memory can be opened."""
    real = sqlite3.connect

    def refuse(name: str, **options: object) -> sqlite3.Connection:
        return real(name if name == ":memory:" else "/nowhere/index", **options)  # type: ignore[call-overload]

    monkeypatch.setattr(sqlite3, "connect", refuse)


@pytest.mark.parametrize("reason", ["unreadable", "newer", "damaged in a folder that takes no file"])
def test_nothing_is_removed_while_pins_cannot_be_seen(
    store: Store, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = put(store, "a.txt", size=100_000)
    store.pin([entry], True)
    store.close()
    index = store.folder / "index.sqlite3"
    with monkeypatch.context() as patches:
        if reason == "unreadable":
            refuse_files(patches)
        elif reason == "newer":
            change(store, "PRAGMA user_version = 2", "ALTER TABLE entries ADD COLUMN notes TEXT")
        else:
            index.write_bytes(b"never was one" * 1000)
            patches.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        before = index.read_bytes()
        with Store(store.root, max_bytes=entry.bytes + 1000) as again:
            assert [e.name for e in again.entries()] == [entry.name]
            assert again.obstacle
            assert not again.rebuilt
            with pytest.raises(gfcache.NoRoom):
                put(again, "b.txt")
            assert [why for _, why in again.remove(again.entries()).skipped] == [
                "perhaps pinned, the index cannot be used"
            ]
            assert [why for _, why in again.prune([], 0, dry_run=False).skipped] == [
                "perhaps pinned, the index cannot be used"
            ]
            with pytest.raises(OSError, match="cannot keep pins"):
                again.pin([entry], True)
        assert index.read_bytes() == before
    assert store.path(entry).exists()


def test_a_folder_that_takes_no_file_can_be_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "a.txt")
    store.close()
    (store.folder / "index.sqlite3").unlink()
    refuse_files(monkeypatch)
    monkeypatch.setattr(store_index, "open_regular", lambda *_: (_ for _ in ()).throw(PermissionError(13, "denied")))
    again = Store(store.root)
    assert [e.source_name for e in again.entries()] == ["a.txt"]
    assert not again.obstacle


def test_every_field_of_an_entry_but_its_tags_is_a_column() -> None:
    """In order: rows are written from tuples of fields."""
    fields = dataclasses.fields(gfcache.Entry)
    assert fields[-1].name == "tags"
    assert [field.name for field in fields[:-1]] == list(store_index._KINDS)
    for field in fields[:-1]:
        kind, optional = store_index._KINDS[field.name]
        assert field.type == kind.__name__ + (" | None" if optional else "")
