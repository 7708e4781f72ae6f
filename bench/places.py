"""Where records and pages lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
SAMPLES = ROOT / "docs" / "samples"
PLOTS = ROOT / "docs" / "plots"
