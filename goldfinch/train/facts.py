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


NUMBER_ATTRIBUTES = (
    "code", "access code", "phone extension", "locker number", "serial number", "badge number", "price", "height",
    "population", "room number", "invoice number", "tracking number", "pass key", "secret number", "bus number",
    "registration number", "score", "weight", "account number", "case number", "lot number", "version number",
    "postal code", "catalogue number", "membership number", "depth", "length", "quota", "budget", "capacity",
    "frequency", "order number", "ticket number", "membership fee", "annual output", "number of seats",
    "opening year", "speed limit", "license number", "PIN", "key", "id", "contract number", "distance",
)  # fmt: skip
WORD_ATTRIBUTES = (
    "password", "favourite colour", "nickname", "home town", "codename", "call sign", "owner", "director", "partner",
    "supplier", "birthplace", "teacher", "main product", "mascot", "guardian", "secretary", "successor", "rival",
    "architect", "sponsor", "capital", "flower", "instrument", "chief engineer", "meeting place", "contact person",
)  # fmt: skip
DATE_ATTRIBUTES = (
    "deadline", "date of birth", "opening day", "inspection date", "founding date", "renewal date", "delivery date",
    "wedding day", "expiry date", "launch date",
)  # fmt: skip
STATEMENTS = (
    "The {attr} of {ent} is {val}.",
    "{ent}'s {attr} is {val}.",
    "The {attr} for {ent} is {val}.",
    "It is noted that the {attr} of {ent} is {val}.",
    "For {ent}, the {attr} is {val}.",
    "The {attr} of {ent} was {val}.",
    "According to the register, the {attr} of {ent} is {val}.",
    "{ent} has {val} as {attr}.",
    "The {attr} assigned to {ent} is {val}.",
    "Please remember that the {attr} of {ent} is {val}.",
    "{ent} was given the {attr} {val}.",
    "In the case of {ent}, {val} is the {attr}.",
    "{val} is the {attr} of {ent}.",
    "{ent}: {attr} {val}.",
    "{attr} of {ent}: {val}.",
    "We set the {attr} of {ent} to {val}.",
)
QUESTIONS = (
    "What is the {attr} of {ent}?",
    "What is {ent}'s {attr}?",
    "What was the {attr} of {ent}?",
    "What is the {attr} for {ent}?",
    "Tell me the {attr} of {ent}.",
    "Give the {attr} of {ent}.",
    "Which {attr} does {ent} have?",
    "What {attr} was assigned to {ent}?",
    "{ent}: what is the {attr}?",
    "What does the text say about the {attr} of {ent}?",
    "What {attr} does {ent} have?",
)
HELD_OUT_STATEMENTS = (
    "The {attr} belonging to {ent} is {val}.",
    "Records show that {ent} has the {attr} {val}.",
    "As of today, the {attr} of {ent} stands at {val}.",
)
HELD_OUT_QUESTIONS = (
    "Can you tell me the {attr} of {ent}?",
    "Which is the {attr} of {ent}?",
    "According to the document, what is {ent}'s {attr}?",
)
PASSKEYS = (
    "The pass key is {val}. Remember it. {val} is the pass key.",
    "The secret code is {val}. Do not forget it.",
    "Remember this number: {val}. The number is {val}.",
)
PASSKEY_QUESTIONS = (
    ("What is the pass key?", "What is the pass key that was mentioned?"),
    ("What is the secret code?", "Which secret code is given?"),
    ("What is the number to remember?", "Which number should be remembered?"),
)
RELATIONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("{a} was born in {place} in {year}.",
     (("Where was {a} born?", "{place}"), ("When was {a} born?", "{year}"), ("In what year was {a} born?", "{year}"))),
    ("{a} works as a {job} in {place}.",
     (("Where does {a} work?", "{place}"), ("What does {a} work as?", "a {job}"), ("What is the job of {a}?", "{job}"))),
    ("The {thing} is kept at {place}, shelf {n}.",
     (("Where is the {thing} kept?", "{place}, shelf {n}"), ("On which shelf is the {thing}?", "{n}"))),
    ("In {year}, {a} bought {n} {thing}s from {b}.",
     (("Who bought {n} {thing}s?", "{a}"), ("From whom did {a} buy the {thing}s?", "{b}"),
      ("How many {thing}s did {a} buy?", "{n}"), ("When did {a} buy the {thing}s?", "{year}"))),
    ("{a} is married to {b}.", (("Who is married to {a}?", "{b}"), ("Who is {a} married to?", "{b}"))),
    ("The {thing} belongs to {a}.", (("Who does the {thing} belong to?", "{a}"), ("Who owns the {thing}?", "{a}"))),
    ("{a} founded the {place} Society in {year}.",
     (("Who founded the {place} Society?", "{a}"), ("When was the {place} Society founded?", "{year}"))),
    ("The train to {place} leaves from platform {n}.",
     (("From which platform does the train to {place} leave?", "{n}"), ("Where does the train from platform {n} go?", "{place}"))),
    ("{a} lives at {n} {place} Road.", (("Where does {a} live?", "{n} {place} Road"), ("What is the address of {a}?", "{n} {place} Road"))),
    ("The {place} bridge was built in {year} by {a}.",
     (("Who built the {place} bridge?", "{a}"), ("When was the {place} bridge built?", "{year}"))),
)  # fmt: skip
JOBS = tuple(["baker", "carpenter", "teacher", "nurse", "pilot", "lawyer", "painter", "farmer", "sailor", "clerk", "judge", "miner", "tailor", "chemist", "gardener", "librarian", "driver", "mechanic", "surgeon", "printer"])  # fmt: skip
COLOURS = ["red", "blue", "green", "white", "black", "grey", "yellow", "brown", "purple", "silver", "golden", "amber"]
THINGS = [
    "lamp",
    "clock",
    "anchor",
    "ladder",
    "barrel",
    "violin",
    "mirror",
    "basket",
    "saddle",
    "compass",
    "lantern",
    "rope",
    "wheel",
    "statue",
    "kettle",
    "map",
]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]

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
    """

    def __init__(self, names: Sequence[str], held_out: bool = False) -> None:
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

    def attribute_fact(self, rng: Random, entity: str | None = None, attribute: str | None = None) -> Fact:
        entity, attribute = entity or self.entity(rng), attribute or self.attribute(rng)
        value = self.value(rng, attribute)
        words = {"ent": entity, "attr": attribute, "val": value}
        statement = rng.choice(self.statements).format(**words)
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
