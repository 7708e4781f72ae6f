"""Runs of words that texts share."""

from __future__ import annotations

import numpy as np
import pytest

from goldfinch.evaluate.overlap import evaluate_overlap, word_runs


def test_overlap_counts_runs_of_words() -> None:
    words = [f"w{i}" for i in range(40)]
    text = " ".join(words)
    assert len(word_runs(text, 13)) == 28
    assert np.array_equal(word_runs(text.upper() + "!", 13), word_runs(text, 13))
    sets = {"whole": [text], "first": [" ".join(words[:26])], "none": [" ".join(reversed(words)), "too short"]}
    found = evaluate_overlap(sets, [" ".join(words[:26])])
    half = found["whole"]
    assert half["shared_runs"] == pytest.approx(14 / 28)
    assert half["touched_documents"] == 1.0
    assert half["copied_documents"] == 0.0
    assert found["first"]["shared_runs"] == found["first"]["copied_documents"] == 1.0
    assert found["none"]["shared_runs"] == 0.0
    assert found["none"]["documents"] == 1
