"""gf prune: caches outside the library whose documents are gone, and nothing else."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import gfcache
import pytest

from gfcli.app import run
from goldfinch.jobs import prune
from goldfinch.library import known
from tests.gfcli.commands.three_caches import TEXT


def pruned(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    capsys.readouterr()
    assert run(["prune", "--orphaned", *arguments]) == 0
    return capsys.readouterr().out.split()


def caches() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*.gfc"))


def forget(path: Path) -> None:
    with gfcache.read_cache(path) as file:
        known.forget(file.header.digest)


def test_only_caches_without_documents_go(folder: Path, capsys) -> None:
    (folder / "b.txt").unlink()
    (folder / "a.txt").write_text("Another text.")
    assert run(["truncate", "c.gfc", "--to-token", "100", "-o", "detached.gfc", "-q"]) == 0
    everything = caches()
    assert pruned(capsys, ".", "-n") == []
    assert caches() == everything
    assert run(["prune", ".", "--orphaned"]) == 2  # nobody to ask
    err = capsys.readouterr().err
    assert "b.gfc" in err
    assert str(folder / "b.txt") in err
    assert "add -y" in err
    assert caches() == everything
    assert pruned(capsys, ".", "-y") == ["b.gfc"]
    assert caches() == [name for name in everything if name != "b.gfc"]
    assert not list(folder.glob(".*"))
    assert pruned(capsys, ".", "-y") == []


def test_what_is_asked_for_has_to_be_said(folder: Path, capsys) -> None:
    (folder / "b.txt").unlink()
    assert run(["prune", ".", "-y"]) == 2
    assert "--orphaned" in capsys.readouterr().err
    assert run(["prune", "b.gfc", "--orphaned", "-y"]) == 2
    assert run(["prune", "nothing", "--orphaned", "-y"]) == 4
    assert (folder / "b.gfc").exists()


def test_a_cache_that_no_run_of_the_users_made_stays(folder: Path, capsys) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.txt").unlink()
    forget(folder / "a.gfc")
    data = bytearray((folder / "b.gfc").read_bytes())
    data[-100] ^= 1  # what a run of the user's has made, and is not this any more
    (folder / "b.gfc").write_bytes(data)
    everything = caches()
    assert pruned(capsys, ".", "-y") == []
    assert caches() == everything
    assert run(["prune", ".", "--orphaned", "-n"]) == 0
    assert "skipped (no run of yours made it): a.gfc" in capsys.readouterr().err


def test_nothing_outside_of_the_folder_goes(folder: Path, capsys) -> None:
    """Neither by a link to a file or a folder, nor what is hidden."""
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").unlink()
    inside = folder / "inside"
    (inside / ".hidden").mkdir(parents=True)
    (folder / "far").mkdir()
    shutil.move(folder / "b.gfc", folder / "far" / "b.gfc")
    shutil.move(folder / "c.gfc", inside / ".hidden" / "c.gfc")
    (inside / "a.gfc").symlink_to(folder / "a.gfc")
    (inside / "far").symlink_to(folder / "far")
    everything = caches()
    assert pruned(capsys, "inside", "-y") == []
    assert caches() == everything
    (inside / "own.gfc").hardlink_to(folder / "a.gfc")
    assert pruned(capsys, "inside", "-y") == ["inside/own.gfc"]
    assert caches() == everything


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_document_that_became_something_else_is_not_gone(folder: Path, kind: str, capsys) -> None:
    (folder / "b.txt").unlink()
    match kind:
        case "folder":
            (folder / "b.txt").mkdir()
        case "pipe":
            os.mkfifo(folder / "b.txt")
        case "link":  # to a disk that is not there, say
            (folder / "b.txt").symlink_to("nowhere")
    assert pruned(capsys, ".", "-y") == []
    assert (folder / "b.gfc").exists()


def test_a_place_that_cannot_be_looked_at_is_not_empty(monkeypatch) -> None:
    def refused(path: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    assert prune._is_gone(Path("/nowhere/at/all"))
    monkeypatch.setattr(prune.os, "lstat", refused)
    assert not prune._is_gone(Path("/nowhere/at/all"))


def test_a_base_stays_as_long_as_a_cache_that_continues_it(folder: Path, capsys) -> None:
    (folder / "chapter.txt").write_text("Chapter one. " + TEXT[6000:8000])
    assert run(["prefill", "--base", "a.gfc", "chapter.txt", "-q"]) == 0
    (folder / "a.txt").unlink()
    shutil.copy("a.gfc", "copy.gfc")
    assert pruned(capsys, ".", "-y") == []
    assert run(["prune", ".", "--orphaned", "-n"]) == 0
    assert "skipped (in use as a base): a.gfc" in capsys.readouterr().err
    (folder / "chapter.txt").unlink()
    assert pruned(capsys, ".", "-y") == ["chapter.gfc", "a.gfc", "copy.gfc"]


def test_what_is_written_or_changed_meanwhile_stays(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").unlink()
    found = prune.find_orphans([folder])
    assert [orphan.path.name for orphan in found.removable] == ["a.gfc", "b.gfc", "c.gfc"]
    (folder / "b.gfc").write_bytes((folder / "b.gfc").read_bytes())
    (folder / "c.txt").write_text("It is back.")
    with open(folder / ".a.gfc.lock", "w") as other:  # as another process would hold it
        fcntl.flock(other, fcntl.LOCK_EX)
        done = prune.remove(found.removable)
    assert [why for _, why in done.skipped] == [prune.LOCKED, prune.CHANGED, prune.CHANGED]
    assert (done.removable, len(caches())) == ([], 3)


def test_the_library_is_left_alone(work: Path, capsys) -> None:
    (work / "doc.txt").write_text(TEXT[:800])
    assert run(["ask", "doc.txt", "-n", "1", "What?"]) == 0
    (work / "doc.txt").unlink()
    with gfcache.Store() as store:
        assert len(store.entries()) == 1
        assert pruned(capsys, str(store.root), "-y") == []
        assert len(store.entries()) == 1


def test_locks_of_a_killed_run_go_with_the_next(folder: Path, capsys) -> None:
    """Of caches that are gone; what holds something, is held, hidden or a link is no leftover."""
    sub, hidden = folder / "sub", folder / ".hidden"
    sub.mkdir()
    hidden.mkdir()
    left = sub / ".gone.gfc.lock"
    stays = [sub / ".note.gfc.lock", sub / ".held.gfc.lock", hidden / ".gone.gfc.lock", sub / ".link.gfc.lock"]
    for path in (left, *stays[:3], folder / "empty"):
        path.touch()
    stays[0].write_text("mine")
    stays[3].symlink_to(folder / "empty")
    with open(stays[1]) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert pruned(capsys, ".", "-n") == []
        assert left.exists()
        assert pruned(capsys, ".", "-y") == []
    assert not left.exists()
    assert all(path.is_symlink() or path.exists() for path in stays)
    assert (folder / "empty").exists()
