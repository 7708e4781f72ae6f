"""A prefill that is cut resumes from its journal, with the bytes of a run that was not."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import gfcache
import pytest
import torch

import goldfinch
from goldfinch.caching.journal import Journal, reusable
from goldfinch.models.executor import BLOCK_TOKENS
from tests.conftest import SAMPLES
from tests.cpu_time import PATIENCE_S

STAMP = "2026-01-01T00:00:00+00:00"
T = 5 * BLOCK_TOKENS + 100


class Cut(Exception):
    """The end of a run, from outside."""


def cut_after(blocks: int):
    """A progress callback that ends the run after so many blocks."""
    seen = [0]

    def progress(done: int, total: int) -> None:
        seen[0] += 1
        if seen[0] > blocks:
            raise Cut

    return progress


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 300, (1, T), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_a_cut_run_goes_on_and_equals_a_whole_one(blocks: int, ids, tiny_model: Path, tmp_path: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    marks = [BLOCK_TOKENS, 4 * BLOCK_TOKENS]
    whole = tmp_path / "whole.gfc"
    goldfinch.prefill(model, ids, checkpoints=marks).save(whole, created_at=STAMP)

    path = tmp_path / "cut.gfc"
    journal = Journal(path, every_s=0)
    with pytest.raises(Cut):
        goldfinch.prefill(model, ids, checkpoints=marks, journal=journal, progress=cut_after(blocks))
    assert journal.path.name == ".cut.gfc.journal"
    assert journal.path.stat().st_mode & 0o777 == 0o600
    left = journal.read(model)
    assert left is not None
    assert left.length == blocks * BLOCK_TOKENS
    computed: list[int] = []
    cache = goldfinch.prefill(
        model, ids, checkpoints=marks, base=left, journal=journal, progress=lambda done, total: computed.append(done)
    )
    assert computed[0] == (blocks + 1) * BLOCK_TOKENS  # nothing before the cut was recomputed
    cache.save(path, created_at=STAMP)
    journal.remove()
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.gfc", "whole.gfc"]


def test_notes_are_paced(ids, tiny_model: Path, tmp_path: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    journal = Journal(tmp_path / "doc.gfc", every_s=3600)
    goldfinch.prefill(model, ids, journal=journal)
    assert not journal.path.exists()


def test_a_journal_of_another_model_or_damaged_is_ignored(ids, tiny_model: Path, other_model: Path, tmp_path) -> None:
    journal = Journal(tmp_path / "doc.gfc", every_s=0)
    goldfinch.prefill(goldfinch.load_model(other_model), ids, journal=journal)
    model = goldfinch.load_model(tiny_model)
    assert journal.path.exists()
    assert journal.read(model) is None
    journal.path.write_bytes(b"garbage")
    assert journal.read(model) is None
    journal.path.unlink()
    assert reusable(journal.path, model) is None


def full(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[], bool]) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if is_full():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_journal_that_cannot_be_written_ends_no_run(ids, tiny_model: Path, tmp_path: Path, monkeypatch) -> None:
    model = goldfinch.load_model(tiny_model)
    journal = Journal(tmp_path / "doc.gfc", every_s=0)
    full(monkeypatch, lambda: True)
    cache = goldfinch.prefill(model, ids, journal=journal)
    assert cache.length == T
    assert journal.obstacle is not None
    assert journal.obstacle.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffices", [True, False])
def test_the_journal_gives_its_room_to_the_output(suffices: bool, ids, tiny_model: Path, tmp_path, monkeypatch) -> None:
    from goldfinch.jobs.job import Job, save
    from goldfinch.jobs.sources import Source
    from goldfinch.library.making import Made

    journal = Journal(tmp_path / "doc.gfc", every_s=0)
    cache = goldfinch.prefill(goldfinch.load_model(tiny_model), ids, journal=journal)
    noted = journal.path.read_bytes()
    full(monkeypatch, lambda: not suffices or journal.path.exists())
    job = Job(Source("doc.txt"), path=tmp_path / "doc.gfc", made=Made(cache, 0, None), seconds=1.0)
    if suffices:
        assert save(job).tokens == T
        assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["doc.gfc"]
    else:
        with pytest.raises(gfcache.CacheWriteError) as caught:
            save(job)
        assert caught.value.hint
        assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [journal.path.name]
        assert journal.path.read_bytes() == noted
        assert journal.path.stat().st_mode & 0o777 == 0o600


def test_a_journal_beside_a_finished_output_is_removed(tiny_model: Path, tmp_path: Path) -> None:
    from gfcli.app import run

    (tmp_path / "doc.txt").write_text("A text of one line.")
    assert run(["prefill", str(tmp_path / "doc.txt"), "-m", str(tiny_model)]) == 0
    shutil.copy(tmp_path / "doc.gfc", tmp_path / ".doc.gfc.journal")
    assert run(["prefill", str(tmp_path / "doc.txt"), "-m", str(tiny_model)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["doc.gfc", "doc.txt"]


def started(model: Path, document: Path, folder: Path) -> subprocess.Popen[bytes]:
    environment = dict(os.environ) | {"GF_JOURNAL_SECONDS": "0"}
    command = [sys.executable, "-m", "gfcli", "prefill", str(document), "-m", str(model), "-o", f"{folder}/"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed_at_a_random_moment_then_the_same_command(number: int, tmp_path: Path, capsys) -> None:
    """A model slow enough to be met at work; the final file equals an uninterrupted run's."""
    from gfcli.app import run

    model, document, folder = tmp_path / "model", tmp_path / "doc.txt", tmp_path / "out"
    assert run(["model", "init", "--preset", "goldfinch-small", "--seed", "1", "-o", str(model), *tokenizer()]) == 0
    document.write_text((SAMPLES / "us-constitution.txt").read_text() * 3)
    assert run(["prefill", str(document), "-m", str(model), "-o", f"{tmp_path}/whole.gfc", "-q"]) == 0
    process = started(model, document, folder)
    journal = folder / ".doc.gfc.journal"
    deadline = time.monotonic() + PATIENCE_S
    while not journal.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(Random().random() * 0.5)
    process.send_signal(number)
    process.communicate()
    assert process.returncode in {signal.SIGINT: (130,), signal.SIGTERM: (143,), signal.SIGKILL: (-9,)}[number]
    assert not (folder / "doc.gfc").exists()
    with gfcache.read_cache(journal) as file:
        done = file.header.tokens
    process = started(model, document, folder)
    _, err = process.communicate()
    assert process.returncode == 0
    assert f"{done:,} reused" in err.decode(), err.decode()
    capsys.readouterr()
    assert run(["diff", str(folder / "doc.gfc"), str(tmp_path / "whole.gfc")]) == 0
    assert [p.name for p in folder.iterdir()] == ["doc.gfc"]


def tokenizer() -> list[str]:
    from goldfinch.weights.directory import ASSETS, DEFAULT_MODEL

    return ["--tokenizer", str(ASSETS / DEFAULT_MODEL / "tokenizer.json")]


@pytest.mark.parametrize("kind", ["link", "dangling link", "link to a cache", "pipe", "diary"])
def test_what_has_the_name_of_the_journal_and_is_none_stays(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    """A link `.doc.gfc.journal` turned the file that it leads to into a cache."""
    model = goldfinch.load_model(tiny_model)
    output, target = tmp_path / "doc.gfc", tmp_path / ".bashrc"
    ids = torch.arange(2 * BLOCK_TOKENS + 9)[None] % 300
    if kind == "link to a cache":
        goldfinch.prefill(model, ids[:, :64]).save(target)
    elif kind == "link":
        target.write_text("export A=1")
    journal = Journal(output, 0.0)
    if kind == "pipe":
        os.mkfifo(journal.path)
    elif kind == "diary":
        journal.path.write_text("a diary")
    else:
        journal.path.symlink_to(target)
    before = target.read_bytes() if target.exists() else None
    assert journal.read(model) is None
    cache = goldfinch.prefill(model, ids, journal=journal)
    assert "its journal" in str(journal.obstacle)
    journal.finish(lambda: cache.save(output))
    assert os.path.lexists(journal.path)
    assert (target.read_bytes() if target.exists() else None) == before
    assert gfcache.verify_cache(output).tokens == 2 * BLOCK_TOKENS + 9


def test_a_journal_of_another_user_is_not_believed(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = goldfinch.load_model(tiny_model)
    journal = Journal(tmp_path / "doc.gfc", 0.0)
    goldfinch.prefill(model, torch.arange(64)[None]).save(journal.path)
    assert journal.read(model) is not None
    os.chown(journal.path, 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert journal.read(model) is None
