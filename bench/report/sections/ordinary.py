"""The parts of the pages about ordinary documents: `gf eval --task ordinary --task kinds`."""

from __future__ import annotations

from typing import Any

from bench.report.models import conditions_line, percent, saving_lines

NAMES = {"literal": "in its own words", "paraphrase": "in other words", "table": "from a table"}


def ordinary_lines(record: dict[str, Any]) -> list[str]:
    """The section of docs/benchmarks.md."""
    found = record["ordinary"]
    lines = ["## Embedded model: ordinary documents", "", conditions_line(record["conditions"]), ""]
    lines += [
        f"{found['documents']} documents that nothing was trained on (a policy, an interview, recipes, release notes, "
        "a report, a timetable) with checked questions; right is an answer of at most ten words that names the value. "
        "And made documents of the kinds that people have, whole kinds of them kept from training, with names and "
        "numbers of their own; right is exact. Questions that the document does not answer are mixed in: recall is how "
        'many of them get "Not stated.", precision how often "Not stated." is right. Calibration error: how far '
        "`confidence` and the share of right answers lie apart, in bins of a tenth (expected calibration error).",
        "",
        "| document | asked | right | absent: recall | precision | calibration error |",
        "|---|---|---|---|---|---|",
    ]
    rows = [("ordinary", found), *((row["group"], row) for row in record["kinds"])]
    for name, row in rows:
        lines += [
            f"| {name}: {NAMES.get(kind, kind)} | {one['questions']} | {one['right']} | | | |"
            for kind, one in row["kinds"].items()
        ]
        said = "never said" if row["absent_precision"] is None else percent(row["absent_precision"])
        error = "no confidence" if row["calibration_error"] is None else f"{row['calibration_error']:.3f}"
        cells = [f"{name}: all", str(row["questions"]), str(row["right"])]
        cells += [f"{percent(row['absent_recall'])} of {row['absent_questions']}", said, error]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *saving_lines(record)]


def ordinary_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What to expect of an ordinary document, in tenths."""
    found = record["ordinary"]
    right = [f"{10 * one['right'] / one['questions']:.0f}" for one in (found["kinds"][kind] for kind in NAMES)]
    return [
        ("an ordinary document " + ", ".join(NAMES.values()), f"{', '.join(right)} of 10 questions"),
        ("what such a document does not say", f'"Not stated." to {10 * found["absent_recall"]:.0f} of 10'),
    ]
