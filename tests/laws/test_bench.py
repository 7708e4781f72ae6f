"""Benches say with --help what they do, and write no record that nobody asked for."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from bench.places import RESULTS, ROOT, add_record, write_record

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "bench").glob("*/*.py")
    if 'if __name__ == "__main__":' in path.read_text()
)


class Parsed(Exception):
    """A bench has come as far as its arguments."""


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Some benches choose kernels as they are imported: later tests are not theirs."""
    with patch.dict(os.environ):
        yield


@pytest.mark.parametrize("name", MODULES)
def test_arguments_come_before_anything_else_and_no_record_is_the_default(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--help` ran a bench, and overwrote the committed record."""
    module = importlib.import_module(name)
    parsers: list[argparse.ArgumentParser] = []

    def parse(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        parsers.append(parser)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(Parsed):
        module.main()
    (parser,) = parsers
    assert not parser.get_default("record")
    for action in parser._actions:
        assert not (isinstance(action.default, Path) and action.default.is_relative_to(RESULTS)), action.dest
    if "RESULTS" in vars(module) and "record" in Path(str(module.__file__)).read_text() and "report" not in name:
        assert "--record" in parser.format_help()


def test_help_ends_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in RESULTS.iterdir()}
    monkeypatch.setattr("sys.argv", ["questions", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bench.speed.questions", run_name="__main__")
    assert ended.value.code == 0
    assert "--record" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in RESULTS.iterdir()} == before


def test_a_record_goes_where_it_is_asked_to(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_record(parser, tmp_path / "usual.json")
    for words, written in (([], None), (["--record"], "usual.json"), (["--record", str(tmp_path / "b")], "b")):
        write_record(parser.parse_args(words).record, {"what": written})
        names = [path.name for path in tmp_path.iterdir()]
        assert names == ([] if written is None else [written])
        for path in tmp_path.iterdir():
            path.unlink()


def _commits(found: Any) -> Iterator[str]:
    """Every commit that a record names, at any depth."""
    if isinstance(found, dict):
        yield from (str(value) for key, value in found.items() if key == "commit")
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _commits(inner)


def test_no_record_is_of_changed_code() -> None:
    """What was measured can be measured again: the commit of a record is the code that made it."""
    commits = {path.name: set(_commits(json.loads(path.read_text()))) for path in RESULTS.glob("*.json")}
    assert not {name: found for name, found in commits.items() if any(c.endswith("-dirty") for c in found)}
    assert sum(map(bool, commits.values())) > len(commits) / 2


def test_the_readme_of_the_benches_names_them_all() -> None:
    text = (ROOT / "bench" / "README.md").read_text()
    missing = [name for name in MODULES if f"`{name}" not in text and not name.endswith((".plain_loop", ".foreign"))]
    assert not missing
