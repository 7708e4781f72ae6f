"""How many processes the tests run in."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import WORKERS, pytest_cmdline_main

ALL, NAMED = pytest.Config.ArgsSource.TESTPATHS, pytest.Config.ArgsSource.ARGS


@pytest.fixture(autouse=True)
def _first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_XDIST_WORKER", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is put back, whoever sets it
        monkeypatch.delenv(name)


def decided(monkeypatch: pytest.MonkeyPatch, cores: int, source: Any = ALL, xdist: bool = True, **given: Any) -> Any:
    """The options of a call of pytest as they are then."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    option = SimpleNamespace(**({"numprocesses": None, "dist": "no", "capture": "fd", "usepdb": False} | given))
    plugins = SimpleNamespace(hasplugin=lambda name: xdist and name == "xdist")
    config: Any = SimpleNamespace(option=option, args_source=source, pluginmanager=plugins)
    pytest_cmdline_main(config)
    return option


@pytest.mark.parametrize(("cores", "workers", "threads"), [(2, 2, "1"), (3, 3, "1"), (16, WORKERS, "4")])
def test_the_whole_suite_shares_the_cores(
    cores: int, workers: int, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = decided(monkeypatch, cores)
    assert (option.numprocesses, option.dist) == (workers, "loadfile")
    assert os.environ["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize(
    "how",
    [{"cores": 1}, {"source": NAMED}, {"xdist": False}, {"capture": "no"}, {"usepdb": True}, {"numprocesses": 0}],
    ids=str,
)
def test_it_stays_in_one_process(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    option = decided(monkeypatch, **({"cores": 4} | how))
    assert (option.numprocesses or 0, option.dist) == (0, "no")
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_worker_starts_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the same command line as the first process."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert decided(monkeypatch, 4).numprocesses is None
