"""The part of docs/benchmarks.md about the first token of an answer from a cache file (bench.speed.first_token)."""

from __future__ import annotations

from typing import Any

from bench.report.models import conditions_line


def first_token_lines(record: dict[str, Any]) -> list[str]:
    """The section of docs/benchmarks.md."""
    lines = ["## First token from a file, the block found first", "", conditions_line(record["conditions"]), ""]
    lines += [
        "Opening the file, finding the block, rebuilding its rows and the question; random weights, the model loaded. "
        "Medians (minimum to maximum) of interleaved repeats on one thread, each program run once before it is timed, "
        "by the clock and by CPU time: the machine served others as well, which the clock shows and CPU time "
        "does not.",
        "",
        "| | tokens | clock, ms | CPU, ms | of it: open, find, rebuild, question |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        name = f"gf, {row['read']}" if row["peer"] == "gf" else f"{row['peer']}, its saved cache"
        parts = ", ".join(f"{row[f'{part}_ms']['median']:.1f}" for part in ("open", "find", "expand", "question")
                          if f"{part}_ms" in row)  # fmt: skip
        clock, processor = (_milliseconds(row[name_of]) for name_of in ("first_token_ms", "processor_ms"))
        lines.append(f"| {name} | {row['tokens']:,} | {clock} | {processor} | {parts or '-'} |")
    ratios = "; ".join(f"{name}: {value:.2f}" for name, value in record["ratios_of_processor_ms"].items())
    return [*lines, "", f"Ratios of CPU time: {ratios}.", ""]


def _milliseconds(values: dict[str, float]) -> str:
    return f"{values['median']:,.1f} ({values['min']:,.1f} to {values['max']:,.1f})"
