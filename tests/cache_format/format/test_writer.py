"""Writing: whole or not at all, and nothing that no reader would accept."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import signal
from pathlib import Path

import gfcache
import numpy as np
import pytest
from gfcache import SectionData, layout

from tests.cache_format.small_cache import CONFIG, expect_unwritable, header, sections


def test_a_failed_write_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(gfcache.CacheWriteError, match="No space left"):
                gfcache.write_cache(path, header(writer="other"), sections())
        assert path.read_bytes() == before
        assert [p.name for p in path.parent.iterdir()] == ["doc.gfc"]


def nested(value: list[object], _: int) -> list[object]:
    return [value]


def test_what_no_reader_would_accept_is_not_written(tmp_path: Path) -> None:
    text = SectionData("text", layout.SOURCE_TEXT, "u8", np.arange(3), required=False)
    expect_unwritable(tmp_path, [*sections(), text, text], "R9")
    many = [dataclasses.replace(text, name=str(n)) for n in range(layout.MAX_SECTIONS + 1)]
    expect_unwritable(tmp_path, many, "R9")
    expect_unwritable(tmp_path, [*sections(), dataclasses.replace(text, name="n" * 201)], "R9")
    expect_unwritable(tmp_path, sections(), "R7", source={"name": "a\udcff.txt"})
    expect_unwritable(tmp_path, sections(), "R7", source={"name": "a\0.txt"})
    expect_unwritable(
        tmp_path, sections(), "R6", source={"name": "a", "later": functools.reduce(nested, range(40), [])}
    )
    deep: list[object] = functools.reduce(nested, range(3000), [])
    expect_unwritable(tmp_path, sections(), "R6", source={"name": "a", "later": deep})
    expect_unwritable(tmp_path, sections(), "R6", source={"name": "a", "later": float("nan")})
    expect_unwritable(tmp_path, sections(), "R8", tokens=0)
    expect_unwritable(tmp_path, sections(), "R4", writer="w" * layout.MAX_HEADER_BYTES)


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        gfcache.write_cache(tmp_path / "doc.gfc", header(), sections())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["tempfile.mkstemp", "fcntl.flock", "os.fsync", "os.replace", "os.unlink"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_wherever_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: signal.Signals
) -> None:
    """The signal is there when the system call is done and before Python has kept what it gave."""
    module, _, name = step.partition(".")
    real = getattr(importlib.import_module(module), name)

    def signalled(*arguments: object, **named: object) -> object:
        result = real(*arguments, **named)
        signal.raise_signal(number)
        return result

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.{name}", signalled)
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            gfcache.write_cache(tmp_path / "doc.gfc", header(), sections())
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert {p.name for p in tmp_path.iterdir()} <= {"doc.gfc"}
    monkeypatch.undo()
    gfcache.write_cache(tmp_path / "doc.gfc", header(), sections())


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(gfcache.CacheWriteError):
        gfcache.write_cache(tmp_path / "no" / "doc.gfc", header(), sections())


def test_a_document_of_one_repeated_token_is_readable(tmp_path: Path) -> None:
    """zstandard would shrink it beyond what a reader accepts (R11): it is stored raw."""
    count = 4_000_000
    ids = np.zeros(count, np.uint16)
    template = {"prefix_fingerprint": "d" * 64, "document_start": 0, "document_end": count}
    path = tmp_path / "x.gfc"
    data = [SectionData(layout.TOKEN_IDS, layout.TOKEN_IDS, "u16", ids, token_start=0, codec="zstd")]
    model = header().model | {"config": CONFIG | {"upper_time_mix": None}}  # no compressed_k
    gfcache.write_cache(path, header(tokens=count, template=template, model=model), data)
    assert gfcache.verify_cache(path).tokens == count
