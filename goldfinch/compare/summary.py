"""Rows brought together: a cell for each model, method, task and length; bytes and times of each method and length."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .methods import BENCHMARK, FULL, Method
from .rows import PARTS, Row
from .run import Compared, Options
from .statistics import Mean, frontier, mean_of
from .tasks.base import Task


@dataclass(frozen=True)
class Cell:
    """One model with one method, at one task and length.

    Attributes:
        model, method, task, tokens: which.
        score: mean over its questions.
        difference: to the full cache, over the questions that both were asked; None for the full cache itself.
        answer_tokens: mean over its answers.
    """

    model: str
    method: str
    task: str
    tokens: int
    score: Mean
    difference: Mean | None
    answer_tokens: float


@dataclass(frozen=True)
class Costs:
    """What a method takes at one length: medians over documents, of bytes the sums.

    Attributes:
        model, method, tokens: which.
        documents: how many were measured.
        length: mean tokens of a cache.
        parts: mean bytes by part; see `rows.PARTS`.
        bytes: mean of what its questions need: the file, less the index of words where nothing reads by it.
        quality: mean over tasks of scores between 0 and 1, of those tasks that every method has; None of none.
        lost: the same of differences to the full cache.
        prefill_s, making_s, load_s, first_token_s, decode_tok_s, peak_bytes: as `Row` has them.
        answer_tokens: mean.
        on_front: no other method of the model has fewer bytes and as much quality, at this length.
    """

    model: str
    method: str
    tokens: int
    documents: int
    length: float
    parts: dict[str, float]
    bytes: float
    quality: float | None
    lost: float | None
    prefill_s: float
    making_s: float
    load_s: float
    first_token_s: float
    decode_tok_s: float | None
    peak_bytes: float | None
    answer_tokens: float
    on_front: bool = False

    @property
    def bytes_per_token(self) -> float:
        """Of the cache, states and all else included."""
        return self.bytes / self.length


@dataclass(frozen=True)
class Depth:
    """How often what stands at a depth was found.

    Attributes:
        model, method, task, tokens: which.
        depth: of ten parts, 0 to 9.
        score, questions: mean, and of how many.
    """

    model: str
    method: str
    task: str
    tokens: int
    depth: int
    score: float
    questions: int


@dataclass(frozen=True)
class Gap:
    """How much better rows that the question chose answer than rows that were chosen before it.

    Attributes:
        model, method, task, tokens: which; the method is the one in a file.
        before, asked: scores of both.
        gap: paired, over the questions that both were asked.
    """

    model: str
    method: str
    task: str
    tokens: int
    before: Mean
    asked: Mean
    gap: Mean


@dataclass(frozen=True)
class Summary:
    """Everything that a report shows."""

    models: Sequence[Compared]
    options: Options
    cells: Sequence[Cell]
    costs: Sequence[Costs]
    depths: Sequence[Depth]
    gaps: Sequence[Gap]


def summary_of(models: Sequence[Compared], options: Options) -> Summary:
    """Bring the rows of all models together."""
    cells, costs, depths, gaps = list[Cell](), list[Costs](), list[Depth](), list[Gap]()
    for model in models:
        own = _cells(model, options)
        cells += own
        costs += _all_costs(model, options, own)
        depths += _depths(model, options)
        gaps += _gaps(model, options)
    return Summary(models, options, cells, costs, depths, gaps)


Grouped = dict[tuple[str, int, str], dict[int, Row]]


def _grouped(model: Compared) -> Grouped:
    """Rows by document, of each (task, length, method)."""
    grouped = defaultdict[tuple[str, int, str], dict[int, Row]](dict)
    for row in model.rows:
        grouped[row.key.task, row.key.tokens, row.key.method][row.key.document] = row
    return grouped


def _paired(rows: dict[int, Row], others: dict[int, Row]) -> Mean | None:
    """The mean difference over the questions of documents that both have."""
    pairs = [(rows[n].scores, others[n].scores) for n in rows if n in others]
    return mean_of([[a - b for a, b in zip(*pair, strict=True)] for pair in pairs])


def _gaps(model: Compared, options: Options) -> list[Gap]:
    grouped, found = _grouped(model), []
    for method in (one for one in options.methods if one.family == BENCHMARK):
        for tokens in sorted(options.lengths):
            for task in options.tasks:
                asked = grouped.get((task.name, tokens, method.name), {})
                before = grouped.get((task.name, tokens, method.in_a_file), {})
                gap = _paired(asked, before)
                first, second = (mean_of([row.scores for row in rows.values()]) for rows in (before, asked))
                if gap is not None and first is not None and second is not None:
                    found.append(Gap(model.name, method.in_a_file, task.name, tokens, first, second, gap))
    return found


def _cells(model: Compared, options: Options) -> list[Cell]:
    grouped, found = _grouped(model), []
    for tokens in sorted(options.lengths):
        for task in options.tasks:
            full = grouped.get((task.name, tokens, FULL), {})
            for method in options.methods:
                rows = grouped.get((task.name, tokens, method.name))
                score = mean_of([row.scores for row in rows.values()]) if rows else None
                if rows is None or score is None:
                    continue
                lost = _paired(rows, full)
                counts = [count for row in rows.values() for count in row.answer_tokens]
                found.append(
                    Cell(
                        model.name, method.name, task.name, tokens, score, None if method.name == FULL else lost,
                        statistics.fmean(counts),
                    )
                )  # fmt: skip
    return found


def _all_costs(model: Compared, options: Options, cells: Sequence[Cell]) -> list[Costs]:
    found = []
    for tokens in sorted(options.lengths):
        shared = _shared_tasks(options, [cell for cell in cells if cell.tokens == tokens])
        own = [one for method in options.methods if (one := _costs(model, method, tokens, shared, cells)) is not None]
        in_files = {method.name for method in options.methods if method.family != BENCHMARK}
        rated = [one for one in own if one.quality is not None and one.method in in_files]
        front = {rated[n].method for n in frontier([(one.bytes, one.quality or 0.0) for one in rated])}
        found += [Costs(**{**vars(one), "on_front": one.method in front}) for one in own]
    return found


def _shared_tasks(options: Options, cells: Sequence[Cell]) -> set[str]:
    """The tasks of a length that have a score between 0 and 1 with every method of the model."""
    with_method = {(cell.task, cell.method) for cell in cells}
    methods = {cell.method for cell in cells}
    scored = (task.name for task in options.tasks if not task.less_is_better)
    return {task for task in scored if all((task, method) in with_method for method in methods)}


def _costs(model: Compared, method: Method, tokens: int, shared: set[str], cells: Sequence[Cell]) -> Costs | None:
    rows = [row for row in model.rows if row.key.method == method.name and row.key.tokens == tokens]
    if not rows:
        return None
    parts = {part: statistics.fmean(row.bytes[part] for row in rows) for part in PARTS}
    own = [c for c in cells if c.method == method.name and c.tokens == tokens and c.task in shared]
    asked = [row for row in rows if any(row.answer_tokens)]
    return Costs(
        model.name, method.name, tokens, len(rows), statistics.fmean(row.length for row in rows), parts,
        sum(parts.values()) - (0 if method.reads_by_words else parts["index"]),
        statistics.fmean(c.score.value for c in own) if own else None,
        statistics.fmean(c.difference.value if c.difference else 0.0 for c in own) if own else None,
        _median(rows, lambda row: row.prefill_s) or 0.0, _median(rows, lambda row: row.making_s) or 0.0,
        _median(rows, lambda row: row.load_s) or 0.0, _median(rows, lambda row: row.first_token_s) or 0.0,
        _median(rows, lambda row: row.decode_tok_s), _median(rows, lambda row: row.peak_bytes),
        statistics.fmean(n for row in asked for n in row.answer_tokens) if asked else 0.0,
    )  # fmt: skip


def _median(rows: Sequence[Row], of: Callable[[Row], float | None]) -> float | None:
    values = [value for row in rows if (value := of(row)) is not None]
    return statistics.median(values) if values else None


def _depths(model: Compared, options: Options) -> list[Depth]:
    needles: Sequence[Task] = [task for task in options.tasks if task.is_needle]
    found = defaultdict[tuple[str, str, int, int], list[float]](list)
    for row in model.rows:
        if any(row.key.task == task.name for task in needles):
            for score, depth in zip(row.scores, row.depths, strict=True):
                if depth is not None:
                    found[row.key.method, row.key.task, row.key.tokens, min(int(depth * 10), 9)].append(score)
    return [Depth(model.name, *key, statistics.fmean(scores), len(scores)) for key, scores in sorted(found.items())]
