"""The part of docs/benchmarks.md about a question in a new process (bench.speed.light)."""

from __future__ import annotations

from typing import Any


def light_lines(record: dict[str, Any] | None) -> list[str]:
    """The section of docs/benchmarks.md; nothing without a record."""
    if record is None:
        return []
    place = (
        f"{record['model']}, a cache of {record['tokens']:,} tokens; {record['processor']}, commit {record['commit']}"
    )
    lines = ["## A question in a new process", "", f"{place}.", ""]
    lines += [
        "From the start of the process to its end, medians (minimum to maximum) of "
        f"{record['repeats']} interleaved repeats, by the clock and in seconds of the processor: the machine served "
        "others as well, which the clock shows and the processor's seconds hardly do.",
        "",
        "| | clock, s | processor, s |",
        "|---|---|---|",
    ]
    for row in record["rows"]:
        lines.append(f"| `{row['program']}` | {_seconds(row['clock_s'])} | {_seconds(row['processor_s'])} |")
    to_import, to_torch = (record[f"processor_ratio_to_{name}"] for name in ("import", "torch"))
    lines += ["", f"`gf ask` takes {to_import['median']:.2f} of the processor's seconds of `import torch` alone, and "
              f"{to_torch['median']:.2f} of those of the same question with torch."]  # fmt: skip
    return [*lines, ""]


def _seconds(values: dict[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f} to {values['max']:.2f})"
