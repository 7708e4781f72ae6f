"""The table of architectures in docs/models.md, from the record of `bench.quality.architectures`."""

from __future__ import annotations

from typing import Any

_HOW = {"blocks": "in blocks", "whole_then_steps": "in one piece, then token by token", "refused": "refused"}


def architecture_lines(record: dict[str, Any]) -> list[str]:
    """One row for each architecture: what its layers keep, how documents are computed, and what the check saw."""
    conditions = record["conditions"]
    lines = [
        f"transformers {conditions['transformers']}, torch {conditions['torch']}, f32, tiny random weights: the",
        "largest difference of a logit from one pass without a cache, by how the tokens were computed.",
        "",
        "| architecture | its layers keep | documents | whole | in blocks | token by token |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["architectures"]:
        figures = row.get("figures", {})
        seen = " | ".join(f"{figures[way]:.0e}" if way in figures else "-" for way in ("whole", "blocks", "steps"))
        kept = ", ".join(kind.replace("linear", "states").replace("full", "all rows") for kind in row["layers"])
        kept = kept.replace("sliding", "a window").replace("none", "nothing in a cache")
        how = _HOW[row["schedule"]]
        if "reason" in row:
            how += ": " + row["reason"].partition(": ")[2].partition(",")[0]
        lines.append(f"| {row['name']} | {kept} | {how} | {seen} |")
    return lines
