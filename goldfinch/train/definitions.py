"""Definitions of words that nobody knows, to be planted in prose: what a model can only have read."""

from __future__ import annotations

from random import Random

from .facts import Fact

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
_STATEMENTS = (
    "A {word} is {meaning}.",
    "A {word} means {meaning}.",
    "By a {word} is meant {meaning}.",
    "The word {word} stands for {meaning}.",
    "People there call it a {word}: {meaning}.",
    "In these parts a {word} is {meaning}.",
    "{word} (noun): {meaning}.",
)
_QUESTIONS = (
    "What is a {word}?",
    "What does {word} mean?",
    "How is {word} defined?",
    "What is meant by a {word}?",
    "What does the word {word} stand for?",
)


def definitions(rng: Random, count: int) -> list[Fact]:
    """`count` invented words, each with what it means and the questions about that."""
    facts: dict[str, Fact] = {}
    while len(facts) < count:
        word = rng.choice(_STARTS) + rng.choice(_MIDDLES) + rng.choice(_ENDS)
        adjective = rng.choice(_ADJECTIVES) + " " if rng.random() < 0.7 else ""
        thing = adjective + rng.choice(_GENERA)
        article = "an" if thing[0] in "aeiou" else "a"
        meaning = f"{article} {thing} for {rng.choice(_PURPOSES)}"
        asked = tuple((question.format(word=word), meaning) for question in _QUESTIONS)
        facts[word] = Fact(rng.choice(_STATEMENTS).format(word=word, meaning=meaning), asked, word)
    return list(facts.values())
