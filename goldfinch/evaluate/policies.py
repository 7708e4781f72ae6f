"""Which reading policy answers best with a model, measured on a text that comes with gf.

The text is the Constitution of the United States with its first ten amendments (public domain), some questions about
it, and facts planted in it. Cut at several lengths, it is pre-filled once for each, and each policy answers the same
questions. A policy is chosen for a length where its F1 is higher than that of reading the whole document by
LEAST_GAIN standard errors of the paired differences; where none is, the whole document is read, as for a model that
nothing was measured for.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from gfcache.files.replace import replacing_output

from goldfinch.datasets.facts import FactMaker, plant
from goldfinch.errors import GoldFinchError
from goldfinch.measure.conditions import conditions
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.measured import MOST_ROWS, OWN_RECORD, parsed
from goldfinch.policies.named import ALL, ATTENTION, DEFAULT_BLOCKS, HYBRID, LEXICAL
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.text.prompt import check_reads_text
from goldfinch.weights.noted import place_of

from .asking import Reader
from .scoring import f1

TEXT = Path(__file__).parent / "text"
# Tokens of a document at most; MOST_LENGTHS measurements at most.
LENGTHS = (1000, 2000, 4000)
LEAST_LENGTH, MOST_LENGTHS = 500, 16
PLANTED = 12
LEAST_GAIN = 2.0
ANSWER_TOKENS = 24
# Of nobody: invented, so that no model has heard of what is planted.
NAMES = (
    "Harwick", "Belmora", "Quenby", "Tolverne", "Astrim", "Dunmallow", "Ferrowby", "Ilkestead", "Marrowin", "Orrinsay",
    "Pelstone", "Ravenholt", "Sorbeck", "Thistlemoor", "Ulverdale", "Wendlebury",
)  # fmt: skip
Asked = tuple[str, str]


def measure_policies(
    model: LanguageModel,
    *,
    lengths: Sequence[int] = LENGTHS,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Measure the policies that can be followed here.

    Args:
        lengths: tokens of a document at most, ascending.
        report: gets a row per length and policy as it is done.

    Returns:
        a record as `policies.measured.parsed` takes it; beside it the conditions, and under "measured" the rows:
        length, tokens, policy, blocks, questions, f1, gain over "all" and its standard_error.

    Raises:
        TokenizerError: the model has no tokenizer.
        GoldFinchError: the model cannot read blocks, or lengths that there cannot be.
    """
    check_reads_text(model)
    if not 1 <= len(lengths) <= min(MOST_LENGTHS, MOST_ROWS) or list(lengths) != sorted(set(lengths)):
        raise GoldFinchError(f"{len(lengths)} lengths, allowed: 1 to {MOST_LENGTHS}, ascending")
    if lengths[0] < LEAST_LENGTH:
        raise GoldFinchError(f"a length is {lengths[0]} tokens, allowed: {LEAST_LENGTH} or more")
    policies = [ALL, LEXICAL, *([HYBRID] if vectors_at_hand() else []), ATTENTION]
    rows, chosen = list[dict[str, Any]](), list[dict[str, Any]]()
    for length in lengths:
        text, asked = document(model, length)
        tokens = len(model.tokenizer.encode(text))
        scores: dict[str, list[float]] = {}
        prefilled: dict[str, Any] = {}
        for policy in policies:
            reader = Reader(model, read=policy, prefilled=prefilled)
            answers = reader.answers_to(text, [question for question, _ in asked], max_tokens=ANSWER_TOKENS)
            scores[policy] = [f1(answer, [right]) for answer, (_, right) in zip(answers, asked, strict=True)]
            row = {"length": length, "tokens": tokens, "policy": policy, "blocks": DEFAULT_BLOCKS.get(policy, 1)}
            rows.append(row | {"questions": len(asked)} | _compared(scores[policy], scores[ALL]))
            report(rows[-1])
        best = best_policy(rows[-len(policies) :])
        if best != (chosen[-1]["policy"] if chosen else ALL):
            chosen.append({"least_tokens": length, "policy": best, "blocks": DEFAULT_BLOCKS.get(best, 1)})
    name = None if model.card is None else model.card.name
    return {"model": name, "conditions": conditions(model), "rows": chosen, "measured": rows}


def document(model: LanguageModel, length: int) -> tuple[str, list[Asked]]:
    """A text of at most `length` tokens, and questions that it answers."""
    rng = Random(f"policies-{length}")
    facts = [FactMaker(NAMES).attribute_fact(rng) for _ in range(PLANTED)]
    facts = [fact for n, fact in enumerate(facts) if fact.subject not in {other.subject for other in facts[:n]}]
    left = length - sum(len(model.tokenizer.encode(f"{fact.statement} ")) for fact in facts)
    prose = ""
    for paragraph in (TEXT / "constitution.txt").read_text(encoding="utf-8").split("\n\n"):
        longer = f"{prose}\n\n{paragraph}" if prose else paragraph
        if len(model.tokenizer.encode(longer)) > left:
            break
        prose = longer
    words = " ".join(prose.split())
    questions = json.loads((TEXT / "questions.json").read_text(encoding="utf-8"))
    asked = [(row["question"], row["answer"]) for row in questions if row["evidence"] in words]
    return plant(rng, prose, facts), asked + [pair for fact in facts for pair in fact.questions]


def _compared(scores: Sequence[float], whole: Sequence[float]) -> dict[str, float]:
    gains = [a - b for a, b in zip(scores, whole, strict=True)]
    error = statistics.stdev(gains) / len(gains) ** 0.5
    return {"f1": statistics.mean(scores), "gain": statistics.mean(gains), "standard_error": error}


def best_policy(rows: Sequence[dict[str, Any]]) -> str:
    """The policy to follow at one length, from its rows, "all" the first of them; of equals the earlier."""
    better = [row for row in rows[1:] if row["gain"] > 0 and row["gain"] >= LEAST_GAIN * row["standard_error"]]
    return str(max(better, key=lambda row: row["f1"])["policy"]) if better else ALL


def keep(model: LanguageModel, record: dict[str, Any]) -> Path | None:
    """Write a record into the user's private cache, where "auto" finds it; None where there is no place for it.

    Raises:
        CacheWriteError: it cannot be written.
    """
    parsed(record)
    place = None if model.card is None else place_of(model.card.model_fingerprint)
    if place is None:
        return None
    with replacing_output(place / OWN_RECORD, follow=False) as stream:
        stream.write(json.dumps(record, indent=2).encode())
    return place / OWN_RECORD
