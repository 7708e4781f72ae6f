"""Where records and pages lie."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from goldfinch.weights.directory import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
SAMPLES = ROOT / "docs" / "samples"
PLOTS = ROOT / "docs" / "plots"
EMBEDDED = ROOT / "goldfinch" / "assets" / DEFAULT_MODEL


def of_embedded(what: str) -> Path:
    """The record about the embedded model: of its evaluation, "eval"."""
    return RESULTS / f"{what}-{DEFAULT_MODEL}.json"


def add_record(parser: argparse.ArgumentParser, path: Path) -> None:
    """Give a bench the option --record: without it nothing is written.

    Args:
        path: of the committed record, which --record without a file of its own writes.
    """
    place = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    parser.add_argument(
        "--record", nargs="?", type=Path, const=path, metavar="FILE", help=f"write the record: {place}, or FILE"
    )


def write_record(path: Path | None, record: dict[str, Any]) -> None:
    """Write a record where that is asked for."""
    if path is not None:
        path.write_text(json.dumps(record, indent=2) + "\n")
