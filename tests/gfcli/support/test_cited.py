"""Lines are named for answers, and for nothing else."""

from __future__ import annotations

import pytest

from gfcli.support.answers import cited_tokens
from goldfinch.engine.answer import Answer, Usage


@pytest.mark.parametrize(
    ("text", "withheld", "tokens"),
    [
        ("48213.", None, [7, 8]), ("Not stated.", None, []), (" Not stated.\n", None, []), ("Not stated.", "48213.", []),
        ("Not stated. But 48213.", None, [7, 8]),
    ],
)  # fmt: skip
def test_no_lines_for_no_answer(text: str, withheld: str | None, tokens: list[int]) -> None:
    assert cited_tokens(Answer(text, [7, 8], Usage(9), withheld=withheld)) == tokens
