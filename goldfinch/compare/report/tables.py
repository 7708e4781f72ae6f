"""The tables of a report: to read in a terminal, and to compute with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from goldfinch.compare.run import ENOUGH, Compared, NotRun
from goldfinch.compare.statistics import Mean
from goldfinch.compare.summary import Cell, Summary
from goldfinch.compare.tasks.registry import TASKS

# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(summary: Summary) -> str:
    """Everything measured, a table for each model and length."""
    lines: list[str] = []
    for model in summary.models:
        lines += [f"{model.name}: {model.about['kind']}, {model.about['shape']}"]
        if model.untrained:
            lines.append("  random weights: bytes and times are true, quality is not")
        for tokens in sorted({cost.tokens for cost in summary.costs if cost.model == model.name}):
            lines += ["", f"{model.name}, {tokens:,} tokens", *_of_length(summary, model, tokens)]
        lines += ["", *(f"not run: {words}" for words in not_run(model)), ""]
    lines.append(f"Scores in percent, of language bits per token; * of fewer than {ENOUGH} questions: no conclusion.")
    return "\n".join(lines) + "\n"


def _of_length(summary: Summary, model: Compared, tokens: int) -> Iterator[str]:
    costs = [cost for cost in summary.costs if (cost.model, cost.tokens) == (model.name, tokens)]
    cells = {
        (cell.method, cell.task): cell for cell in summary.cells if (cell.model, cell.tokens) == (model.name, tokens)
    }
    tasks = [task.name for task in summary.options.tasks if any(name == task.name for _, name in cells)]
    width = max(len("METHOD"), *(len(cost.method) for cost in costs)) + 1
    head = "".join(f"{name:>{max(len(name), 7) + 1}}" for name in tasks)
    yield f"{'METHOD':<{width}}{'B/TOKEN':>9}{'kB':>9}{'MEAN':>6}{'FRONT':>6}{'FIRST ms':>9}{'tok/s':>7}{head}"
    for cost in costs:
        rate = "-" if cost.decode_tok_s is None else f"{cost.decode_tok_s:,.0f}"
        quality = "-" if cost.quality is None or model.untrained else f"{100 * cost.quality:.1f}"
        scores = "".join(f"{_score(cells.get((cost.method, name))):>{max(len(name), 7) + 1}}" for name in tasks)
        front = "front" if cost.on_front and not model.untrained else ""
        yield (
            f"{cost.method:<{width}}{cost.bytes_per_token:>9,.1f}{cost.bytes / 1000:>9,.1f}{quality:>6}{front:>6}"
            f"{1000 * cost.first_token_s:>9,.0f}{rate:>7}{scores}"
        )


def _score(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    mark = "*" if cell.score.questions < ENOUGH else " "
    return (f"{cell.score.value:.3f}" if TASKS[cell.task].less_is_better else f"{100 * cell.score.value:.1f}") + mark


def not_run(model: Compared) -> list[str]:
    """What is missing, in words, by its reason."""
    by_reason: dict[str, list[NotRun]] = {}
    for one in model.not_run:
        by_reason.setdefault(one.reason, []).append(one)
    return [f"{'; '.join(dict.fromkeys(map(_missing, ones)))}: {reason}" for reason, ones in by_reason.items()]


def _missing(one: NotRun) -> str:
    parts = [one.method, one.task, None if one.tokens is None else f"{one.tokens:,} tokens"]
    return ", ".join(part for part in parts if part) or "everything"


def cells_csv(summary: Summary) -> str:
    """A row for each cell."""
    head = [
        "model",
        "method",
        "task",
        "tokens",
        "measure",
        "questions",
        "documents",
        "score",
        "score_low",
        "score_high",
    ]
    head += ["difference", "difference_low", "difference_high", "answer_tokens", "preliminary"]
    rows = [
        [
            cell.model, cell.method, cell.task, cell.tokens, TASKS[cell.task].measure, cell.score.questions,
            cell.score.documents, *_figures(cell.score), *_figures(cell.difference), round(cell.answer_tokens, 2),
            int(cell.score.questions < ENOUGH),
        ]
        for cell in summary.cells
    ]  # fmt: skip
    return _csv(head, rows)


def costs_csv(summary: Summary) -> str:
    """A row for each model, method and length: bytes, times, memory."""
    names = ["documents", "length", "bytes", "bytes_per_token", "quality", "lost", "prefill_s", "making_s", "load_s"]
    names += ["first_token_s", "decode_tok_s", "peak_bytes", "answer_tokens"]
    parts = list(summary.costs[0].parts) if summary.costs else []
    head = ["model", "method", "tokens", *names, *(f"{part}_bytes" for part in parts), "on_front"]
    rows = [
        [
            cost.model, cost.method, cost.tokens, *(_rounded(getattr(cost, name)) for name in names),
            *(_rounded(cost.parts[part]) for part in parts), int(cost.on_front),
        ]
        for cost in summary.costs
    ]  # fmt: skip
    return _csv(head, rows)


def _figures(mean: Mean | None) -> list[Any]:
    return ["", "", ""] if mean is None else [_rounded(mean.value), _rounded(mean.low), _rounded(mean.high)]


def _rounded(value: float | None) -> Any:
    return "" if value is None else round(value, 5)


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([[_harmless(value) for value in row] for row in rows])
    return stream.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
