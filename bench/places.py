"""Where records and pages lie."""

from __future__ import annotations

from pathlib import Path

from goldfinch.weights.directory import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
SAMPLES = ROOT / "docs" / "samples"
PLOTS = ROOT / "docs" / "plots"
EMBEDDED = ROOT / "goldfinch" / "assets" / DEFAULT_MODEL


def of_embedded(what: str) -> Path:
    """The record about the embedded model: of its evaluation, "eval"."""
    return RESULTS / f"{what}-{DEFAULT_MODEL}.json"
