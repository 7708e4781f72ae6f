"""What gf keeps of documents, questions and models is its user's alone, whatever the umask."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from gfcache.files.locks import lock_path

from tests.gfcli.conftest import TEXT

PROGRAM = """
import json, os, sys
os.umask(int(sys.argv[1]))
from gfcli.app import run
codes = [run(line) for line in json.loads(sys.argv[2])]
from goldfinch.measure.precision import quickest_dtype
from gfcli.support.prompt import _history
with _history():
    quickest_dtype("cpu")
sys.exit(max(codes))
"""
LINES = (
    ["ask", "doc.txt", "-n", "1", "What?"],
    ["ask", "-r", "docs", "-n", "1", "Congress"],
    ["search", "Congress"],
    ["model", "verify"],
    ["model", "measure", "--lengths", "500"],
    ["plan", "doc.txt"],
    ["prefill", "doc.txt", "-q"],
    ["log"],
)


def run_all(umask: int, folder: Path, model: Path, lines: Sequence[Sequence[str]] = LINES) -> tuple[Path, Path]:
    """Run the commands; the home of their user, and the folder with the documents."""
    home, work = folder / "home", folder / "work"
    (work / "docs").mkdir(parents=True, exist_ok=True)
    home.mkdir(exist_ok=True)
    for name in ("doc.txt", "docs/a.txt"):
        (work / name).write_text(TEXT[:1500])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "GF_"))}
    environment = kept | {
        "HOME": str(home),
        "GF_MODELS_DIR": str(model.parent),
        "GF_MODEL": model.name,
        "GF_LOG": "1",
        "GF_KERNELS": "torch",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(umask), json.dumps(lines)],
        capture_output=True, text=True, check=False, cwd=work, env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return home, work


@pytest.mark.parametrize("umask", [0, 0o022])
def test_files_and_folders_are_private(umask: int, tmp_path: Path, tiny_model: Path) -> None:
    home, work = run_all(umask, tmp_path, tiny_model)
    paths = [*home.rglob("*"), *work.rglob("*.gfc")]
    found = {str(path.relative_to(home)) for path in paths if path.is_file() and home in path.parents}
    names = (
        "answers.jsonl",
        "known.sqlite3",
        "index.sqlite3",
        "reading.json",
        "machine-profile.json",
        "quickest-dtype.json",
    )
    assert [name for name in names if not any(path.endswith(name) for path in found)] == []
    loose = {str(path): oct(path.stat().st_mode) for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077}
    assert loose == {}


@pytest.mark.slow
def test_what_writers_left_that_were_killed_right_behind_their_work_goes_with_the_next_run(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Files that are there already are not written again, so nobody took their locks."""
    lines = [line for line in LINES if line[:2] != ["model", "measure"]]  # which takes half a minute, and always writes
    home, work = run_all(0o022, tmp_path, tiny_model, lines)
    written = [path for place in (home, work) for path in place.rglob("*") if path.is_file()]
    locks = [lock_path(path) for path in written if path.suffix in (".gfc", ".json", ".jsonl")]
    assert len(locks) > 5
    for lock in locks:
        lock.touch()
    run_all(0o022, tmp_path, tiny_model, lines)
    assert [str(lock.relative_to(tmp_path)) for lock in locks if lock.exists()] == []
