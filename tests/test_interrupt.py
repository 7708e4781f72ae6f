"""Ctrl-C ends the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = """
import contextlib, signal

def test_that_makes_an_exit_code_of_it():
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

def test_after_it():
    raise AssertionError
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "loadfile")], ids=["alone", "in a worker"])
def test_ctrl_c_ends_the_run_whoever_catches_it(tmp_path: Path, workers: tuple[str, ...]) -> None:
    if workers:
        pytest.importorskip("xdist")
    (tmp_path / "test_two.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", *workers, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "failed" not in done.stdout
