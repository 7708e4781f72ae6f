"""Where marks of plots lie, in units of an SVG's own; the page's template draws them, and escapes what it draws.

Plots are as wide as the screen of a phone, and stand beside each other where there is room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from goldfinch.compare.methods import FULL
from goldfinch.policies.dropping.named import RANDOM

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 14, 36
_LETTER, _LINE = 5.6, 11.0
# Depths of a map: ten parts of a document.
DEPTHS = 10
_CELL_WIDTH, _CELL_HEIGHT, _MAP_LEFT, _MAP_TOP = 36, 14, 30, 16


@dataclass(frozen=True)
class Mark:
    """A method in a plot of quality against bytes.

    Attributes:
        name: of it.
        family: which colour and form it has.
        bytes, quality: what it takes and gives.
        on_front: nothing beats it.
        x, y: its place.
        label_x, label_y: that of its name, begun there; None where there is no room or no need.
    """

    name: str
    family: str
    bytes: float
    quality: float
    on_front: bool
    x: float
    y: float
    label_x: float | None = None
    label_y: float | None = None


@dataclass(frozen=True)
class Tick:
    """A line of the grid: its place along the axis, and what stands beside it."""

    at: float
    text: str


@dataclass(frozen=True)
class Scatter:
    """Quality against bytes for each token."""

    marks: Sequence[Mark]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    front: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def scatter(points: Sequence[tuple[str, str, float, float, bool]]) -> Scatter:
    """Place points in a plot: bytes from left to right, as powers; quality from below.

    Args:
        points: (name, family, bytes, quality 0 to 1, whether nothing beats it), one or more.
    """
    sizes = [bytes_ for _, _, bytes_, _, _ in points]
    low, high = math.log10(min(sizes)) - 0.03, math.log10(max(sizes)) + 0.03
    if high - low < 0.3:
        low, high = (low + high) / 2 - 0.15, (low + high) / 2 + 0.15
    most = _most(max(quality for _, _, _, quality, _ in points))

    def x_of(value: float) -> float:
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y_of(quality: float) -> float:
        return HEIGHT - BOTTOM - quality / most * (HEIGHT - TOP - BOTTOM)

    placed = [
        Mark(name, family, size, quality, front, round(x_of(size), 1), round(y_of(quality), 1))
        for name, family, size, quality, front in points
    ]
    marks = _labelled(placed)
    front = sorted((mark for mark in marks if mark.on_front), key=lambda mark: mark.x)
    steps = [f"{mark.x},{mark.y}" for mark in front]
    corners = [f"{after.x},{before.y}" for before, after in pairwise(front)]
    line = " ".join(x for pair in zip(steps, [*corners, ""], strict=True) for x in pair if x)
    x_ticks = [Tick(round(x_of(value), 1), _size(value)) for value in _round_values(low, high)]
    y_ticks = [Tick(round(y_of(most * n / 4), 1), f"{most * n / 4:.0%}") for n in range(5)]
    return Scatter(marks, x_ticks, y_ticks, line)


def _most(quality: float) -> float:
    """The upper end of the axis: the least of some that holds it."""
    return next((end for end in (0.2, 0.4, 0.6, 0.8) if quality <= end), 1.0)


def _round_values(low: float, high: float) -> list[float]:
    """Values like 1, 2, 5, 10 between two powers of ten, at most six of them."""
    every = [base * 10.0**power for power in range(-2, 12) for base in (1, 2, 3, 4, 5, 6, 7, 8, 9)]
    within = [value for value in every if low <= math.log10(value) <= high]
    for bases in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [v for v in within if round(v / 10.0 ** math.floor(math.log10(v) + 1e-9)) in bases]
        if len(found) <= 6:
            return found
    return within[:: len(within) // 6 + 1]


def _size(value: float) -> str:
    for unit in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:g}{unit}"
        value /= 1000
    return f"{value:g}T"


def _labelled(marks: Sequence[Mark]) -> list[Mark]:
    """The marks, with names where there is room: see `_first_named` for the order."""
    taken = [(mark.x - 4, mark.y - 4, mark.x + 4, mark.y + 4) for mark in marks]
    named: dict[str, tuple[float, float]] = {}
    for mark in sorted(marks, key=_first_named):
        width = _LETTER * len(mark.name)
        for x, y in (
            (mark.x + 7, mark.y + 4), (mark.x - width - 7, mark.y + 4), (mark.x - width / 2, mark.y - 7),
            (mark.x - width / 2, mark.y + 15), (mark.x + 5, mark.y - 7), (mark.x + 5, mark.y + 15),
        ):  # fmt: skip
            box = (x, y - _LINE + 2, x + width, y + 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH - 2 and box[1] >= 2 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                named[mark.name] = round(x, 1), round(y, 1)
                break
    return [Mark(**{**vars(mark), **_label(named.get(mark.name))}) for mark in marks]


def _first_named(mark: Mark) -> tuple[bool, bool, bool, float]:
    """The full cache, what nothing beats, the line of chance, then by quality."""
    return mark.name != FULL, not mark.on_front, not mark.name.startswith(RANDOM), -mark.quality


def _label(place: tuple[float, float] | None) -> dict[str, float | None]:
    return {"label_x": None, "label_y": None} if place is None else {"label_x": place[0], "label_y": place[1]}


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True)
class Square:
    """A length and depth of a map: its place, its colour, what stands in it, and of how many questions it is."""

    x: float
    y: float
    colour: str
    text: str
    text_colour: str
    questions: int


@dataclass(frozen=True)
class HeatMap:
    """How often what stands at a depth was found, by length."""

    squares: Sequence[Square]
    columns: Sequence[Tick]
    width: int
    height: int
    cell_width: int = _CELL_WIDTH
    cell_height: int = _CELL_HEIGHT
    left: int = _MAP_LEFT
    top: int = _MAP_TOP


def heat_map(lengths: Sequence[int], found: dict[tuple[int, int], tuple[float, int]]) -> HeatMap:
    """Place squares.

    Args:
        lengths: the columns.
        found: (score, questions) by (length, depth 0 to 9).
    """
    squares = [
        Square(
            _MAP_LEFT + lengths.index(tokens) * _CELL_WIDTH, _MAP_TOP + depth * _CELL_HEIGHT, colour_of(score),
            f"{score:.0%}", "#fff" if score > 0.55 else "#1b2733", questions,
        )
        for (tokens, depth), (score, questions) in sorted(found.items())
    ]  # fmt: skip
    columns = [Tick(_MAP_LEFT + (n + 0.5) * _CELL_WIDTH, short_length(tokens)) for n, tokens in enumerate(lengths)]
    return HeatMap(squares, columns, _MAP_LEFT + _CELL_WIDTH * len(lengths) + 2, _MAP_TOP + DEPTHS * _CELL_HEIGHT + 2)


def short_length(tokens: int) -> str:
    """A number of tokens for the head of a column."""
    return f"{tokens / 1000:g}k" if tokens % 1000 == 0 or tokens >= 10_000 else f"{tokens:,}"


_SCALE = ((0.0, (246, 239, 231)), (0.5, (120, 170, 200)), (1.0, (16, 66, 112)))


def colour_of(score: float) -> str:
    """From light to dark, 0 to 1: told apart without colours, too."""
    score = min(max(score, 0.0), 1.0)
    for (a, low), (b, high) in pairwise(_SCALE):
        if score <= b:
            part = (score - a) / (b - a)
            return "#" + "".join(f"{round(p + part * (q - p)):02x}" for p, q in zip(low, high, strict=True))
    raise AssertionError(score)
