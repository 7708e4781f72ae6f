"""The part of docs/benchmarks.md about the choice among several blocks, from bench.quality.choice."""

from __future__ import annotations

from typing import Any

from bench.report.models import conditions_line, percent

SETS = {
    "articles_4000": "articles, 4,000 characters, F1",
    "articles_16000": "articles, 16,000 characters, F1",
    "ordinary": "ordinary documents, right",
    "samples": "whole documents, exact",
}


def choice_lines(record: dict[str, Any]) -> list[str]:
    """The section of docs/benchmarks.md."""
    fitted, weights = record["fitted_to"], record["choice"]
    shown = ", ".join(f"{name} {value:.2f}" for name, value in weights.items())
    lines = ["## Embedded model: which block to answer from", "", conditions_line(record["conditions"]), ""]
    lines += [
        f"The model chooses among the best {record['candidates']} blocks by what it says of each before it answers "
        f"(weights {shown}), fitted to {fitted['questions']} questions that neither training nor the evaluation sees, "
        f"{fitted['absent']} more of which nothing is stated. Two blocks: read together. A perfect choice: the best of "
        f"the {record['candidates']} answers. "
        + ("gf chooses so." if record["used"] else "gf does not choose so: the gain is not certain."),
        "",
        "| questions | the first block | chosen | gain | two blocks | a perfect choice | "
        '"Not stated.": first / chosen, recall and precision |',
        "|---|---|---|---|---|---|---|",
    ]
    for name, words in SETS.items():
        if name in record:
            lines.append(_row(record[name], words))
    return [*lines, ""]


def _row(row: dict[str, Any], words: str) -> str:
    first, chosen, two, perfect = (f"{100 * row[name]:.1f}" for name in ("first", "chosen", "two", "perfect"))
    gain = f"{100 * row['gain']:+.1f} ({100 * row['standard_error']:.1f})"
    said = " / ".join(_said(row["not_stated"][name]) for name in ("first", "chosen")) if row["absent_questions"] else ""
    return "| " + " | ".join([f"{words} ({row['questions']})", first, chosen, gain, two, perfect, said]) + " |"


def _said(shares: dict[str, Any]) -> str:
    precision = "" if shares["precision"] is None else percent(shares["precision"])
    return f"{percent(shares['recall'])}, {precision}"
