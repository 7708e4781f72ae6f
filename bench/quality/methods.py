"""One record of reports of `gf bench methods`, small enough to be kept.

    gf bench methods --models gf-mini-4 --tasks facts,needles-7 --lengths 1k --json -o report/ > report.json
    python -m bench.quality.methods report.json [OTHER.json ...] [--record] [--add]

Each report is what the command printed with --json; with --add the record keeps those that it has of other commands.
Kept are its conditions, what was compared, scores with intervals
and paired differences, and bytes. Times and memory are left out: a comparison that goes on for hours shares its
machine. A report of a checkout with changes is refused.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from bench.places import RESULTS, add_record, write_record

Row = dict[str, Any]
_COSTS = ("model", "method", "tokens", "documents", "quality", "lost", "on_front")


def compact(report: Row) -> Row:
    """What is kept of a report.

    Raises:
        ValueError: it is none, or of no commit.
    """
    if report.get("what") != "comparison":
        raise ValueError("this is not what gf bench methods --json prints")
    commit = report["conditions"]["commit"]
    if commit is None or commit.endswith("-dirty"):
        raise ValueError(f"it was measured at {commit}, which is no commit: measure in a clean checkout")
    return {
        "conditions": report["conditions"],
        "command": _command(report["command"]),
        "enough_questions": report["enough_questions"],
        "methods": [{name: one[name] for name in ("name", "family", "settings")} for one in report["methods"]],
        "tasks": report["tasks"],
        "models": report["models"],
        "cells": [_cell(cell) for cell in report["cells"]],
        "costs": [_cost(cost) for cost in report["costs"]],
        "gaps": [
            {name: gap[name] for name in ("model", "method", "task", "tokens")} | {"gap": _mean(gap["gap"])}
            for gap in report["gaps"]
        ],
    }


def _command(command: str) -> str:
    """As others would type it: models by their names, wherever they lay, and a folder of no meaning."""
    command = re.sub(r" -o \S+", " -o report/", command)
    return re.sub(r"(?<=--models )\S+", lambda found: re.sub(r"[^,]*/(?=[^,/])", "", found[0]), command)


def _cell(cell: Row) -> Row:
    kept = {name: cell[name] for name in ("model", "method", "task", "tokens")}
    return kept | {"score": _mean(cell["score"]), "difference": cell["difference"] and _mean(cell["difference"])}


def _mean(mean: Row) -> Row:
    rounded = {name: None if mean[name] is None else round(mean[name], 4) for name in ("value", "low", "high")}
    return rounded | {"questions": mean["questions"], "documents": mean["documents"]}


def _cost(cost: Row) -> Row:
    parts = {name: round(size) for name, size in cost["parts"].items()}
    sizes = {"length": round(cost["length"], 1), "bytes": round(cost["bytes"]), "parts": parts}
    return {name: cost[name] for name in _COSTS} | sizes


def main() -> None:
    """Write the record of some reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT")
    parser.add_argument("--add", action="store_true", help="keep the reports that the record has of other commands")
    add_record(parser, RESULTS / "methods.json")
    options = parser.parse_args()
    reports = [compact(json.loads(path.read_text())) for path in options.reports]
    if options.add and options.record is not None and options.record.exists():
        made = {report["command"] for report in reports}
        known = json.loads(options.record.read_text())["reports"]
        reports = [report for report in known if report["command"] not in made] + reports
    record = {"what": "methods compared by quality and bytes", "reports": reports}
    for report in reports:
        for cost in report["costs"]:
            quality = "" if cost["quality"] is None else f", {100 * cost['quality']:.1f}"
            print(f"{cost['model']}, {cost['tokens']:,} tokens, {cost['method']}: {cost['bytes']:,} bytes{quality}")
    write_record(options.record, record)


if __name__ == "__main__":
    main()
