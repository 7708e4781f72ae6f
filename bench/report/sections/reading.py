"""The parts of the pages about reading policies: `gf eval --read all --read auto`, every question asked under both."""

from __future__ import annotations

from typing import Any

from bench.report.models import conditions_line, percent

Rows = list[tuple[str, str, str]]


def reading_lines(record: dict[str, Any]) -> list[str]:
    """The section of docs/benchmarks.md."""
    whole, chosen = record["read"]["all"], record["read"]["auto"]
    lines = ["## Embedded model: what is read of a document", "", conditions_line(record["conditions"]), ""]
    lines += [
        "The same questions to the same caches: with the whole document read, and with the block that fits the "
        'question best (`--read auto`, which is "hybrid" for this model). F1 for questions about text, else answered '
        "exactly; in brackets the number of questions. Rows of fewer than 100 questions are preliminary.",
        "",
        *table(text_rows(whole, chosen) + retrieval_rows(whole, chosen)),
        "",
        '"Not stated." to questions that their passage does not answer: '
        f"{percent(whole['questions']['absent_recall'])} of them with all of it read, "
        f"{percent(chosen['questions']['absent_recall'])} with the best block.",
        "",
    ]
    return lines


def table(rows: Rows) -> list[str]:
    """Rows as a table."""
    return ["| | whole document | best block |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]


def text_rows(whole: dict[str, Any], chosen: dict[str, Any]) -> Rows:
    """Questions about passages, articles and whole documents."""
    rows = [(f"passages of unseen articles ({whole['questions']['questions']})", *_f1s(whole, chosen, "questions"))]
    for a, b in zip(whole["articles"], chosen["articles"], strict=True):
        what = f"their first {a['length']:,} tokens ({a['questions']})"
        rows.append((what, f"{100 * a['f1']:.1f}", f"{100 * b['f1']:.1f}"))
    asked = sum(row["questions"] for row in whole["samples"])
    right = [f"{right_of(record)} right" for record in (whole, chosen)]
    return [*rows, (f"whole real documents ({asked})", right[0], right[1])]


def right_of(record: dict[str, Any]) -> int:
    """Questions about whole real documents that were answered exactly."""
    return sum(round(row["exact"] * row["questions"]) for row in record["samples"])


def _f1s(whole: dict[str, Any], chosen: dict[str, Any], task: str) -> tuple[str, str]:
    return f"{100 * whole[task]['f1']:.1f}", f"{100 * chosen[task]['f1']:.1f}"


def retrieval_rows(whole: dict[str, Any], chosen: dict[str, Any]) -> Rows:
    """Planted facts, tables, pairs, needles, passkeys."""
    forms = [
        ("facts", "exact", "5-digit fact in {length:,} tokens ({questions})"),
        ("facts", "exact_mixed", "fact of digits and letters in {length:,} tokens ({questions_mixed})"),
        ("facts", "exact_value_first", "value before its subject, {length:,} tokens ({questions_value_first})"),
        ("tables", "exact", "cell of a table of {rows} rows ({questions})"),
        ("pairs", "exact", "one of {pairs} pairs ({questions})"),
        ("needles", "exact", "one of {needles} needles in {length:,} tokens"),
        ("passkey", "exact", "passkey of {digits} digits in {length:,} tokens ({questions})"),
    ]
    return [
        (what.format(**a), percent(a[name]), percent(b[name]))
        for task, name, what in forms
        for a, b in zip(whole[task], chosen[task], strict=True)
    ]


def policy_lines(record: dict[str, Any]) -> list[str]:
    """Every policy beside the others, asked through files."""
    lines = ["## Embedded model: reading policies on whole documents", "", conditions_line(record["conditions"]), ""]
    asked = sum(row["questions"] for row in record["read"]["all"]["samples"])
    lines += [
        f"{asked} questions about whole real documents, to caches that were saved and opened again; every answer is "
        "compared with the one given without saving. So few questions carry no conclusion but the last column.",
        "",
        "| read | answered exactly | F1 | answers that saving changed |",
        "|---|---|---|---|",
    ]
    for policy, found in record["read"].items():
        mean = sum(row["f1"] * row["questions"] for row in found["samples"]) / asked
        through = found["through_file"]
        cells = [f"`{policy}`", str(right_of(found)), f"{100 * mean:.1f}"]
        lines.append("| " + " | ".join([*cells, f"{through['differences']} of {through['answers']}"]) + " |")
    return [*lines, ""]
