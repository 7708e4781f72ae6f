"""What docs/benchmarks.md begins with, and the goals that were set as ratios to other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.report.models import percent

# The goals on two cores at 12x768: (figure, gf's row, tokens, the peers of which the best counts, goal).
BF16 = ("transformers Llama bfloat16", "llama.cpp Llama bf16", "llama.cpp Llama bf16, no flash attention")
TARGETS: tuple[tuple[str, str, int, tuple[str, ...], float], ...] = (
    *(("prefill_tok_s", "gf bfloat16", n, BF16, r) for n, r in ((512, 1.2), (2048, 2.2), (8192, 4.5), (32768, 12.0))),
    *(("prefill_tok_s", "gf bfloat16", n, ("llama.cpp RWKV-6 bf16",), 3.0) for n in (512, 2048, 8192)),
    *(
        ("prefill_tok_s", "gf float32", n, ("transformers Llama float32",), r)
        for n, r in ((512, 1.3), (2048, 1.4), (8192, 2.4))
    ),
    ("first_token_ms", "gf bfloat16", 8192, BF16[:1], 1 / 0.8),
    ("first_token_ms", "gf bfloat16", 8192, BF16[1:], 3.0),
    *(("decode_tok_s", "gf bfloat16", n, BF16[:1], r) for n, r in ((512, 1.2), (8192, 2.5))),
    ("file_bytes", "gf bfloat16", 8192, BF16[1:], 120.0),
)
BEST = {2: "the better llama.cpp Llama", 3: "the best Llama"}
WORDS = {"prefill_tok_s": "prefill", "first_token_ms": "first token", "decode_tok_s": "decode", "file_bytes": "file"}
LESS_IS_BETTER = ("first_token_ms", "file_bytes")


def goal_rows(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[list[str], float, float]]:
    """Of each goal that was measured: figure, tokens, precision and against whom; the goal; the ratio, above 1 better.

    Args:
        rows: those of the records peers and peers-long.
    """
    for figure, ours, tokens, peers, goal in TARGETS:
        values = {r["peer"]: r[figure]["median"] for r in rows if r["tokens"] == tokens and figure in r}
        others = [values[peer] for peer in peers if peer in values]
        if ours not in values or not others:
            continue
        less = figure in LESS_IS_BETTER
        ratio = min(others) / values[ours] if less else values[ours] / max(others)
        against = next(peer for peer in peers if peer in values) if len(others) == 1 else BEST[len(peers)]
        yield [WORDS[figure], f"{tokens:,}", ours.split()[1], against], goal, ratio


def goal_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The section about them, reached and missed."""
    lines = ["## Goals, reached and missed", ""]
    lines += [
        "12 layers x 768, vocabulary 65,536, two cores. Ratios of medians of one run (32,768 tokens: "
        "a run of its own); above 1 gf is better.",
        "",
    ]
    lines += ["| figure | tokens | precision | against | goal | measured | |", "|---|---|---|---|---|---|---|"]
    for cells, goal, ratio in goal_rows(rows):
        found = [*cells, f"{goal:.2f}", f"{ratio:.2f}", "reached" if ratio >= goal else "missed"]
        lines.append("| " + " | ".join(found) + " |")
    return lines


# Of a document of so many tokens the summary speaks.
TOKENS = 8192


def summary_lines(
    figures: Sequence[tuple[str, str]], cited: dict[str, Any], rows: Sequence[dict[str, Any]]
) -> list[str]:
    """Ten lines: what the embedded model finds, how its answers are cited, speed and size, goals.

    Args:
        figures: the rows of the README.
        cited: the record of citations.
        rows: those of the records peers and peers-long.
    """
    goals = list(goal_rows(rows))
    ratios = {(cells[0], cells[3]): ratio for cells, _, ratio in goals if cells[1:3] == [f"{TOKENS:,}", "bfloat16"]}
    reached = sum(ratio >= goal for _, goal, ratio in goals)

    def measured(what: str, *against: str) -> str:
        return ", ".join(f"{ratios[what, peer]:.1f}" for peer in against)

    first_three = [row["among_first_three"] for row in cited["rows"]]
    found = [
        *((f"right answers: {what}", share) for what, share in figures),
        ("planted facts whose line is among the three that are cited", percent(min(first_three))),
        (
            f"prefill of {TOKENS:,} tokens, 12 x 768, bf16: times as fast as the best Llama, as llama.cpp's RWKV-6",
            measured("prefill", BEST[3], "llama.cpp RWKV-6 bf16"),
        ),
        (
            f"a file of {TOKENS:,} tokens, 12 x 768, bf16: times smaller than {BEST[2]}'s",
            measured("file", BEST[2]),
        ),
        ("goals set as ratios to other programs", f"{reached} of {len(goals)} reached, the others missed"),
    ]
    return ["## In ten lines", "", "| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in found)]
