"""How answers are shown: the part of a long line around what was read most."""

from __future__ import annotations

import pytest

from gfcli.support.answers import CUT, MOST_CHARACTERS, around

LINE = " ".join(f"word{n}" for n in range(100))


@pytest.mark.parametrize("column", [1, 2, 60, 300, len(LINE) - 5, len(LINE)])
def test_what_was_read_is_in_what_is_shown(column: int) -> None:
    shown = around(LINE, column)
    assert len(shown) <= MOST_CHARACTERS
    inner = shown.removeprefix(CUT).removesuffix(CUT)
    assert inner in LINE
    start = LINE.index(inner)
    assert start <= column - 1 < start + len(inner)
    assert shown.startswith(CUT) == (start > 0)
    assert shown.endswith(CUT) == (start + len(inner) < len(LINE))


def test_a_short_line_is_shown_whole() -> None:
    assert around("  short line ", 3) == "short line"
    assert around(LINE[:MOST_CHARACTERS], 100) == LINE[:MOST_CHARACTERS]
