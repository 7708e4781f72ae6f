"""What docs/benchmarks.md begins with, and the goals that were set as ratios to other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.report.machines import AMX, BEST, MACHINES, Machine, compared
from bench.report.models import conditions_line, percent

Records = Mapping[str, dict[str, Any]]

WORDS = {"prefill_tok_s": "prefill", "first_token_ms": "first token", "decode_tok_s": "decode", "file_bytes": "file"}


def goal_rows(rows: list[dict[str, Any]], machine: Machine) -> Iterator[tuple[list[str], float, float]]:
    """Of each goal that was measured: figure, tokens, precision and against whom; the goal; the ratio, above 1 better.

    Args:
        rows: of the machine's record.
    """
    for figure, ours, tokens, others, goal in machine.targets:
        found = compared(rows, figure, ours, tokens, others)
        if found is not None:
            yield [WORDS[figure], f"{tokens:,}", ours.split()[1], found[1]], goal, found[0]


def goal_lines(records: Records) -> list[str]:
    """The section about them, reached and missed, for each kind of machine.

    Args:
        records: beside other programs, by name.
    """
    lines = ["## Goals, reached and missed", ""]
    lines += [
        "12 layers x 768, vocabulary 65,536. Ratios of medians of one run; above 1 gf is better. Goals for bf16 are "
        "those of processors with instructions for it. One more, 12 times the prefill of 32,768 tokens, was not "
        "measured.",
        "",
    ]
    for machine in _measured(records):
        record = records[machine.record]
        lines += [f"### On a processor {machine.name}", "", conditions_line(record["conditions"]) + ".", ""]
        lines += ["| figure | tokens | precision | against | goal | measured | |", "|---|---|---|---|---|---|---|"]
        for cells, goal, ratio in goal_rows(record["rows"], machine):
            found = [*cells, f"{goal:.2f}", f"{ratio:.2f}", "reached" if ratio >= goal else "missed"]
            lines.append("| " + " | ".join(found) + " |")
        lines.append("")
    return lines


def _measured(records: Records) -> list[Machine]:
    return [machine for machine in MACHINES if machine.record in records]


def summary_lines(figures: Sequence[tuple[str, str]], cited: dict[str, Any], records: Records) -> list[str]:
    """Ten lines: what the embedded model finds, how its answers are cited, speed and size, goals.

    Args:
        figures: the rows of the README.
        cited: the record of citations.
        records: beside other programs, by name.
    """

    def longest(machine: Machine) -> int:
        return max(row["tokens"] for row in records[machine.record]["rows"] if row["peer"] == machine.ours)

    def measured(figure: str, machine: Machine, others: tuple[str, ...]) -> str:
        found = compared(records[machine.record]["rows"], figure, machine.ours, longest(machine), others)
        return "not measured" if found is None else f"{found[0]:.1f}"

    def reached(machine: Machine) -> str:
        goals = list(goal_rows(records[machine.record]["rows"], machine))
        return f"{sum(ratio >= goal for _, goal, ratio in goals)} of {len(goals)}"

    machines = _measured(records)
    names = " / ".join(f"{longest(m):,} tokens {m.name} in {m.ours.split()[1]}" for m in machines)
    first_three = [row["among_first_three"] for row in cited["rows"]]
    found = [
        *((f"right answers: {what}", share) for what, share in figures),
        ("planted facts whose line is among the three that are cited", percent(min(first_three))),
        (
            f"prefill at 12 x 768, times as fast as {BEST[3]}: {names}",
            " / ".join(measured("prefill_tok_s", machine, machine.llamas) for machine in machines),
        ),
        (
            f"a file of {longest(AMX):,} tokens, 12 x 768, bf16: times smaller than {BEST[2]}'s",
            measured("file_bytes", AMX, AMX.llamas[1:]),
        ),
        (
            "goals reached, of those set as ratios to other programs: " + " / ".join(m.name for m in machines),
            " / ".join(map(reached, machines)),
        ),
    ]
    return ["## In ten lines", "", "| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in found)]
