"""Tables with a row of headings: a value belongs to the start of its row and to the heading of its column.

Some headings and ways of asking are set aside, so that evaluation uses those that training never saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .facts import FactMaker, digits
from .lists import ADJECTIVES, NOUNS
from .phrasings import COLOURS, JOBS, MONTHS, THINGS


def _money(_: FactMaker, rng: Random) -> str:
    form = rng.choice(("{} euros", "{} dollars", "${}", "£{}", "{}", "{} kr"))
    return form.format(f"{digits(rng, rng.randint(1, 3))}.{rng.choice(('50', '20', '99', '05'))}" if rng.random() < 0.25
                       else digits(rng, rng.randint(1, 4)))  # fmt: skip


def _count(_: FactMaker, rng: Random) -> str:
    return digits(rng, rng.choice((1, 1, 2, 2, 3, 4, 5)))


def _measure(_: FactMaker, rng: Random) -> str:
    number = digits(rng, rng.randint(1, 3)) + (f".{rng.randint(1, 9)}" if rng.random() < 0.4 else "")
    return number + rng.choice(("", " m", " cm", " kg", " g", " km", " tons", " litres", " feet"))


def _code(_: FactMaker, rng: Random) -> str:
    letters = "".join(rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(rng.randint(0, 2)))
    return letters + rng.choice(("", "", "-") if letters else ("",)) + digits(rng, rng.randint(1, 5))


def _place(maker: FactMaker, rng: Random) -> str:
    return maker.name(rng)


def _person(maker: FactMaker, rng: Random) -> str:
    return maker.name(rng) if rng.random() < 0.4 else maker.person(rng)


def _date(_: FactMaker, rng: Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randrange(12), rng.randint(1900, 2030)
    forms = (f"{day} {MONTHS[month]}", f"{day} {MONTHS[month]} {year}", f"{year}-{month + 1:02}-{day:02}")
    return rng.choice(forms)


def _year(_: FactMaker, rng: Random) -> str:
    return str(rng.randint(1600, 2030))


def _word(_: FactMaker, rng: Random) -> str:
    return rng.choice((*COLOURS, *JOBS))


@dataclass(frozen=True)
class Column:
    """A kind of column.

    Attributes:
        headings: of the column; the last one is set aside for evaluation.
        value: makes a cell.
        questions: ways of asking that suit only this kind.
    """

    headings: tuple[str, ...]
    value: Callable[[FactMaker, Random], str]
    questions: tuple[str, ...] = ()


COLUMNS = (
    Column(
        ("price", "cost", "deposit", "fee", "rent", "fare", "salary", "budget", "toll"),
        _money,
        ("How much is the {field} of {key}?", "How much is the {field} for {key}?"),
    ),
    Column(
        ("stock", "seats", "rooms", "pages", "members", "days", "points", "visitors", "goals", "copies"),
        _count,
        ("How many {field} does {key} have?", "How many {field} are given for {key}?", "How many {field} for {key}?"),
    ),
    Column(("weight", "height", "length", "depth", "distance", "area", "width"), _measure),
    Column(
        ("shelf", "room", "code", "phone", "badge", "box", "locker", "platform", "number", "desk"),
        _code,
        ("On which {field} is {key}?", "In which {field} is {key}?", "Which {field} belongs to {key}?"),
    ),
    Column(
        ("city", "town", "place", "country", "harbour", "street", "capital", "region"),
        _place,
        ("In which {field} is {key}?", "Where is {key}, in which {field}?"),
    ),
    Column(
        ("owner", "teacher", "manager", "author", "captain", "contact", "winner", "editor", "keeper"),
        _person,
        ("Who is the {field} of {key}?", "Who is {key}'s {field}?", "Who is the {field} for {key}?"),
    ),
    Column(
        ("date", "deadline", "birthday", "start", "delivery", "inspection"),
        _date,
        ("When is the {field} of {key}?", "When is {key}'s {field}?"),
    ),
    Column(("year", "founded", "born", "opened", "built"), _year, ("In which year was {key} {field}?",)),
    Column(("colour", "role", "job", "trade", "craft"), _word),
)
_SUBJECTS = (
    "Name",
    "Town",
    "House",
    "Item",
    "Ship",
    "Farm",
    "Member",
    "Team",
    "Station",
    "Shop",
    "Tool",
    "Product",
    "",
)
_SUBJECT_OF_EVALUATION = "Entry"
_QUESTIONS = (
    "What is the {field} of {key}?",
    "What is the {field} of {key}?",
    "What is the {field} for {key}?",
    "Which {field} does {key} have?",
    "What {field} does {key} have?",
    "What is {key}'s {field}?",
    "In the table, what is the {field} of {key}?",
    "What {field} is given for {key}?",
    "Tell me the {field} of {key}.",
    "{field} of {key}?",
)
_HELD_OUT_QUESTIONS = (
    "Can you tell me the {field} of {key}?",
    "According to the table, which {field} does {key} have?",
    "I would like to know the {field} of {key}.",
    "What is listed as the {field} of {key}?",
)


def table(maker: FactMaker, rng: Random, count: int, held_out: bool = False) -> tuple[str, list[tuple[str, str]]]:
    """A table of `count` rows and two to five columns as Markdown, CSV, tabs or aligned columns; questions about it.

    Args:
        held_out: use the headings and the ways of asking that training never sees.
    """
    chosen = rng.sample(COLUMNS, rng.randint(1, 4))
    fields = [column.headings[-1] if held_out else rng.choice(column.headings[:-1]) for column in chosen]
    numbered = rng.random() < 0.15
    subject = _SUBJECT_OF_EVALUATION if held_out else rng.choice(_SUBJECTS)
    rows = [[*(["No"] if numbered else []), subject, *(field.capitalize() for field in fields)]]
    items, pairs = rng.random() < 0.3, []
    known: set[str] = set()
    while len(known) < count:
        key = _key(maker, rng, items)
        if key in known:
            continue
        known.add(key)
        values = [column.value(maker, rng) for column in chosen]
        rows.append([*([str(len(known))] if numbered else []), key, *values])
        for column, field, value in zip(chosen, fields, values, strict=True):
            general = _HELD_OUT_QUESTIONS if held_out else _QUESTIONS
            form = rng.choice(column.questions if column.questions and not held_out and rng.random() < 0.4 else general)
            question = form.format(field=field, key=f"the {key}" if items else key)
            pairs.append((question[:1].upper() + question[1:], value))
    return rng.choice((_markdown, _commas, _tabs, _aligned))(rows), pairs


def _key(maker: FactMaker, rng: Random, items: bool) -> str:
    if items:  # few words make few things: a fragment or a number tells further ones apart
        words = [rng.choice((*ADJECTIVES, *COLOURS, *JOBS)), rng.choice((*NOUNS, *THINGS))]
        if rng.random() < 0.3:
            words.insert(0, rng.choice(maker.fragments) if maker.fragments else rng.choice(ADJECTIVES))
        return " ".join(words) + (f" {rng.randint(2, 99)}" if rng.random() < 0.1 else "")
    kind = rng.random()
    return maker.name(rng) if kind < 0.45 else maker.person(rng) if kind < 0.65 else maker.entity(rng)


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
