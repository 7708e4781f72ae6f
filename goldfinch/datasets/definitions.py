"""Definitions of words, to be planted in prose: invented words, and known ones in a sense that only the document gives.

Some phrasings and meanings are set aside, so that evaluation uses those that training never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from .facts import Fact
from .lists import NOUNS
from .phrasings import JOBS, THINGS

_STARTS = ("br", "gr", "dr", "fl", "k", "l", "m", "n", "p", "sk", "st", "t", "tr", "v", "w", "z", "ch", "sh", "qu", "h")
_MIDDLES = ("a", "e", "i", "o", "u", "ai", "ea", "oo", "ar", "en", "il", "or")
_ENDS = ("lt", "nd", "ck", "mp", "ss", "ver", "ling", "dle", "nter", "m", "n", "ft", "rin", "sel", "tch", "by")
_GENERA = (
    "tool",
    "vessel",
    "garment",
    "coin",
    "song",
    "dish",
    "bird",
    "boat",
    "fence",
    "knot",
    "drum",
    "tax",
    "guard",
    "oath",
    "field",
    "lamp",
)
_ADJECTIVES = (
    "small",
    "long",
    "flat",
    "wooden",
    "iron",
    "narrow",
    "round",
    "heavy",
    "painted",
    "hollow",
    "short",
    "red",
)
_PURPOSES = (
    "cutting reeds",
    "carrying salt",
    "measuring grain",
    "calling sheep",
    "crossing marshes",
    "keeping eels",
    "sealing letters",
    "drying herbs",
    "counting boats",
    "mending sails",
    "warning travellers",
    "storing ice",
    "sorting wool",
    "lighting stairs",
    "paying ferrymen",
    "holding bees",
)
_HELD_OUT_GENERA = ("basket", "whistle", "ribbon", "trough")
_HELD_OUT_PURPOSES = ("catching rain", "grinding mustard", "marking graves", "leading horses")
_DOES = (
    "signs",
    "keeps",
    "carries",
    "mends",
    "counts",
    "sells",
    "hides",
    "weighs",
    "paints",
    "opens",
    "wears",
    "cleans",
)
_STATEMENTS = (
    "{A} {word} is {meaning}.",
    "{A} {word} is {meaning}.",
    "{A} {word} means {meaning}.",
    "By {a} {word} is meant {meaning}.",
    "The word {word} stands for {meaning}.",
    "People there call it {a} {word}: {meaning}.",
    "In these parts {a} {word} is {meaning}.",
    "{word} (noun): {meaning}.",
    "{word}: {meaning}.",
    "**{word}**: {meaning}.",
    '"{word}" means {meaning}.',
    "In this text {a} {word} is {meaning}.",
)
_STATEMENTS_OF_MANY = (
    "{words} are {meaning}.",
    "{words} are {meaning}.",
    "The {words} are {meaning}.",
    '"{words}" means {meaning}.',
    "By {words} are meant {meaning}.",
    "{words}: {meaning}.",
)
_QUESTIONS = (
    "What is {a} {word}?",
    "What is {a} {word}?",
    "What does {word} mean?",
    "How is {word} defined?",
    "What is meant by {a} {word}?",
    "What does the word {word} stand for?",
)
_QUESTIONS_OF_MANY = ("What are {words}?", "What are {words}?", "What does {words} mean?", "What is meant by {words}?")
_HELD_OUT_STATEMENTS = ("We use the word {word} for {meaning}.", "Here {a} {word} denotes {meaning}.")
_HELD_OUT_QUESTIONS = ("Can you explain what {a} {word} is?", "What is {a} {word}, according to the text?")


def definitions(rng: Random, count: int, fragments: Sequence[str] = (), held_out: bool = False) -> list[Fact]:
    """`count` words, each with what it means and the questions about that.

    Args:
        fragments: words of a corpus to put some meanings together from, besides those made here.
        held_out: use the phrasings and the things that training never sees.
    """
    facts: dict[str, Fact] = {}
    while len(facts) < count:
        word = rng.choice(_STARTS) + rng.choice(_MIDDLES) + rng.choice(_ENDS)
        if not held_out and rng.random() < 0.3:
            word = rng.choice((*NOUNS, *THINGS))
        many = not held_out and rng.random() < 0.2
        meaning = _meaning(rng, fragments, many, held_out)
        a = _article(word)
        parts = {"word": word, "words": _plural(word), "meaning": meaning, "a": a, "A": a.capitalize()}
        statements = _HELD_OUT_STATEMENTS if held_out else _STATEMENTS_OF_MANY if many else _STATEMENTS
        questions = _HELD_OUT_QUESTIONS if held_out else _QUESTIONS_OF_MANY if many else _QUESTIONS
        statement = rng.choice(statements).format(**parts)
        if rng.random() < 0.7:
            statement = statement[:1].upper() + statement[1:]
        asked = tuple((question.format(**parts), meaning) for question in questions)
        facts[word] = Fact(statement, asked, word)
    return list(facts.values())


def _meaning(rng: Random, fragments: Sequence[str], many: bool, held_out: bool) -> str:
    genera, purposes = (_HELD_OUT_GENERA, _HELD_OUT_PURPOSES) if held_out else (_GENERA, _PURPOSES)
    genus = rng.choice(genera)
    genus = _plural(genus) if many else genus
    thing = (rng.choice(_ADJECTIVES) + " " if rng.random() < 0.6 else "") + genus
    kind = 0.0 if held_out else rng.random()
    if kind < 0.45:
        end = f"for {rng.choice(purposes)}"
    elif kind < 0.7 or not fragments:
        job = rng.choice(JOBS)
        end = f"that {_article(job)} {job} {rng.choice(_DOES)}"
    else:
        end = f"{rng.choice(('that', 'of', 'which', 'with'))} {rng.choice(fragments)} {rng.choice(fragments)}"
    opening = "" if many else ("the " if kind >= 0.45 and rng.random() < 0.5 else f"{_article(thing)} ")
    return f"{opening}{thing} {end}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _plural(word: str) -> str:
    return word + ("es" if word.endswith(("s", "sh", "ch", "x")) else "s")
