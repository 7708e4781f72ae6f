"""Exact match and F1."""

from __future__ import annotations

import pytest

from goldfinch.evaluate.scoring import exact_match, f1


def test_scores() -> None:
    assert exact_match("The Admiral Benbow.", ["admiral benbow"])
    assert not exact_match("Benbow", ["Admiral Benbow"])
    assert f1("a seafaring man", ["seafaring man with one leg"]) == pytest.approx(2 * 1 * 0.4 / 1.4)
    assert f1("nothing", ["something"]) == 0
