"""Exact match and F1."""

from __future__ import annotations

import pytest

from goldfinch.evaluate.scoring import exact_match, f1, names_one


def test_scores() -> None:
    assert exact_match("The Admiral Benbow.", ["admiral benbow"])
    assert not exact_match("Benbow", ["Admiral Benbow"])
    assert f1("a seafaring man", ["seafaring man with one leg"]) == pytest.approx(2 * 1 * 0.4 / 1.4)
    assert f1("nothing", ["something"]) == 0


def test_an_answer_names_a_form_on_word_boundaries_and_in_few_words() -> None:
    assert names_one("It is £1,850 a night.", ["1850"])
    assert names_one("the twenty-two of them", ["twenty two"])
    assert not names_one("It was 11850.", ["1850"])
    assert not names_one("one two three four five six seven eight nine ten 1850", ["1850"])
    assert not names_one("Not stated.", ["1850"])
