"""Planted facts in held-out prose: unseen texts, unseen names, unseen phrasings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from goldfinch.datasets.articles import wrap
from goldfinch.datasets.definitions import definitions
from goldfinch.datasets.facts import Fact, FactMaker, digits, harvest_names, plant

from .asking import Reader
from .prose import HasTokenizer, prose_of
from .scoring import exact_match

FACTS_PER_DOCUMENT = 5
WIDTH = 80
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
            letters and digits; half as many with 5-digit values in lines of at most WIDTH characters; half as many
            with 5-digit values before their subject or their attribute. Each holds, and is asked,
            FACTS_PER_DOCUMENT facts.
        report: called with each row.

    Returns:
        rows with length; exact and questions for 5-digit values (share, 0 to 1); exact_mixed, exact_wrapped,
        exact_value_first and their questions_... likewise.
    """
    names = harvest_names(texts, held_out=True)
    subject_first = FactMaker(names, held_out=True)
    value_first = FactMaker(names, held_out=True, value_first=True)
    few = max(1, documents // 2)
    kinds = (
        ("exact", subject_first, True, documents),
        ("exact_mixed", subject_first, False, few),
        ("exact_wrapped", subject_first, True, few),
        ("exact_value_first", value_first, True, few),
    )
    rows = []
    for length in lengths:
        row: dict[str, Any] = {"length": length}
        for name, maker, five_digits, count in kinds:
            right = asked = 0
            for n in range(count):
                rng = Random(f"facts-{name}-{seed}-{length}-{n}")
                text, facts = document_with_facts(reader.model, rng, texts, maker, length, five_digits=five_digits)
                found = _ask(reader, wrap(text, WIDTH) if name == "exact_wrapped" else text, facts)
                right, asked = right + sum(found), asked + len(found)
            row |= {name: right / asked, name.replace("exact", "questions"): asked}
        rows.append(row)
        report(row)
    return rows


def evaluate_definitions(
    reader: Reader,
    texts: Sequence[str],
    *,
    lengths: Sequence[int] = (250, 1000, 4000),
    documents: int = 20,
    seed: int = 0,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Exact-match accuracy of what invented words mean, explained somewhere in held-out prose in unseen phrasings.

    Returns:
        rows with length, exact (share, 0 to 1) and questions: FACTS_PER_DOCUMENT for each of the documents.
    """
    rows = []
    for length in lengths:
        found: list[bool] = []
        for n in range(documents):
            rng = Random(f"definitions-{seed}-{length}-{n}")
            facts = definitions(rng, FACTS_PER_DOCUMENT, held_out=True)
            asked = [Fact(fact.statement, (rng.choice(fact.questions),), fact.subject) for fact in facts]
            tokens = length - sum(len(reader.model.tokenizer.encode(fact.statement)) for fact in facts)
            found += _ask(reader, plant(rng, prose_of(reader.model, rng, texts, tokens), asked), asked)
        rows.append({"length": length, "exact": sum(found) / len(found), "questions": len(found)})
        report(rows[-1])
    return rows


def document_with_facts(
    model: HasTokenizer, rng: Random, texts: Sequence[str], maker: FactMaker, length: int, *, five_digits: bool
) -> tuple[str, list[Fact]]:
    """Prose of `length` tokens with FACTS_PER_DOCUMENT facts planted in it, and these."""
    facts = [
        maker.attribute_fact(rng, attribute=rng.choice(NUMBERS), value=digits(rng, 5) if five_digits else None)
        for _ in range(FACTS_PER_DOCUMENT)
    ]
    tokens = length - sum(len(model.tokenizer.encode(fact.statement)) for fact in facts)
    return plant(rng, prose_of(model, rng, texts, tokens), facts), facts


def _ask(reader: Reader, text: str, facts: Sequence[Fact]) -> list[bool]:
    """Which answers were right."""
    pairs = [pair for fact in facts for pair in fact.questions]
    answers = reader.answers_to(text, [question for question, _ in pairs], max_tokens=24)
    return [exact_match(answer, [value]) for answer, (_, value) in zip(answers, pairs, strict=True)]
