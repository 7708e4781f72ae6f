"""Intervals over documents, and what nothing beats."""

from __future__ import annotations

import numpy as np
import pytest

from goldfinch.compare.statistics import frontier, mean_of


def test_means() -> None:
    found = mean_of([[1, 0], [1]])
    assert found is not None
    assert (found.value, found.questions, found.documents) == (pytest.approx(2 / 3), 3, 2)
    assert mean_of([[]]) is None


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        documents = (rng.random(30) + rng.normal(0, 0.3, 30)).tolist()
        found = mean_of([[one] for one in documents])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.5 <= found.high
    assert 0.86 < held / 200 < 0.99


def test_questions_to_one_document_are_no_evidence_of_their_own() -> None:
    one, many = (mean_of([[0.0] * n, [1.0] * n, [1.0] * n, [0.0] * n, [1.0] * n]) for n in (1, 50))
    assert one is not None
    assert many is not None
    assert (one.low, one.high) == (many.low, many.high)
    assert one.low is not None
    few = mean_of([[-1.0] * 50] * 4)
    assert few is not None
    assert few.low is None
    assert not few.excludes_zero


def test_a_difference_leaves_out_zero_or_not() -> None:
    lost, same = mean_of([[-1.0], [-0.5]] * 3), mean_of([[-1.0], [1.0], [0.0]] * 2)
    assert lost is not None
    assert same is not None
    assert lost.excludes_zero
    assert not same.excludes_zero


def test_the_front() -> None:
    points = [(10, 0.9), (5, 0.9), (5, 0.4), (2, 0.5), (1, 0.1), (20, 0.91), (3, 0.5)]
    assert frontier(points) == [4, 3, 1, 5]
    assert frontier([]) == []
