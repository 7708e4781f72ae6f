"""Records of what was measured of a model: which one counts, what is refused, what a calibration says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from goldfinch.policies import measured
from goldfinch.policies.measured import (
    NOTHING,
    OWN_RECORD,
    WHOLE,
    Calibration,
    Choice,
    Measured,
    parsed,
    record_of,
)

ROWS = [
    {"least_tokens": 2000, "policy": "hybrid", "blocks": 1, "candidates": 3, "choice": {"silence": -0.5, "margin": 1}},
    {"least_tokens": 500, "policy": "lexical", "blocks": 2},
]
CONFIDENCE = {
    "lexical": {"auc": 0.75, "intercept": -1.0, "score_weight": 2.0, "likelihood_weight": 3.0},
    "all": {"auc": 0.52, "intercept": None, "reason": "tells nothing"},
}
LEAST = {"lexical": 0.4}


def write(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": ROWS, "confidence": CONFIDENCE, "least_likelihood": LEAST} | changes))
    return path


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(measured, "RECORDS", tmp_path / "shipped")
    return write(tmp_path / "shipped" / f"{'a' * 64}.json")


@pytest.mark.usefixtures("shipped")
def test_the_longest_row_that_fits_counts() -> None:
    record = record_of("a" * 64, None)
    assert record.reading(499) == WHOLE
    assert record.reading(1999) == Measured("lexical", 2, 500)
    assert record.reading(2000) == Measured("hybrid", 1, 2000, 3, Choice(silence=-0.5, margin=1.0))
    assert record_of("b" * 64, None) is record_of(None, None) is NOTHING


@pytest.mark.usefixtures("shipped")
def test_the_users_own_measurement_comes_first_and_a_new_one_is_noticed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert record_of("a" * 64, own).reading(3000).policy == "hybrid"
    write(own / OWN_RECORD, rows=[], confidence={}, least_likelihood={})
    assert record_of("a" * 64, own).reading(3000) == WHOLE
    assert record_of("a" * 64, own).calibrations.keys() == CONFIDENCE.keys()  # ours, where it has none
    assert record_of("a" * 64, own).least_likelihood == LEAST
    write(own / OWN_RECORD, rows=[{"least_tokens": 0, "policy": "attention", "blocks": 4}])
    assert record_of("a" * 64, own).reading(3000) == Measured("attention", 4)


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 3},
        {"rows": [ROWS[0] | {"policy": "auto"}]},
        {"rows": [ROWS[0] | {"policy": "../lexical"}]},
        {"rows": [ROWS[0] | {"blocks": 65}]},
        {"rows": [ROWS[0] | {"blocks": True}]},
        {"rows": [ROWS[0] | {"least_tokens": -1}]},
        {"rows": [ROWS[0] | {"candidates": 9}]},
        {"rows": [ROWS[0] | {"choice": {"match": 1e7}}]},
        {"rows": [ROWS[0] | {"choice": {"match": "1"}}]},
        {"rows": [ROWS[0] | {"choice": [1]}]},
        {"rows": ROWS * 40},
        {"confidence": {"auto": CONFIDENCE["all"]}},
        {"confidence": {"all": {"auc": 1.5}}},
        {"confidence": {"all": {"auc": 0.5, "reason": "x" * 301}}},
        {"confidence": {"all": {"auc": 0.5, "intercept": 10**400}}},
        {"least_likelihood": {"lexical": 1.5}},
        {"least_likelihood": {"auto": 0.5}},
        {"least_likelihood": {"all": "0.5"}},
    ],
)
def test_a_record_that_is_none_is_as_if_it_were_not_there(changes: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "own"
    path = write(own / OWN_RECORD, **changes)
    with pytest.raises(ValueError):  # noqa: PT011  its words are for nobody
        parsed(json.loads(path.read_text()))
    assert record_of("a" * 64, own).reading(3000).policy == "hybrid"
    path.write_text("[" * 100_000)
    assert record_of("a" * 64, own).reading(3000).policy == "hybrid"


def test_what_is_shipped_can_be_read_and_names_its_measurements() -> None:
    paths = sorted(measured.RECORDS.glob("*.json"))
    assert paths
    for path in paths:
        value = json.loads(path.read_text())
        assert parsed(value) == record_of(path.stem, None) != NOTHING
        for name in ("record", "confidence_record"):
            assert (Path(__file__).parents[3] / value[name]).is_file()


def test_a_calibration_is_a_logistic_function() -> None:
    found = parsed({"rows": [], "confidence": CONFIDENCE}).calibrations
    x = -1 + 2 * 1.5 + 3 * math.log(0.5)
    assert found["lexical"].probability(1.5, 0.5) == pytest.approx(1 / (1 + math.exp(-x)))
    assert found["lexical"].probability(1e6, 1.0) == 1
    assert 0 <= found["lexical"].probability(-1e6, 0.0) < 1e-300
    assert found["all"] == Calibration(0.52, reason="tells nothing")
    assert found["all"].probability(1.5, 0.5) is None
