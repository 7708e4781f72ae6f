"""Documents in which many things look alike: bare lists of pairs, and facts that differ in one word.

In them a model must tell keys apart by more than their kind. Facts spread over prose never demand that.
"""

from __future__ import annotations

from random import Random

from .facts import Fact, FactMaker, digits
from .phrasings import COLOURS, JOBS, MONTHS

_SEPARATORS = (": ", " = ", " - ", ", ", " | ", "\t", " -> ", ":", "  ")
_HEADINGS = (
    "Name and number",
    "Register",
    "Values",
    "List",
    "Table",
    "Contacts",
    "Prices",
    "Codes",
    "Entries",
    "Scores",
)
_PAIR_QUESTIONS = (
    "What is the number of {key}?",
    "What is {key}?",
    "Which number does {key} have?",
    "{key}?",
    "What stands beside {key}?",
    "What is the entry for {key}?",
    "Give the number of {key}.",
    "What is listed for {key}?",
    "What value does {key} have?",
)
NOUNS = (
    "locker",
    "badge",
    "ticket",
    "door",
    "account",
    "file",
    "phone",
    "room",
    "safe",
    "train",
    "bus",
    "box",
    "key",
    "card",
    "gate",
    "machine",
    "server",
    "meter",
    "folder",
    "parcel",
)
ADJECTIVES = ("first", "second", "third", "old", "new", "small", "large", "upper", "lower", "left", "right", "spare")
_SIMILAR = (
    (
        "The {word} {noun} number is {value}.",
        ("What is the {word} {noun} number?", "Which is the {word} {noun} number?"),
    ),
    ("The number of the {word} {noun} is {value}.", ("What is the number of the {word} {noun}?",)),
    ("The {word} {noun} is number {value}.", ("What number is the {word} {noun}?",)),
    (
        "The {word} {noun} has the code {value}.",
        ("What code does the {word} {noun} have?", "What is the code of the {word} {noun}?"),
    ),
    (
        "The {word} {noun} opens with {value}.",
        ("What opens the {word} {noun}?", "What does the {word} {noun} open with?"),
    ),
    ("The {word} {noun} costs {value}.", ("What does the {word} {noun} cost?", "How much is the {word} {noun}?")),
)


def pairs_list(maker: FactMaker, rng: Random, count: int) -> tuple[str, list[tuple[str, str]]]:
    """`count` lines of a key and a value and nothing else, in one of many forms; and a question about each."""
    separator, end = rng.choice(_SEPARATORS), rng.choice(("", "", "", ";", "."))
    before = rng.choice(("", "", "", "- ", "* "))
    kind, size = rng.random(), rng.randint(2, 6)
    lines: list[str] = []
    pairs: list[tuple[str, str]] = []
    known: set[str] = set()
    while len(pairs) < count:
        if kind < 0.5 or (kind >= 0.8 and len(known) > 15):  # the short lists of common words are used up
            key = maker.name(rng)
        else:
            key = maker.entity(rng) if kind < 0.8 else rng.choice((*JOBS, *MONTHS, *COLOURS))
        if key in known:
            continue
        known.add(key)
        value = digits(rng, size) if rng.random() < 0.9 else maker.name(rng)
        lines.append(f"{before}{key}{separator}{value}{end}")
        pairs.append((rng.choice(_PAIR_QUESTIONS).format(key=key), value))
    heading = rng.choice(_HEADINGS) + rng.choice((":\n", "\n\n")) if rng.random() < 0.4 else ""
    return heading + "\n".join(lines) + "\n", pairs


def similar_facts(rng: Random, count: int) -> list[Fact]:
    """`count` facts of one wording and one noun that differ in an adjective and the value."""
    statement, questions = rng.choice(_SIMILAR)
    noun, words = rng.choice(NOUNS), rng.choice((tuple(COLOURS), ADJECTIVES))
    facts = []
    for word in rng.sample(words, min(count, len(words))):
        value = digits(rng, rng.choice((2, 3, 4, 5, 5, 5, 6)))
        parts = {"word": word, "noun": noun, "value": value}
        asked = tuple((question.format(**parts), value) for question in questions)
        facts.append(Fact(statement.format(**parts), asked, f"{word} {noun}"))
    return facts
