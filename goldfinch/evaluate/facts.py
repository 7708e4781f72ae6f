"""Planted facts in held-out prose: unseen texts, unseen names, unseen phrasings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from ..train.facts import FactMaker, digits, harvest_names, plant
from .asking import Reader
from .prose import prose_of
from .scoring import exact_match

FACTS_PER_DOCUMENT = 5
NUMBERS = ("code", "access code", "phone extension", "serial number", "badge number", "pass key", "secret number")


def evaluate_facts(
    reader: Reader,
    texts: Sequence[str],
    *,
    lengths: Sequence[int] = (250, 500, 1000, 2000, 4000),
    documents: int = 40,
    seed: int = 0,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Exact-match accuracy of planted facts by document length.

    Args:
        texts: held-out prose.
        lengths: document lengths in tokens (met within 2 %).
        documents: documents per length with 5-digit values; half as many with values of 2 to 7 digits, some of them
            letters and digits; half as many with 5-digit values that stand before their subject or
            their attribute. Each holds and is asked FACTS_PER_DOCUMENT facts.
        report: called with each row.

    Returns:
        rows with length; exact and questions for 5-digit values (share, 0 to 1); exact_mixed, exact_value_first and
        their questions_... likewise.
    """
    names = harvest_names(texts, held_out=True)
    subject_first = FactMaker(names, held_out=True)
    value_first = FactMaker(names, held_out=True, value_first=True)
    few = max(1, documents // 2)
    kinds = (
        ("exact", subject_first, True, documents),
        ("exact_mixed", subject_first, False, few),
        ("exact_value_first", value_first, True, few),
    )
    rows = []
    for length in lengths:
        row: dict[str, Any] = {"length": length}
        for name, maker, five_digits, count in kinds:
            right = asked = 0
            for n in range(count):
                rng = Random(f"facts-{name}-{seed}-{length}-{n}")
                found = _ask_about_document(reader, rng, texts, maker, length, five_digits)
                right, asked = right + sum(found), asked + len(found)
            row |= {name: right / asked, name.replace("exact", "questions"): asked}
        rows.append(row)
        report(row)
    return rows


def _ask_about_document(
    reader: Reader, rng: Random, texts: Sequence[str], maker: FactMaker, length: int, five_digits: bool
) -> list[bool]:
    """Plant facts in a document of `length` tokens, ask for each; which answers were right."""
    facts = [
        maker.attribute_fact(rng, attribute=rng.choice(NUMBERS), value=digits(rng, 5) if five_digits else None)
        for _ in range(FACTS_PER_DOCUMENT)
    ]
    tokens = length - sum(len(reader.model.tokenizer.encode(fact.statement)) for fact in facts)
    text = plant(rng, prose_of(reader.model, rng, texts, tokens), facts)
    pairs = [pair for fact in facts for pair in fact.questions]
    answers = reader.answers_to(text, [question for question, _ in pairs], max_tokens=24)
    return [exact_match(answer, [value]) for answer, (_, value) in zip(answers, pairs, strict=True)]
