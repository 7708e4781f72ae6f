"""What a stranger left in the place of a library: nothing of it is removed, overwritten, run or believed."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import tracemalloc
from pathlib import Path

import gfcache
import pytest
from gfcache import Store, layout
from gfcache.store.folder import TAG_FILE, TAG_TEXT

from tests.cache_format.small_store import put
from tests.cpu_time import least_cpu_s

KEY = "ab" + "0" * 38


def old(path: Path, content: bytes) -> Path:
    """A file of long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (1.0, 1.0))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("is_link", [False, True])
def test_a_folder_that_is_called_library_is_not_ours(tmp_path: Path, is_link: bool) -> None:
    """`cache prune -y` removed library/en/novel.odt, and messages.po through a link."""
    root, theirs = tmp_path / "root", tmp_path / "theirs"
    root.mkdir()
    old(theirs / "en" / "novel.odt", b"novel")
    old(theirs / "de" / "messages.po", b"msgid")
    old(theirs / "ab" / f"{KEY}.gfc", layout.MAGIC)
    (root / TAG_FILE).write_text(TAG_TEXT)
    if is_link:
        (root / "library").symlink_to(theirs)
    else:
        theirs = theirs.rename(root / "library")
    before = content(theirs)
    with Store(root, max_bytes=1) as store:
        assert not store.is_ours
        entries = store.entries()
        for done in (store.remove(entries), store.remove(entries, dry_run=True), store.prune(entries, 0, dry_run=True)):
            assert not done.removed
            assert not done.remnants
        acts = [lambda: store.prune(entries, 0, dry_run=False), lambda: put(store, "a.txt")]
        for act in acts if is_link else [store.keep_cap, *acts]:  # what lies behind a link is not even counted
            with pytest.raises(gfcache.CacheWriteError, match="not made by gf"):
                act()
    assert content(theirs) == before


def test_in_our_own_library_what_is_not_ours_stays(store: Store, tmp_path: Path) -> None:
    entry = put(store, "a.txt")
    mine = tmp_path / "thesis.txt"
    mine.write_text("four years")
    folder = store.folder / "ab"
    theirs = [
        old(folder / f"{KEY}.gfc", b"a novel of mine"), old(folder / "notes.txt", b"x"), old(folder / ".x.tmp", b"x"),
        old(folder / ".draft.journal", b"x"), old(store.folder / "en" / "novel.odt", b"x"),
        old(folder / f".{KEY}.gfc.journal", b"a diary"), old(store.folder / "cd" / f"{KEY}.gfc", layout.MAGIC),
    ]  # fmt: skip
    link = folder / f"ab{'1' * 38}.gfc"
    link.symlink_to(mine)
    (store.folder / "ef").symlink_to(tmp_path)
    done = store.prune(store.entries(), 0, dry_run=False)
    assert [e.name for e in done.removed] == [entry.name]
    assert {why for _, why in done.skipped} == {"not known to be a cache of gf"}
    assert all(path.exists() for path in [*theirs, link])
    assert mine.read_text() == "four years"


def test_a_library_of_an_earlier_version_is_known_and_marked(store: Store) -> None:
    entry = put(store, "a.txt")
    store.close()
    mark = store.folder / TAG_FILE
    mark.unlink()
    assert Store(store.root).is_ours
    put(Store(store.root), "b.txt")
    assert mark.read_text() == TAG_TEXT
    assert [e.name for e in store.remove([entry]).removed] == [entry.name]


def test_the_mark_is_written_through_no_link_and_marks_no_folder_of_the_user(tmp_path: Path) -> None:
    home, secret = tmp_path / "home", tmp_path / "secret"
    home.mkdir()
    put(Store(home), "a.txt")
    assert sorted(p.name for p in home.iterdir()) == ["library"]  # a mark at home keeps it out of backups
    mark = home / "library" / TAG_FILE
    mark.unlink()
    mark.symlink_to(secret)
    with pytest.raises(gfcache.CacheWriteError, match="not made by gf"):
        put(Store(home), "b.txt")
    assert not secret.exists()


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    for mask in (0, 0o777 & ~0o700):
        before = os.umask(mask)
        try:
            with Store(tmp_path / f"cache{mask}") as store:
                entry = put(store, "a.txt")
                store.pin([entry], True)
        finally:
            os.umask(before)
        modes = {str(p): p.stat().st_mode & 0o777 for p in (store.root, *store.root.rglob("*"))}
        assert {mode for name, mode in modes.items() if Path(name).is_dir()} == {0o700}
        assert {mode for name, mode in modes.items() if not Path(name).is_dir()} == {0o600}


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON entries BEGIN INSERT INTO tags WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
        "SELECT i + 1 FROM n) SELECT i, i FROM n; END",
        "CREATE VIEW v AS SELECT * FROM entries",
        "CREATE TABLE t (x TEXT)",
        "CREATE INDEX i ON entries (hex(zeroblob(100000000)))",
        "INSERT INTO tags VALUES ('a', hex(zeroblob(3000000)))",
        "ALTER TABLE tags ADD COLUMN x TEXT GENERATED ALWAYS AS (hex(name))",
    ],
)
def test_an_index_that_holds_what_we_do_not_make_is_set_aside(store: Store, statement: str) -> None:
    entry = put(store, "a.txt")
    store.close()
    index = store.folder / "index.sqlite3"
    made = index.read_bytes()

    def rebuilt() -> None:
        index.unlink()
        with Store(store.root) as again:
            assert len(again.entries()) == 1

    plain = least_cpu_s(rebuilt)
    index.write_bytes(made)
    with sqlite3.connect(index) as connection:
        connection.execute(statement)
    connection.close()
    started = time.process_time()
    with Store(store.root) as again:
        again.used(again.path(entry), hit=True)
        assert [e.source_name for e in again.entries()] == ["a.txt"]
        assert again.rebuilt
        assert again.set_aside is not None
        assert again.set_aside.is_file()
    assert time.process_time() - started < 1000 * plain


def test_rows_of_no_file_cost_memory_of_the_order_of_the_index_and_go(store: Store) -> None:
    """200,000 of them, in an index of 13 MB, took 180 MB and 5 seconds."""
    entry = put(store, "a.txt")
    store.pin([entry], True)
    store.close()
    index = store.folder / "index.sqlite3"
    with sqlite3.connect(index) as connection:
        connection.execute(
            "INSERT INTO entries WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
            "SELECT 'aa/' || i, 1, 1, '', '', NULL, NULL, NULL, NULL, NULL, NULL, 0.0, NULL, NULL, 0.0, 0, 1 FROM n"
        )
    connection.close()
    size = index.stat().st_size
    tracemalloc.start()
    try:
        with Store(store.root) as again:
            assert [(e.source_name, e.pinned) for e in again.entries()] == [("a.txt", True)]
            assert tracemalloc.get_traced_memory()[1] < 8 * size
            assert not again.rebuilt
    finally:
        tracemalloc.stop()
    with sqlite3.connect(index) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (1,)
    connection.close()


def test_an_index_that_is_a_link_is_neither_read_nor_replaced(store: Store, tmp_path: Path) -> None:
    put(store, "a.txt")
    store.close()
    index, theirs = store.folder / "index.sqlite3", tmp_path / "theirs.sqlite3"
    index.rename(theirs)
    index.symlink_to(theirs)
    before = theirs.read_bytes()
    with Store(store.root) as again:
        assert [e.source_name for e in again.entries()] == ["a.txt"]
        assert "link" in str(again.obstacle)
    assert index.is_symlink()
    assert theirs.read_bytes() == before


def test_a_disk_that_gives_the_index_for_reading_alone_costs_no_pins(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite opens what it may not write for reading, and says so at the first change: no damage."""
    entry = put(store, "a.txt")
    store.pin([entry], True)
    store.close()
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda name, **k: real(f"file:{name}?mode=ro", uri=True, **k))
    with Store(store.root) as again:
        again.used(again.path(entry), hit=True)
        assert not again.rebuilt
    monkeypatch.undo()
    assert [e.pinned for e in store.entries()] == [True]


def test_what_was_pinned_tagged_or_replaced_since_it_was_listed_stays(store: Store) -> None:
    for name in ("pinned", "tagged", "replaced", "plain"):
        put(store, name)
    listed = {e.source_name: e for e in store.entries()}
    with Store(store.root) as other:
        other.pin([listed["pinned"]], True)
        other.tag([listed["tagged"]], ["keep"], [])
        put(other, "replaced", size=70_000)
    done = store.remove(list(listed.values()))
    assert [e.source_name for e in done.removed] == ["plain"]
    assert {(e.source_name, why) for e, why in done.skipped} == {
        ("pinned", "pinned"), ("tagged", "changed since it was listed"), ("replaced", "changed since it was listed"),
    }  # fmt: skip


def test_a_pin_waits_for_what_removes(store: Store) -> None:
    entry = put(store, "a.txt")
    with store._files.locked(), Store(store.root) as other:
        thread = threading.Thread(target=lambda: Store(store.root).pin([entry], True))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert not other.entries()[0].pinned
    thread.join()
    assert store.entries()[0].pinned


def test_a_file_larger_than_announced_makes_room_at_once(tmp_path: Path) -> None:
    cap = put(Store(tmp_path / "probe"), "a", size=50_000).bytes * 5 // 2
    with Store(tmp_path / "cache", max_bytes=cap) as store:
        put(store, "old", used=1.0)
        put(store, "mid", size=50_000, used=2.0)
        path = store.path_of("test", "new")
        with store.writing(path, 1000) as room:
            path.write_bytes(layout.MAGIC + bytes(cap - 10_000))
        assert store.used_bytes() <= cap
        assert room.removed
