"""Planted facts in held-out prose: unseen texts, unseen names, unseen phrasings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ..model import LanguageModel
from ..prefilling import document_token_ids, prefill
from ..session import Session
from ..train.corpora import is_held_out_document, read_records
from ..train.facts import Fact, FactMaker, digits, harvest_names, plant
from .scoring import exact_match

FACTS_PER_DOCUMENT = 5
NUMBERS = ("code", "access code", "phone extension", "serial number", "badge number", "pass key", "secret number")


def held_out_texts(directory: Path, corpora: Sequence[str]) -> list[str]:
    """Long texts that training never reads."""
    return [
        record["text"]
        for name in corpora
        for record in read_records(directory / f"{name}.jsonl.zst")
        if is_held_out_document(record["title"]) and len(record["text"]) > 3000
    ]


def evaluate_facts(
    model: LanguageModel,
    directory: Path,
    *,
    lengths: Sequence[int] = (250, 500, 1000, 2000, 4000),
    documents: int = 40,
    seed: int = 0,
    corpora: Sequence[str] = ("corpus-wikipedia-00", "corpus-wikipedia-01"),
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Exact-match accuracy of planted facts by document length.

    Args:
        lengths: document lengths in tokens (met within 2 %).
        documents: documents per length with 5-digit values; half as many with values of 2 to 7 digits, some of them
            letters and digits; half as many with 5-digit values that stand before their subject or
            their attribute. Each holds and is asked FACTS_PER_DOCUMENT facts.
        report: called with each row.

    Returns:
        rows with length; exact and questions for 5-digit values (share, 0 to 1); exact_mixed, exact_value_first and
        their questions_... likewise.
    """
    texts = held_out_texts(directory, corpora)
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
                found = _ask_about_document(model, rng, texts, maker, length, five_digits)
                right, asked = right + sum(found), asked + len(found)
            row |= {name: right / asked, name.replace("exact", "questions"): asked}
        rows.append(row)
        report(row)
    return rows


def _ask_about_document(
    model: LanguageModel, rng: Random, texts: Sequence[str], maker: FactMaker, length: int, five_digits: bool
) -> list[bool]:
    """Plant facts in a document of `length` tokens, ask for each; which answers were right."""
    facts = [
        maker.attribute_fact(rng, attribute=rng.choice(NUMBERS), value=digits(rng, 5) if five_digits else None)
        for _ in range(FACTS_PER_DOCUMENT)
    ]
    text = _document(model, rng, texts, length, facts)
    ids, span = document_token_ids(model, text)
    session = Session(model, prefill(model, ids, document_range=span))
    return [
        exact_match(session.ask(question, max_tokens=24).text, [value])
        for f in facts
        for question, value in f.questions
    ]


def _document(model: LanguageModel, rng: Random, texts: Sequence[str], length: int, facts: Sequence[Fact]) -> str:
    """Prose with the facts in it, `length` tokens long within 2 %."""
    needed = length - sum(len(model.tokenizer.encode(fact.statement)) for fact in facts)
    prose = ""
    while len(model.tokenizer.encode(prose)) < needed:
        text = rng.choice(texts)
        start = rng.randrange(max(1, len(text) - 4000))
        prose += text[start : start + 4000] + "\n\n"
    ids = model.tokenizer.encode(prose)[:needed]
    return plant(rng, model.tokenizer.decode(ids).rstrip("\ufffd"), facts)
