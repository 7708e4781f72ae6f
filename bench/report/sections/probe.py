"""The section of docs/benchmarks.md about a probe that would choose rows."""

from __future__ import annotations

from typing import Any

from bench.report.models import conditions_line


def probe_lines(record: dict[str, Any] | None) -> list[str]:
    """What is still answered from the rows that a probe, its label, and other choices keep; nothing of no record."""
    if record is None:
        return []
    whole, *rows = record["rows"]
    shares = sorted({row["keep"] for row in rows}, reverse=True)
    right = {(row["by"], row["keep"]): row["right"] for row in rows}
    names = list(dict.fromkeys(row["by"] for row in rows))
    lines = ["### A probe that would choose them", "", conditions_line(record["conditions"]), ""]
    lines += [
        "A ridge map from the last recurrent layer's output to the most attention that a row gets while the text is "
        f"repeated, fitted on {record['training']} documents of {record['tokens']:,} tokens; of the variance of that "
        f"label it explains {record['r2']:.0%} on others. Share of {whole['questions']} questions about planted facts "
        f"that are answered from the rows that are left; from all rows {whole['right']:.0%}.",
        "",
        "| rows chosen by | " + " | ".join(f"{share:.0%} kept" for share in shares) + " |",
        "|---|" + "---|" * len(shares),
    ]
    lines += [f"| {name} | " + " | ".join(f"{right[name, share]:.0%}" for share in shares) + " |" for name in names]
    return [*lines, ""]
