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
    JOBS,
    MONTHS,
    NUMBER_ATTRIBUTES,
    OPENINGS,
    PASSKEY_QUESTIONS,
    PASSKEYS,
    QUESTIONS,
    RELATIONS,
    STATEMENTS,
    THINGS,
    VERBS,
    WORD_ATTRIBUTES,
)

NOT_STATED = "Not stated."


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


class FactMaker:
    """Makes facts from a pool of names.

    Args:
        names: the pool.
        held_out: use the phrasings that training never sees.
        varied: put most phrasings together from parts (training only).
    """

    def __init__(self, names: Sequence[str], held_out: bool = False, varied: bool = False) -> None:
        self.varied = varied
        self.names = list(names)
        self.statements = HELD_OUT_STATEMENTS if held_out else STATEMENTS
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
        return digits(rng, rng.choice((2, 3, 4, 5, 5, 5, 6, 7)))

    def attribute(self, rng: Random) -> str:
        kind = rng.random()
        return rng.choice(NUMBER_ATTRIBUTES if kind < 0.65 else WORD_ATTRIBUTES if kind < 0.88 else DATE_ATTRIBUTES)

    def attribute_fact(
        self, rng: Random, entity: str | None = None, attribute: str | None = None, value: str | None = None
    ) -> Fact:
        entity, attribute = entity or self.entity(rng), attribute or self.attribute(rng)
        value = value or self.value(rng, attribute)
        words = {"ent": entity, "attr": attribute, "val": value}
        if self.varied and rng.random() < 0.75:
            form = rng.choice(FORMS).format(**words, verb=rng.choice(VERBS))
            statement = rng.choice(OPENINGS) + form + "."
        else:
            statement = rng.choice(self.statements).format(**words)
        if self.varied and rng.random() < 0.6:
            question = rng.choice(ASKING).format(x=rng.choice(ASKED).format(**words))
        else:
            question = rng.choice(self.questions).format(**words)
        return Fact(_upper_first(statement), ((_upper_first(question), value),), entity, attribute)

    def relation_fact(self, rng: Random) -> Fact:
        statement, questions = rng.choice(RELATIONS)
        words = {
            "a": f"{self.name(rng)} {self.name(rng)}",
            "b": f"{self.name(rng)} {self.name(rng)}",
            "place": self.name(rng),
            "year": str(rng.randint(1500, 2025)),
            "job": rng.choice(JOBS),
            "thing": f"{rng.choice(COLOURS)} {rng.choice(THINGS)}",
            "n": str(rng.randint(2, 400)),
        }
        pairs = tuple((q.format(**words), a.format(**words)) for q, a in questions)
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
        while len(out) < count:
            kind = rng.random()
            if kind < 0.07:
                fact = self.passkey_fact(rng)
            elif kind < 0.25:
                fact = self.relation_fact(rng)
            else:
                fact = self.attribute_fact(rng, attribute=shared if rng.random() < 0.6 else None)
            if fact.subject not in subjects:
                subjects.add(fact.subject)
                out.append(fact)
        return out

    def absent_question(self, rng: Random, facts: Sequence[Fact]) -> tuple[str, str]:
        """A question of the same kind about somebody the text does not mention."""
        attributes = [f.attribute for f in facts if f.attribute] or [self.attribute(rng)]
        fact = self.attribute_fact(rng, attribute=rng.choice(attributes))
        return fact.questions[0][0], NOT_STATED

    def register(self, rng: Random, count: int) -> tuple[str, list[tuple[str, str]]]:
        """A list or table of records and questions about them: (text, (question, answer) pairs)."""
        fields = rng.sample(
            ("price", "stock", "weight", "place", "owner", "colour", "age", "rank", "city", "code"), rng.randint(1, 3)
        )
        label = rng.choice(("Record", "Item", "Entry", "Lot", "Part", "Member", ""))
        style = rng.randrange(4)
        lines, pairs = [], []
        for _ in range(count):
            key = (
                self.entity(rng)
                if not label or rng.random() < 0.3
                else f"{label} {chr(65 + rng.randrange(26))}{chr(65 + rng.randrange(26))}-{digits(rng, 4)}"
            )
            values = {f: self._register_value(rng, f) for f in fields}
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

    def _register_value(self, rng: Random, field: str) -> str:
        if field in ("place", "owner", "city"):
            return self.name(rng)
        return rng.choice(COLOURS) if field == "colour" else digits(rng, rng.choice((2, 3, 4, 5)))


def digits(rng: Random, count: int) -> str:
    """A number of `count` digits, the first one not zero."""
    return str(rng.randrange(10 ** (count - 1), 10**count))


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


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
