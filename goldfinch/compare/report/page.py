"""The page of a report: HTML with its style and plots inside; it asks for nothing and runs no script."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldfinch.compare.methods import BENCHMARK, FULL
from goldfinch.compare.run import ENOUGH, Compared
from goldfinch.compare.statistics import LEAST_DOCUMENTS, Mean, frontier
from goldfinch.compare.summary import Cell, Costs, Gap, Summary
from goldfinch.compare.tasks.base import Task
from goldfinch.compare.tasks.registry import TASKS
from goldfinch.compare.tasks.scoring import INSTALL
from goldfinch.errors import LibraryMissing

from .plots import HeatMap, Scatter, heat_map, scatter
from .tables import not_run

_TEMPLATE = Path(__file__).parent / "page.html"
# Of a map, less would say nothing.
_LEAST_SQUARES = 2


@dataclass(frozen=True)
class Length:
    """What was measured of a model at one length.

    Attributes:
        tokens: the length.
        tasks: columns of the table of quality.
        costs: its rows, and those of the tables of bytes and times.
        cells: by (method, task).
        plot: quality against bytes for each token; None where there is no quality.
        of_rows: quality against bytes of rows alone, what grows with the document; None where nothing does.
        gaps: of methods whose rows were chosen before a question and by it.
        shared: names of the tasks that the mean is over.
    """

    tokens: int
    tasks: list[Task]
    costs: list[Costs]
    cells: dict[tuple[str, str], Cell]
    plot: Scatter | None
    of_rows: Scatter | None
    gaps: list[Gap]
    shared: list[str]


@dataclass(frozen=True)
class Maps:
    """Maps of one task: of each method."""

    task: Task
    maps: list[tuple[str, HeatMap]]


@dataclass(frozen=True)
class Section:
    """A model's part of the page."""

    model: Compared
    lengths: list[Length]
    maps: list[Maps]
    missing: list[str]


def page(summary: Summary, command: str) -> str:
    """The page.

    Args:
        command: that made it, as a user would type it.

    Raises:
        LibraryMissing: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise LibraryMissing("the page of the report is made with jinja2, not installed", hint=INSTALL) from error
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"kilo": _kilo, "ms": _milliseconds, "amount": _amount}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    sections = [_section(summary, model) for model in summary.models]
    return template.render(
        summary=summary, sections=sections, command=command, enough=ENOUGH, full=FULL, score=_score,
        difference=_difference, gap=_gap, least_documents=LEAST_DOCUMENTS, tasks=summary.options.tasks,
        questions=sum(cell.score.questions for cell in summary.cells if cell.method == FULL),
        preliminary=sum(cell.score.questions < ENOUGH for cell in summary.cells),
    )  # fmt: skip


def _section(summary: Summary, model: Compared) -> Section:
    tokens = sorted({cost.tokens for cost in summary.costs if cost.model == model.name})
    lengths = [_length(summary, model, one) for one in tokens]
    maps = [] if model.untrained else _maps(summary, model, tokens)
    return Section(model, lengths, maps, not_run(model))


def _length(summary: Summary, model: Compared, tokens: int) -> Length:
    costs = [cost for cost in summary.costs if (cost.model, cost.tokens) == (model.name, tokens)]
    cells = {(c.method, c.task): c for c in summary.cells if (c.model, c.tokens) == (model.name, tokens)}
    asked = {task for _, task in cells}
    tasks = [task for task in summary.options.tasks if task.name in asked]
    families = {method.name: method.family for method in summary.options.methods}
    rated = [cost for cost in costs if cost.quality is not None and families[cost.method] != BENCHMARK]
    rated = [] if model.untrained else rated
    points = [(c.method, families[c.method], c.bytes_per_token, c.quality or 0.0, c.on_front) for c in rated]
    growing = [(cost, cost.parts["rows"] / cost.length) for cost in rated if cost.parts["rows"] > 0]
    best = {growing[n][0].method for n in frontier([(size, cost.quality or 0.0) for cost, size in growing])}
    of_rows = [(c.method, families[c.method], size, c.quality or 0.0, c.method in best) for c, size in growing]
    gaps = [gap for gap in summary.gaps if (gap.model, gap.tokens) == (model.name, tokens)]
    shared = [
        task.name
        for task in tasks
        if not task.less_is_better and all((cost.method, task.name) in cells for cost in costs)
    ]
    plots = [scatter(one) if one else None for one in (points, of_rows)]
    return Length(tokens, tasks, costs, cells, plots[0], plots[1], gaps, shared)


def _maps(summary: Summary, model: Compared, lengths: list[int]) -> list[Maps]:
    found = []
    for task in summary.options.tasks:
        own = [d for d in summary.depths if (d.model, d.task) == (model.name, task.name)]
        asked = [tokens for tokens in lengths if any(d.tokens == tokens for d in own)]
        maps = []
        for method in summary.options.methods:
            squares = {(d.tokens, d.depth): (d.score, d.questions) for d in own if d.method == method.name}
            if len(squares) >= _LEAST_SQUARES:
                maps.append((method.name, heat_map(asked, squares)))
        if maps:
            found.append(Maps(task, maps))
    return found


def _score(cell: Cell) -> str:
    if TASKS[cell.task].less_is_better:
        return f"{cell.score.value:.2f}"
    return f"{100 * cell.score.value:.0f}"


def _difference(cell: Cell) -> dict[str, Any] | None:
    """What a table says of a difference: words, and whether it is one for the better (1), for the worse (-1) or may be
    none (0)."""
    found: Mean | None = cell.difference
    if found is None:
        return None
    return _signed(found, TASKS[cell.task])


def _gap(gap: Gap) -> dict[str, Any]:
    """The same of what the question's choice gains."""
    return _signed(gap.gap, TASKS[gap.task])


def _signed(found: Mean, task: Task) -> dict[str, Any]:
    scale, digits = (1, 2) if task.less_is_better else (100, 0)

    def figure(value: float) -> str:
        text = f"{scale * value:+.{digits}f}"
        return text.replace("-", "\N{MINUS SIGN}") if float(text) else f"{0:.{digits}f}"

    words = figure(found.value)
    if found.low is not None and found.high is not None:
        words += f" [{figure(found.low)}, {figure(found.high)}]"
    sign = (found.value > 0) - (found.value < 0) if found.excludes_zero else 0
    return {"words": words, "sign": -sign if task.less_is_better else sign}


def _kilo(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.0f} B"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds < 10 else f"{seconds:,.1f} s"


def _amount(value: float | None, digits: int = 0) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,.{digits}f}"
