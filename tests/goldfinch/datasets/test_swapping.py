"""Answers exchanged for others of their shape."""

from random import Random

import pytest

from goldfinch.datasets.facts import NOT_STATED
from goldfinch.datasets.swapping import AnswerSwapper, shape

TEXT = "The bridge was built in 1884 by Ada Crane. In 18841 days Ada Crane's bridge fell. The 21 May 1884 was wet."
ASKED = [
    ("When was the bridge built?", "1884"),
    ("Who built it?", "Ada Crane"),
    ("What did Ada Crane build in 1884?", "bridge"),
    ("When was it wet?", "21 May 1884"),
    ("Who painted it?", NOT_STATED),
]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1884", "1702"),
        ("21 May 1884", "14 June 1999"),
        ("Ada Crane", "New York"),
        ("the Duke of Norfolk", "the Earl of Essex"),
        ("three", "twelve"),
        ("12 miles", "30 weeks"),
    ],
)
def test_what_stands_for_each_other(one: str, other: str) -> None:
    assert shape(one) == shape(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [("1884", "884"), ("Ada Crane", "Ada"), ("three", "bridge"), ("$12", "1884"), ("the Duke", "Ada Duke")],
)
def test_what_does_not(one: str, other: str) -> None:
    assert shape(one) != shape(other)


def test_a_long_answer_has_no_shape() -> None:
    assert shape("because the river rose by six feet") is None


def test_text_questions_and_answers_change_together() -> None:
    swapper = AnswerSwapper(["1884", "1702", "Ada Crane", "Tom Reed"], share=1.0)
    text, asked = swapper.swapped(Random(1), TEXT, ASKED)
    seen = {Random(n).random(): swapper.swapped(Random(n), TEXT, ASKED) for n in range(40)}
    both = [result for result in seen.values() if "1702" in result[0] and "Tom Reed" in result[0]]
    assert both, (text, asked)
    text, asked = both[0]
    assert text == (
        "The bridge was built in 1702 by Tom Reed. In 18841 days Tom Reed's bridge fell. The 21 May 1702 was wet."
    )
    assert ("When was the bridge built?", "1702") in asked
    assert ("Who built it?", "Tom Reed") in asked
    assert ("What did Tom Reed build in 1702?", "bridge") in asked
    assert ("When was it wet?", "21 May 1702") in asked
    assert ("Who painted it?", NOT_STATED) in asked


def test_every_answer_stands_in_the_text() -> None:
    swapper = AnswerSwapper(
        ["1884", "1702", "Ada Crane", "Tom Reed", "21 May 1884", "3 June 1702", "bridge"], share=0.7
    )
    for n in range(60):
        text, asked = swapper.swapped(Random(n), TEXT, ASKED)
        assert all(answer == NOT_STATED or answer in text for _, answer in asked)
        assert len(asked) >= len(ASKED) - 1


def test_a_share_of_none_changes_nothing() -> None:
    assert AnswerSwapper(["1702", "1884"], share=0.0).swapped(Random(1), TEXT, ASKED) == (TEXT, ASKED)
