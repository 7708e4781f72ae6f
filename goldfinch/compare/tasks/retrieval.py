"""Exact values in long text: pass keys at known depths, lists of pairs, planted facts; documents as of `gf eval`."""

from __future__ import annotations

from functools import partial
from itertools import product

from goldfinch.datasets.facts import FactMaker
from goldfinch.evaluate.facts import document_with_facts
from goldfinch.evaluate.prose import HasTokenizer
from goldfinch.evaluate.retrieval import (
    DEPTHS,
    PAIR_QUESTION,
    PASSKEY_QUESTION,
    document_with_needles,
    document_with_passkey,
    list_of_pairs,
)

from .base import Exam, Place, Question, Task
from .material import Material
from .scoring import stated

# Of a document, prose has at least as many tokens as what is hidden in it.
_LEAST_PROSE = 64
PAIRS_ASKED = 10
# Pairs by which the length of all is estimated; tokens for each single name at which there may be too few of them.
_SAMPLED, _TOKENS_OF_NAMES = 50, 8
_NEEDLE_TOKENS = 24  # of a statement, beside its digits


def passkey(model: HasTokenizer, material: Material, place: Place, *, digits: int) -> Exam | None:
    """One pass key, its depth another one in each document (Mohtashami and Jaggi, arXiv 2305.16300)."""
    if place.tokens < _LEAST_PROSE + 2 * digits + _NEEDLE_TOKENS:
        return None
    depth = DEPTHS[place.number % len(DEPTHS)]
    text, value = document_with_passkey(model, place.rng, material.texts, place.tokens, depth, digits)
    return Exam(text, (Question(PASSKEY_QUESTION, (value,), depth_of(text, value)),))


def needles(model: HasTokenizer, material: Material, place: Place, *, digits: int) -> Exam | None:
    """Pass keys of different colours at even depths, each asked for: one pre-fill for all of them."""
    depths = DEPTHS[::3] if digits > 20 else DEPTHS
    if place.tokens < _LEAST_PROSE + len(depths) * (digits + _NEEDLE_TOKENS):
        return None
    text, pairs = document_with_needles(
        model, place.rng, material.texts, place.tokens, len(depths), digit_count=digits, depths=depths
    )
    return Exam(text, tuple(Question(question, (value,), depth_of(text, value)) for question, value in pairs))


def pairs(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """A list of `name: five digits` and nothing else, as long as the document may be."""
    names, rng = material.names, place.rng
    if place.tokens > _TOKENS_OF_NAMES * len(names):  # two names make one
        names = [f"{a} {b}" for a, b in product(names, names) if a != b]
    sample = rng.sample(names, min(len(names), _SAMPLED))
    tokens_each = len(model.tokenizer.encode(list_of_pairs(rng, sample, len(sample))[0])) / len(sample)
    count = min(max(int(place.tokens / tokens_each), PAIRS_ASKED), len(names))
    text, values = list_of_pairs(rng, names, count)
    keys = list(values)
    chosen = list(range(0, len(keys), max(1, len(keys) // PAIRS_ASKED)))[:PAIRS_ASKED]
    return Exam(
        text,
        tuple(Question(PAIR_QUESTION.format(key=keys[n]), (values[keys[n]],), n / len(keys)) for n in chosen),
    )


def facts(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """Facts planted in prose: names and phrasings that training never saw, values of five digits."""
    if place.tokens < 4 * _LEAST_PROSE:
        return None
    maker = FactMaker(material.names, held_out=True)
    text, found = document_with_facts(model, place.rng, material.texts, maker, place.tokens, five_digits=True)
    asked = [(fact, question, value) for fact in found for question, value in fact.questions]
    return Exam(text, tuple(Question(q, (v,), depth_of(text, fact.statement)) for fact, q, v in asked))


def depth_of(text: str, part: str) -> float | None:
    """Where a part of a text stands, 0 to 1; None where it stands in several places, or nowhere."""
    return text.find(part) / len(text) if text.count(part) == 1 else None


_KEY = "one pass key of {} digits in prose, its depth another one in each document"
_KEYS = "{} pass keys of {} digits and of different colours, at even depths"
TASKS = (
    *(
        Task(
            f"passkey-{n}", "needle", "value stated", _KEY.format(n), partial(passkey, digits=n), stated, n + 16,
            is_needle=True,
        )
        for n in (7, 64)
    ),
    *(
        Task(
            f"needles-{n}", "several needles", "value stated", _KEYS.format(count, n), partial(needles, digits=n),
            stated, n + 16, is_needle=True,
        )
        for n, count in ((7, "ten"), (64, "four"))
    ),
    Task("pairs", "key-value list", "value stated", "a list of names with five digits each", pairs, stated, 24),
    Task("facts", "key-value list", "value stated", "five facts planted in prose", facts, stated, 24),
)  # fmt: skip
