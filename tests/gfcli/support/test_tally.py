"""The summary of a run over documents."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gfcli.support import tally as tallies
from gfcli.support.console import console
from gfcli.support.tally import Tally
from goldfinch.jobs.events import PassedOver, Report, Written
from goldfinch.jobs.sources import Source, Sources


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """What the compiled kernels log to; nothing was compiled yet."""
    monkeypatch.setattr(console, "compiling_s", 0.0)
    monkeypatch.setattr(console, "quiet", False)
    return logging.getLogger("gfkernels.native.build")


def test_the_rate_is_that_of_reading(kernels: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """100 s, of which 30 to compile kernels and 60 to verify what was fresh: 1,000 tokens in 10 s."""
    clock = iter([0.0, 100.0])
    monkeypatch.setattr(tallies.time, "perf_counter", lambda: next(clock))
    source, path = Source("a.txt"), Path("a.gfc")
    tally = Tally(Sources([source], []))
    tally.note(PassedOver(source, Report(path, 5000, 5000, 1, seconds=60.0)))
    tally.note(Written(source, Report(path, 1000, 0, 1, seconds=40.0)))
    kernels.info("compiling kernels, once")
    kernels.info("compiling kernels, once: 30.0 s", extra={"seconds": 30.0})
    tally.show()
    assert capsys.readouterr().err == (
        "compiling kernels, once ...\n1 pre-filled, 1 fresh; 1,000 tokens in 100.0 s, 100 tok/s\n"
    )


def test_nothing_is_said_of_kernels_when_quiet(kernels: logging.Logger, capsys) -> None:
    console.quiet = True
    kernels.info("compiling kernels, once")
    kernels.info("done", extra={"seconds": 2.0})
    assert capsys.readouterr().err == ""
    assert console.compiling_s == 2.0
