"""Rows in a file that may be damaged, or anybody's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goldfinch.compare.rows import MOST_LINE_BYTES, Key, Row, Rows, row_of
from goldfinch.errors import InputRefused

KEY = Key("m", "t", "p", "{}", "int8", "rows int8, states raw", "pairs", 512, 0, 3, "d", "1 1")
ROW = Row(
    KEY, 500, (1.0, 0.5), (0.1, None), (3, 4), {"rows": 1, "states": 2, "ids": 3, "index": 4, "rest": 5},
    1.5, 0.1, 0.01, 0.2, None, 1 << 20, 2.5,
)  # fmt: skip


def changed(**values: Any) -> bytes:
    return json.dumps(json.loads(ROW.line()) | values).encode()


def test_a_row_comes_back(tmp_path: Path) -> None:
    assert row_of(ROW.line().encode()) == ROW
    other = replace(ROW, key=replace(KEY, document=4))
    Rows(tmp_path / "rows.jsonl").add([ROW, other])
    found = Rows(tmp_path / "rows.jsonl")
    assert found.get(KEY) == ROW
    assert found.get(other.key) == other
    assert found.get(replace(KEY, seed=1)) is None
    assert not found.passed_over


def test_every_part_of_a_key_counts() -> None:
    digests = {KEY.digest}
    for name, value in vars(KEY).items():
        digests.add(replace(KEY, **{name: value + 1 if isinstance(value, int) else value + "x"}).digest)
    assert len(digests) == len(vars(KEY)) + 1


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b"null", b"\xff", b"[" * 100_000, ROW.line().encode()[:-9], b"x" * (MOST_LINE_BYTES + 1),
        changed(more=1), changed(digest="0"), changed(key={}), changed(length=0), changed(length=True),
        changed(scores=[1.0]), changed(scores=[]), changed(scores=[-1.0, 0.0]), changed(scores=["1", "2"]),
        changed(scores=[float("nan"), 0.0]), changed(scores=[1e308, 0.0]), changed(depths=[2.0, None]),
        changed(answer_tokens=[1.5, 2]), changed(bytes={"rows": 1}), changed(bytes=None), changed(prefill_s="1"),
        changed(spent_s=-1), changed(decode_tok_s=[]), changed(peak_bytes=-1), changed(load_s=1e9),
        ROW.line().replace('"seed": 0', '"seed": 0, "seed": 0').encode(),
        ROW.line().replace('"int8"', '"\\ud800"').encode(),
    ],
)  # fmt: skip
def test_what_is_no_row_is_passed_over_and_said(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b"\n" + ROW.line().encode() + b"\n")
    found = Rows(path)
    assert [number for number, _ in found.passed_over] == [1]
    assert found.passed_over[0][1]
    assert found.get(KEY) == ROW
    found.add([replace(ROW, key=replace(KEY, document=9))])
    again = Rows(path)
    assert not again.passed_over
    assert again.get(KEY) == ROW


def test_a_last_line_cut_short_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(ROW.line() + "\n" + ROW.line()[:200])
    found = Rows(path)
    assert len(found.passed_over) == 1
    assert found.get(KEY) == ROW


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").symlink_to("/dev/zero")
    with pytest.raises(InputRefused):
        Rows(tmp_path / "rows.jsonl")
