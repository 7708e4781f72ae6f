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
from ..train.facts import FactMaker, harvest_names, plant
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
    """Exact-match accuracy of 5-digit facts by document length.

    Args:
        lengths: document lengths in tokens (met within 2 %).
        documents: documents per length; each holds and is asked FACTS_PER_DOCUMENT facts.
        report: called with each row.

    Returns:
        rows with length, questions, exact (share, 0 to 1).
    """
    texts = held_out_texts(directory, corpora)
    maker = FactMaker(harvest_names(texts, held_out=True), held_out=True)
    rows = []
    for length in lengths:
        right = asked = 0
        for n in range(documents):
            rng = Random(f"facts-{seed}-{length}-{n}")
            facts = [maker.attribute_fact(rng, attribute=rng.choice(NUMBERS)) for _ in range(FACTS_PER_DOCUMENT)]
            text = _document(model, rng, texts, length, [f.statement for f in facts], facts)
            ids, span = document_token_ids(model, text)
            session = Session(model, prefill(model, ids, document_range=span))
            for fact in facts:
                question, value = fact.questions[0]
                right += exact_match(session.ask(question, max_tokens=24).text, [value])
                asked += 1
        rows.append({"length": length, "documents": documents, "questions": asked, "exact": right / asked})
        report(rows[-1])
    return rows


def _document(
    model: LanguageModel,
    rng: Random,
    texts: Sequence[str],
    length: int,
    statements: Sequence[str],
    facts: Sequence[Any],
) -> str:
    """Prose with the facts in it, `length` tokens long within 2 %."""
    needed = length - sum(len(model.tokenizer.encode(s)) for s in statements)
    prose = ""
    while len(model.tokenizer.encode(prose)) < needed:
        text = rng.choice(texts)
        start = rng.randrange(max(1, len(text) - 4000))
        prose += text[start : start + 4000] + "\n\n"
    ids = model.tokenizer.encode(prose)[:needed]
    return plant(rng, model.tokenizer.decode(ids).rstrip("\ufffd"), facts)
