"""Calibrations: a known function is found again, noise is called noise, no question judges its own fit."""

from __future__ import annotations

import math
from random import Random

import pytest

from goldfinch.evaluate.calibrating import (
    LEAST_AUC,
    Answered,
    Watched,
    auc,
    calibrated,
    expected_error,
    fitted_choice,
    left_out,
    with_margin,
)
from goldfinch.policies.measured import Choice, Evidence


def answers(count: int, *, noise: bool = False) -> list[Answered]:
    rng, rows = Random(3), list[Answered]()
    for n in range(count):
        score, likelihood = rng.random() * 3, rng.random()
        p = 0.4 if noise else 1 / (1 + math.exp(-(-2 + 1.5 * score + 2 * math.log(likelihood))))
        rows.append(Answered(str(n % 9), score, likelihood, rng.random() < p))
    return rows


def test_auc_counts_pairs() -> None:
    assert auc([1, 2, 3, 4], [False, False, True, True]) == 1
    assert auc([1, 2, 3, 4], [False, True, False, True]) == 0.75
    assert auc([1, 1], [False, True]) == 0.5
    assert auc([1, 2], [True, True]) == 0.5


def test_a_known_function_is_found_again() -> None:
    found = calibrated(answers(6000))
    assert found.intercept == pytest.approx(-2, abs=0.35)
    assert found.score_weight == pytest.approx(1.5, abs=0.25)
    assert found.likelihood_weight == pytest.approx(2, abs=0.35)
    assert found.auc > 0.75


def test_probabilities_are_shares_of_right_answers() -> None:
    rows = answers(6000)
    pairs = list(zip(left_out(rows), (row.right for row in rows), strict=True))
    for low in (0.0, 0.25, 0.5, 0.75):
        within = [(p, right) for p, right in pairs if low <= p < low + 0.25]
        assert len(within) > 100
        assert sum(right for _, right in within) / len(within) == pytest.approx(
            sum(p for p, _ in within) / len(within), abs=0.06
        )


def test_where_nothing_is_told_apart_the_reason_stands_instead() -> None:
    found = calibrated(answers(1500, noise=True))
    assert found.auc < LEAST_AUC
    assert found.intercept is None
    assert found.probability(1.0, 0.5) is None
    assert found.reason is not None
    assert "1500 questions" in found.reason


def test_a_group_does_not_judge_its_own_fit() -> None:
    rows = answers(400)
    turned = [row if row.group != "0" else Answered("0", row.score, row.likelihood, not row.right) for row in rows]
    for before, after, row in zip(left_out(rows), left_out(turned), rows, strict=True):
        assert (before == after) == (row.group == "0")


def test_answers_without_a_score_and_answers_all_alike() -> None:
    rows = [Answered(row.group, 0.0, row.likelihood, row.likelihood > 0.5) for row in answers(300)]
    found = calibrated(rows)
    assert found.score_weight == 0
    assert found.auc > 0.99
    assert math.isfinite(found.likelihood_weight)
    assert calibrated([Answered(str(n % 3), 1.0, 0.5, n % 2 == 0) for n in range(60)]).intercept is None


def test_the_expected_error_is_the_gap_of_each_bin_weighed() -> None:
    believed = [(0.95, True)] * 19 + [(0.95, False)]
    assert expected_error(believed) == pytest.approx(0)
    assert expected_error([*believed, *[(0.25, False)] * 20]) == pytest.approx(0.125)
    # Too high in one bin does not make up for too low in another.
    assert expected_error([(0.75, False), (0.25, True)]) == pytest.approx(0.75)
    assert expected_error([(1.0, True), (0.0, False)]) == 0


def watched(rng: Random, tells: bool) -> Watched:
    """A question whose answer the first block holds in seven of ten, and whose blocks copying tells apart, or not."""
    right = rng.choices(range(3), (7, 2, 1))[0]
    copied = [rng.gauss(2.0 if tells and n == right else 0.0, 1) for n in range(3)]
    evidence = tuple(Evidence(1.0 - n / 4, rng.gauss(-2, 1), 0.0, copied[n]) for n in range(3))
    return Watched(evidence, tuple(n == right for n in range(3)))


def test_what_tells_blocks_apart_is_weighed() -> None:
    rng = Random(0)
    rows, others = ([watched(rng, True) for _ in range(400)] for _ in range(2))
    choice = fitted_choice(rows)
    assert choice.copied > 1
    assert choice.score > 0
    assert abs(choice.silence) < 0.3
    assert choice.match == 0  # it is the same everywhere

    def right(choice: Choice) -> int:
        return sum(row.holds[choice.best(row.evidence)] for row in others)

    assert right(choice) > right(Choice()) + 20


def test_without_evidence_the_first_block_stays() -> None:
    rng = Random(1)
    rows = [watched(rng, False) for _ in range(400)]
    choice, found = with_margin(fitted_choice(rows), rows)
    assert [choice.best(row.evidence) for row in rows].count(0) > 380
    assert found[-1].holds == sum(row.holds[0] for row in rows)
    assert fitted_choice([]) == Choice()


def test_a_margin_keeps_what_is_not_stated() -> None:
    """Two blocks of which the second seems a little better: where nothing is stated, the first says so."""
    blocks = (Evidence(1.0, -0.1, 0.0, 0.1), Evidence(0.9, -3.0, 0.0, 0.4))
    surer = (Evidence(1.0, -0.1, 0.0, 0.1), Evidence(0.9, -3.0, 0.0, 2.0))
    rows = [Watched(blocks, (False, False), absent=True)] * 3 + [Watched(surer, (False, True))] * 2
    choice, found = with_margin(Choice(copied=1.0), rows)
    assert (found[0].holds, found[0].silent) == (2, 0)
    assert 0.2 <= choice.margin < 1.8
    best = next(row for row in found if row.margin == choice.margin)
    assert (best.holds, best.silent) == (2, 3)
