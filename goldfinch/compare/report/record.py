"""The report as one JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from goldfinch.compare.run import ENOUGH
from goldfinch.compare.summary import Summary
from goldfinch.compare.tasks.registry import TASKS
from goldfinch.measure.conditions import git_commit, processor


def record(summary: Summary, command: str) -> dict[str, Any]:
    """Everything that was measured, as `gf bench methods --json` prints it.

    Args:
        command: that made it.
    """
    return {
        "schema_version": 1,
        "what": "comparison",
        "command": command,
        "conditions": {"commit": git_commit(), "processor": processor()},
        "enough_questions": ENOUGH,
        "methods": [
            {"name": one.name, "family": one.family, "settings": one.settings, "source": one.paper}
            for one in summary.options.methods
        ],
        "tasks": [
            {"name": one.name, "category": one.category, "measure": one.measure} for one in summary.options.tasks
        ],
        "models": [
            {
                "name": one.name,
                **one.about,
                "untrained": one.untrained,
                "not_run": [asdict(lack) for lack in one.not_run],
            }
            for one in summary.models
        ],
        "cells": [{**asdict(cell), "measure": TASKS[cell.task].measure} for cell in summary.cells],
        "costs": [{**asdict(cost), "bytes_per_token": cost.bytes_per_token} for cost in summary.costs],
        "depths": [asdict(depth) for depth in summary.depths],
        "gaps": [asdict(gap) for gap in summary.gaps],
    }
