"""The speed of this machine, as plans use it: predicted, measured whatever else runs, renewed by what runs show."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import goldfinch
from goldfinch.engine.base import Engine
from goldfinch.library.opening import engine_of
from goldfinch.measure import profile
from goldfinch.measure.profile import MachineProfile, Stopwatch, key_of, machine_profile, note_run, read_profile
from tests.endless import KINDS, guarded, put


def test_profiles_predict_linear_time() -> None:
    assert MachineProfile(1000.0, 0.5).seconds(2000) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("device", "cpu_s", "expected"),
    [("cpu", 1.9, (1.0, False)), ("cpu", 1.0, (1.0, False)), ("cpu", 0.2, (0.2, True)), ("cuda", 0.2, (1.0, False))],
)
def test_time_that_others_had_the_cpus_does_not_count(
    device: str, cpu_s: float, expected: tuple[float, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second passes; two threads may have had more of it, and a program among others has less."""
    wall, cpu = iter([5.0, 6.0]), iter([3.0, 3.0 + cpu_s])
    monkeypatch.setattr(time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(time, "process_time", lambda: next(cpu))
    seconds, is_busy = Stopwatch(device).seconds()
    assert (pytest.approx(seconds), is_busy) == expected


def test_a_profile_of_a_busy_machine_is_measured_again(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, busy = engine_of(goldfinch.load_model(tiny_model)), [True]

    def seconds(engine: object, ids: object) -> tuple[float, bool]:
        return 0.5, busy[0]

    monkeypatch.setattr(profile, "_seconds", seconds)
    assert [machine_profile(engine)[1] for _ in range(2)] == [True, True]
    busy[0] = False
    assert [machine_profile(engine)[1] for _ in range(2)] == [True, False]


@pytest.fixture
def known(tiny_model: Path) -> tuple[Engine[Any], int]:
    """A model whose profile says 233 tokens a second, and the tokens of a run that is long enough to judge it."""
    engine = engine_of(goldfinch.load_model(tiny_model))
    profile.write_profile(key_of(engine), MachineProfile(233.0, 0.0))
    return engine, 100 * engine.block_tokens


@pytest.mark.parametrize(("rate", "renewed"), [(3207.0, True), (100.0, True), (300.0, False), (180.0, False)])
def test_runs_renew_a_profile_that_disagrees_with_them(known, rate: float, renewed: bool) -> None:
    engine, tokens = known
    note_run(engine, tokens, tokens / rate, is_busy=False)
    found = read_profile(key_of(engine))
    assert found is not None
    assert found.tok_s == pytest.approx(rate if renewed else 233.0)


def test_short_runs_say_nothing_and_none_makes_a_profile(known) -> None:
    engine, _ = known
    note_run(engine, 10, 0.001, is_busy=False)
    assert read_profile(key_of(engine)) == MachineProfile(233.0, 0.0)
    profile.profile_path().unlink()
    note_run(engine, 10**6, 1.0, is_busy=False)
    assert read_profile(key_of(engine)) is None


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000, b"{}" + b" " * (1 << 20), b"\xff", b"null",
        *(b'{"KEY": {"tok_s": %b, "document_s": 0.1}}' % value for value in (b"1" + b"0" * 400, b"1e-300", b"0", b"-1")),
        *(b'{"KEY": {"tok_s": 1.0, "document_s": %b}}' % value for value in (b"Infinity", b"1e300", b"NaN", b"[]")),
    ],
)  # fmt: skip
def test_a_strange_profile_is_none(known, content: bytes) -> None:
    key = key_of(known[0])
    profile.profile_path().write_bytes(content.replace(b"KEY", key.encode()))
    assert read_profile(key) is None
    profile.write_profile(key, MachineProfile(5.0, 0.0))
    assert read_profile(key) == MachineProfile(5.0, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_never_ends_is_no_profile(known, kind: str) -> None:
    put(profile.profile_path(), kind)
    with guarded():
        assert read_profile(key_of(known[0])) is None
