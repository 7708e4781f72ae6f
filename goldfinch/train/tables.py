"""Tables with a row of headings: a value belongs to what begins its row and to what stands above its column."""

from __future__ import annotations

from random import Random

from .facts import FIELDS, FactMaker

_SUBJECTS = ("Name", "Town", "House", "Item", "Ship", "Farm", "Member", "Team", "Station", "Shop")
_QUESTIONS = (
    "What is the {field} of {key}?",
    "Which {field} does {key} have?",
    "What {field} does {key} have?",
    "What is {key}'s {field}?",
    "In the table, what is the {field} of {key}?",
    "What {field} is given for {key}?",
    "{field} of {key}?",
)


def table(maker: FactMaker, rng: Random, count: int) -> tuple[str, list[tuple[str, str]]]:
    """A table of `count` rows and two to five columns as Markdown, CSV, tabs or aligned columns; questions about it."""
    fields = rng.sample(FIELDS, rng.randint(1, 4))
    rows = [[rng.choice(_SUBJECTS), *(field.capitalize() for field in fields)]]
    pairs: list[tuple[str, str]] = []
    known: set[str] = set()
    while len(rows) <= count:
        key = maker.name(rng) if rng.random() < 0.7 else maker.entity(rng)
        if key in known:
            continue
        known.add(key)
        values = [maker.field_value(rng, field) for field in fields]
        rows.append([key, *values])
        for field, value in zip(fields, values, strict=True):
            question = rng.choice(_QUESTIONS).format(field=field, key=key)
            pairs.append((question[:1].upper() + question[1:], value))
    return rng.choice((_markdown, _commas, _tabs, _aligned))(rows), pairs


def _markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def _commas(rows: list[list[str]]) -> str:
    return "\n".join(",".join(row) for row in rows) + "\n"


def _tabs(rows: list[list[str]]) -> str:
    return "\n".join("\t".join(row) for row in rows) + "\n"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    lines = ("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines) + "\n"
