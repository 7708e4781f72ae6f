"""The section of docs/benchmarks.md about dropped rows."""

from __future__ import annotations

from typing import Any

from bench.report.models import conditions_line


def dropping_lines(record: dict[str, Any]) -> list[str]:
    """What policies cost at the bytes that they leave, beside codecs and beside rows drawn at random."""
    rows = record["rows"]
    lines = ["## Dropped rows", "", conditions_line(record["conditions"]), ""]
    lines += [
        f"{rows[0]['documents']} documents of held-out encyclopedia text, {record['tokens']:,} tokens each: few, so no "
        "order among the policies follows. KL as for the codecs, the document read whole. Bytes are those of the rows "
        "and of the list of those that are kept, against rows as computed, in 32 bits; a run of kept rows takes the "
        "row before it along.",
        "",
        "| method | rows kept | bytes | KL, document | top token changed | KL, questions | CPU time of a pre-fill |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row["bytes_share"]):
        lines.append(
            f"| `{row['method']}` | {row['kept']:.0%} | {row['bytes_share']:.1%} | {row['document_kl']:.4f} | "
            f"{row['document_flips']:.1%} | {row['questions_kl']:.4f} | {row['choosing_of_prefill']:.1f} times |"
        )
    return [*lines, ""]
