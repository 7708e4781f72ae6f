"""Planted facts: short statements with an exact answer, put among the sentences of real prose.

The pools are split by a hash of the name, and some phrasings are set aside, so that evaluation uses names
and wordings that training never saw.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from .phrasings import (
    ASKED,
    ASKING,
    COLOURS,
    DATE_ATTRIBUTES,
    FORMS,
    HELD_OUT_QUESTIONS,
    HELD_OUT_STATEMENTS,
    HELD_OUT_VALUE_FIRST,
    JOBS,
    MONTHS,
    NUMBER_ATTRIBUTES,
    OPENINGS,
    PASSKEY_QUESTIONS,
    PASSKEYS,
    QUESTIONS,
    STATEMENTS,
    THINGS,
    VERBS,
    WORD_ATTRIBUTES,
)
from .relations import ANIMALS, BUILDINGS, MATERIALS, MONEY, OFFICES, PARTS, RELATIONS, SUBJECTS, TRANSPORTS, VESSELS

NOT_STATED = "Not stated."
# What records say about their subject.
FIELDS = ("price", "stock", "weight", "place", "owner", "colour", "age", "rank", "city", "code")


@dataclass(frozen=True)
class Fact:
    """One statement and the questions it answers.

    Attributes:
        statement: the sentence or line to plant.
        questions: (question, answer) pairs.
        subject: the entity that it is about.
        attribute: what it says of the subject, None for a passkey.
    """

    statement: str
    questions: tuple[tuple[str, str], ...]
    subject: str
    attribute: str | None = None


_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,10}\b")


def is_held_out(name: str) -> bool:
    """One name in ten is kept from training."""
    return zlib.crc32(name.encode()) % 10 == 0


def harvest_names(texts: Sequence[str], held_out: bool) -> list[str]:
    """Capitalised words from inside sentences, of the training or the held-out tenth; sorted, unique."""
    found: set[str] = set()
    for text in texts:
        found.update(_NAME.findall(text))
    return sorted(name for name in found if is_held_out(name) == held_out)


_FRAGMENT = re.compile(r"(?<= )[a-z]{2,9}(?: [a-z]{2,9}){0,2}(?= )")


def harvest_fragments(texts: Sequence[str]) -> list[str]:
    """Runs of one to three lower-case words, sorted and unique: fillers for phrasings that no list could foresee."""
    found: set[str] = set()
    for text in texts:
        found.update(_FRAGMENT.findall(text))
    return sorted(found)


class FactMaker:
    """Makes facts from a pool of names.

    Args:
        names: the pool.
        held_out: use the phrasings that training never sees.
        value_first: of the held-out phrasings, those that name the value before its subject.
        fragments: words to fill phrasings with; when there are any, most phrasings are put together from parts
            (training only).
    """

    def __init__(
        self,
        names: Sequence[str],
        held_out: bool = False,
        fragments: Sequence[str] = (),
        value_first: bool = False,
    ) -> None:
        self.varied = bool(fragments)
        self.fragments = list(fragments)
        self.names = list(names)
        held_out_statements = HELD_OUT_VALUE_FIRST if value_first else HELD_OUT_STATEMENTS
        self.statements = held_out_statements if held_out else STATEMENTS
        self.questions = HELD_OUT_QUESTIONS if held_out else QUESTIONS

    def name(self, rng: Random) -> str:
        return rng.choice(self.names)

    def entity(self, rng: Random) -> str:
        kind = rng.random()
        if kind < 0.55:
            return self.name(rng)
        if kind < 0.8:
            return f"{self.name(rng)} {self.name(rng)}"
        if kind < 0.9:
            return f"{rng.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}{rng.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}-{digits(rng, rng.randint(2, 4))}"
        return f"the {self.name(rng)} {rng.choice(('station', 'office', 'project', 'school', 'factory', 'museum', 'team'))}"

    def value(self, rng: Random, attribute: str) -> str:
        if attribute in DATE_ATTRIBUTES:
            return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(1800, 2030)}"
        if attribute in WORD_ATTRIBUTES:
            if "colour" in attribute:
                return rng.choice(COLOURS)
            return self.name(rng) if rng.random() < 0.6 else f"{self.name(rng)} {self.name(rng)}"
        if rng.random() < 0.1:
            return f"{rng.choice('ABCDEFGHJKLMNPRSTUVWXYZ')}{rng.choice('ABCDEFGHJKLMNPRSTUVWXYZ')}{digits(rng, 4)}"
        if self.varied and rng.random() < 0.1:
            return self.quantity(rng)
        return digits(rng, rng.choice((2, 3, 4, 5, 5, 5, 6, 7)))

    def quantity(self, rng: Random) -> str:
        """A time, a sum, a decimal or a number with its unit."""
        kind = rng.randrange(5)
        if kind == 0:
            return f"{rng.randint(1, 23)}:{rng.choice(('00', '15', '30', '45', '20', '50'))}"
        if kind == 1:
            return f"{digits(rng, rng.randint(1, 3))}.{rng.randint(1, 99)}"
        if kind == 2:
            return f"${digits(rng, rng.randint(1, 4))}"
        if kind == 3:
            return f"{rng.randint(1, 99)} {rng.choice(('percent', 'metres', 'years', 'miles', 'tons', 'hours', 'kg'))}"
        return f"{rng.randint(1, 999)},{rng.randint(100, 999)}"

    def attribute(self, rng: Random) -> str:
        if self.varied and rng.random() < 0.12:
            return rng.choice(self.fragments)
        kind = rng.random()
        return rng.choice(NUMBER_ATTRIBUTES if kind < 0.65 else WORD_ATTRIBUTES if kind < 0.88 else DATE_ATTRIBUTES)

    def attribute_fact(
        self, rng: Random, entity: str | None = None, attribute: str | None = None, value: str | None = None
    ) -> Fact:
        entity, attribute = entity or self.entity(rng), attribute or self.attribute(rng)
        value = value or self.value(rng, attribute)
        words = {"ent": entity, "attr": attribute, "val": value}
        if self.varied and rng.random() < 0.75:
            fill = {"filler": rng.choice(self.fragments), "filler2": rng.choice(self.fragments)}
            form = rng.choice(FORMS).format(**words, verb=rng.choice(VERBS), **fill)
            statement = rng.choice(OPENINGS) + form + "."
        else:
            statement = rng.choice(self.statements).format(**words)
        if self.varied and rng.random() < 0.6:
            question = rng.choice(ASKING).format(x=rng.choice(ASKED).format(**words))
        else:
            question = rng.choice(self.questions).format(**words)
        return Fact(_upper_first(statement), ((_upper_first(question), value),), entity, attribute)

    def person(self, rng: Random) -> str:
        kind = rng.random()
        if kind < 0.75:
            return f"{self.name(rng)} {self.name(rng)}"
        if kind < 0.87:
            return f"{rng.choice(('Mr', 'Mrs', 'Doctor', 'Sir', 'Lady', 'Professor', 'Captain'))} {self.name(rng)}"
        return f"{chr(65 + rng.randrange(26))}. {self.name(rng)}" if kind < 0.92 else self.name(rng)

    def relation_fact(self, rng: Random) -> Fact:
        statements, questions = rng.choice(RELATIONS)
        hours = ("noon", "midnight", "half past {}", "{} o'clock", "{}:30", "{} in the morning", "quarter to {}")
        described = rng.random() < 0.4
        words = {
            "a": self.person(rng),
            "b": self.person(rng),
            "place": self.name(rng),
            "place2": self.name(rng),
            "year": str(rng.randint(1500, 2025)),
            "date": f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(1800, 2030)}",
            "hour": rng.choice(hours).format(rng.randint(1, 12)),
            "hour2": rng.choice(hours).format(rng.randint(1, 12)),
            "job": rng.choice(JOBS),
            "thing": f"{rng.choice(COLOURS)} {rng.choice(THINGS)}",
            "building": f"{self.name(rng)} {rng.choice(BUILDINGS)}" if described else rng.choice(BUILDINGS),
            "office": rng.choice(OFFICES) + (f" of {self.name(rng)}" if described else ""),
            "vessel": rng.choice(VESSELS),
            "parts": rng.choice(PARTS),
            "material": rng.choice(MATERIALS),
            "money": rng.choice(MONEY),
            "transport": rng.choice(TRANSPORTS),
            "subject": rng.choice(SUBJECTS),
            "animal": rng.choice(ANIMALS),
            "title": f"The {rng.choice(COLOURS).title()} {rng.choice(THINGS).title()}",
            "n": str(rng.randint(2, 400)),
        }
        with_opening = rng.random() >= 0.6
        statement = rng.choice(statements)
        if with_opening:
            opening = rng.choice(OPENINGS)
            statement = opening + (statement if not opening or statement[0] == "{" else _lower_first(statement))
        # The words that a statement leaves open stay open in its questions.
        asked = [(q, answer) for group, answer in questions for q in group if _answerable(statement, q, answer)]
        pairs = tuple((_upper_first(q.format(**words)), a.format(**words)) for q, a in asked)
        return Fact(_upper_first(statement.format(**words)), pairs, words["a"])

    def passkey_fact(self, rng: Random) -> Fact:
        i = rng.randrange(len(PASSKEYS))
        value = digits(rng, rng.choice((5, 5, 6, 7)))
        return Fact(PASSKEYS[i].format(val=value), tuple((q, value) for q in PASSKEY_QUESTIONS[i]), PASSKEYS[i])

    def facts(self, rng: Random, count: int) -> list[Fact]:
        """`count` facts about distinct subjects, some sharing an attribute so that it alone decides nothing."""
        out: list[Fact] = []
        shared = self.attribute(rng) if rng.random() < 0.4 else None
        subjects: set[str] = set()
        asked: set[str] = set()
        while len(out) < count:
            kind = rng.random()
            if kind < 0.06:
                fact = self.passkey_fact(rng)
            elif kind < (0.42 if self.varied else 0.25):
                fact = self.relation_fact(rng)
            else:
                fact = self.attribute_fact(rng, attribute=shared if rng.random() < 0.6 else None)
            questions = {question for question, _ in fact.questions}
            if fact.subject not in subjects and not questions & asked:
                subjects.add(fact.subject)
                asked |= questions
                out.append(fact)
        return out

    def absent_question(self, rng: Random, facts: Sequence[Fact]) -> tuple[str, str]:
        """A question of the same kind about somebody the text does not mention."""
        attributes = [f.attribute for f in facts if f.attribute] or [self.attribute(rng)]
        fact = self.attribute_fact(rng, attribute=rng.choice(attributes))
        return fact.questions[0][0], NOT_STATED

    def register(self, rng: Random, count: int) -> tuple[str, list[tuple[str, str]]]:
        """A list or table of records and questions about them: (text, (question, answer) pairs)."""
        fields = rng.sample(FIELDS, rng.randint(1, 3))
        label = rng.choice(("Record", "Item", "Entry", "Lot", "Part", "Member", ""))
        style = rng.randrange(4)
        lines, pairs = [], []
        for _ in range(count):
            key = (
                self.entity(rng)
                if not label or rng.random() < 0.3
                else f"{label} {chr(65 + rng.randrange(26))}{chr(65 + rng.randrange(26))}-{digits(rng, 4)}"
            )
            values = {f: self._field_value(rng, f) for f in fields}
            if style == 0:
                lines.append(f"{key}: " + ", ".join(f"{f} {v}" for f, v in values.items()) + ".")
            elif style == 1:
                lines.append(f"{key} | " + " | ".join(f"{f}: {v}" for f, v in values.items()))
            elif style == 2:
                lines.append(f"- {key} has " + " and ".join(f"{f} {v}" for f, v in values.items()) + ".")
            else:
                lines.append(f"{key}, " + ", ".join(f"{f}={v}" for f, v in values.items()))
            for f, v in values.items():
                question = rng.choice(
                    ("What is the {f} of {k}?", "Which {f} does {k} have?", "Give the {f} of {k}.", "{k}: {f}?")
                )
                pairs.append((_upper_first(question.format(f=f, k=key)), v))
        return "\n".join(lines), pairs

    def _field_value(self, rng: Random, field: str) -> str:
        """A value for one of FIELDS."""
        if field in ("place", "owner", "city"):
            return self.name(rng)
        return rng.choice(COLOURS) if field == "colour" else digits(rng, rng.choice((2, 3, 4, 5)))


_SLOT = re.compile(r"\{(\w+)\}")


def _answerable(statement: str, question: str, answer: str) -> bool:
    """Whether the statement has every word that the question and its answer speak of."""
    return set(_SLOT.findall(question + answer)) <= set(_SLOT.findall(statement))


def digits(rng: Random, count: int) -> str:
    """A number of `count` digits, the first one not zero."""
    return str(rng.randrange(10 ** (count - 1), 10**count))


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")


def plant(rng: Random, prose: str, facts: Sequence[Fact]) -> str:
    """Put each fact at a random sentence boundary of `prose`."""
    cuts = [m.end() for m in _SENTENCE_END.finditer(prose)] or [0]
    places = sorted((rng.choice([0, *cuts]), i) for i in range(len(facts)))
    out, last = [], 0
    for position, i in places:
        out.append(prose[last:position])
        out.append(facts[i].statement + " ")
        last = position
    out.append(prose[last:])
    return "".join(out)
