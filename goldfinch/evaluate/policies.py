"""Which reading policy answers best with a model, and for one of others which layout, measured on a text of gf's own.

The text is the Constitution of the United States with its first ten amendments (public domain), some questions about
it, and facts planted in it. Cut at several lengths, it is pre-filled once for each, and each policy answers the same
questions. A policy is chosen for a length where its F1 is higher than that of reading the whole document by
LEAST_GAIN standard errors of the paired differences; where none is, the whole document is read, as for a model that
nothing was measured for. A model of others reads the whole of a document that is kept whole, and the blocks of one that
is kept in blocks: one, the likeliest of the answers from several, or two of them joined.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from random import Random
from typing import Any

from gfcache.files.replace import replacing_output

from goldfinch.datasets.facts import FactMaker, plant
from goldfinch.errors import GoldFinchError, ModelRefused
from goldfinch.foreign.models import ForeignModel
from goldfinch.measure.conditions import conditions, git_commit, processor
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.measured import MOST_ROWS, OWN_RECORD, parsed
from goldfinch.policies.named import ALL, ATTENTION, BLOCKS, DEFAULT_BLOCKS, HYBRID, LEXICAL, WHOLE
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
# Blocks of a model of others that are asked each by itself, and that are joined; positions of question and answer.
CANDIDATES, JOINED = (1, 2, 3), 2
ROOM = 256
ANSWER_TOKENS = 24
# Of nobody: invented, so that no model has heard of what is planted.
NAMES = (
    "Harwick", "Belmora", "Quenby", "Tolverne", "Astrim", "Dunmallow", "Ferrowby", "Ilkestead", "Marrowin", "Orrinsay",
    "Pelstone", "Ravenholt", "Sorbeck", "Thistlemoor", "Ulverdale", "Wendlebury",
)  # fmt: skip
Asked = tuple[str, str]


@dataclass(frozen=True)
class Way:
    """A policy and how it is followed: blocks read together, candidates asked each by itself."""

    policy: str
    blocks: int = 1
    candidates: int = 1


def measure_policies(
    model: LanguageModel | ForeignModel,
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
        length, tokens, policy, blocks, candidates, questions, f1, gain over the first (of them "all", where the whole
        document fits) and its standard_error.

    Raises:
        TokenizerError: the model has no tokenizer.
        GoldFinchError: the model cannot read blocks, or lengths that there cannot be.
    """
    if isinstance(model, LanguageModel):
        check_reads_text(model)
    if not 1 <= len(lengths) <= min(MOST_LENGTHS, MOST_ROWS) or list(lengths) != sorted(set(lengths)):
        raise GoldFinchError(f"{len(lengths)} lengths, allowed: 1 to {MOST_LENGTHS}, ascending")
    if lengths[0] < LEAST_LENGTH:
        raise GoldFinchError(f"a length is {lengths[0]} tokens, allowed: {LEAST_LENGTH} or more")
    ways, rows, chosen = ways_of(model), list[dict[str, Any]](), list[dict[str, Any]]()
    encode: Any = model.tokenizer.encode if model.tokenizer is not None else None
    for length in lengths:
        text, asked = document(model, length)
        tokens = len(encode(text))
        found, first = list[dict[str, Any]](), list[float]()
        prefilled: dict[Any, Any] = {}
        for way in ways:
            if way.policy == ALL and not _has_room(model, tokens):
                continue
            answers = _answers(model, way, text, [question for question, _ in asked], prefilled)
            scores = [f1(answer, [right]) for answer, (_, right) in zip(answers, asked, strict=True)]
            first = first or scores
            row = {"length": length, "tokens": tokens, **asdict(way), "questions": len(asked)}
            found.append(row | _compared(scores, first))
            report(found[-1])
        rows += found
        best = best_way(found)
        if best != (Way(*(chosen[-1][name] for name in _WAY)) if chosen else Way(ALL)):
            chosen.append({"least_tokens": length, **asdict(best)})
    return _about(model) | {"rows": chosen, "measured": rows}


_WAY = [field.name for field in fields(Way)]


def ways_of(model: LanguageModel | ForeignModel) -> list[Way]:
    """What is compared, the first with all others.

    Raises:
        ModelRefused: a model of others that keeps documents whole alone.
    """
    by_words = [LEXICAL, *([HYBRID] if vectors_at_hand() else [])]
    if isinstance(model, LanguageModel):
        return [Way(policy, DEFAULT_BLOCKS.get(policy, 1)) for policy in (ALL, *by_words, ATTENTION)]
    from goldfinch.foreign.running.blocks import obstacle_to_blocks
    from goldfinch.foreign.running.joining import obstacle_to_joining

    obstacle = obstacle_to_blocks(model)
    if obstacle is not None:
        raise ModelRefused(f"{model.name} keeps documents whole, and reads all of them: {obstacle}")
    several = [] if obstacle_to_joining(model) else [Way(by_words[-1], JOINED)]
    return [Way(ALL), *(Way(by_words[-1], candidates=count) for count in CANDIDATES), *several]


def _answers(
    model: LanguageModel | ForeignModel, way: Way, text: str, questions: list[str], prefilled: dict[Any, Any]
) -> list[str]:
    """Answers to questions about a text; `prefilled` keeps its caches, and answers that other ways choose of, too."""
    if isinstance(model, LanguageModel):
        reader = Reader(model, read=way.policy, read_blocks=way.blocks, prefilled=prefilled)
        return reader.answers_to(text, questions, max_tokens=ANSWER_TOKENS)
    from goldfinch.foreign.running.batch import ask_each
    from goldfinch.foreign.running.engine import ForeignEngine
    from goldfinch.foreign.running.session import ForeignSession

    layout = WHOLE if way.policy == ALL else BLOCKS
    engine = ForeignEngine(replace(model, layout=layout))
    if layout not in prefilled:
        prefilled[layout] = engine.prefill(engine.document(text))
    session = ForeignSession(
        engine.model, prefilled[layout], read=way.policy,
        read_blocks=max(CANDIDATES) if layout == BLOCKS and way.blocks == 1 else way.blocks, joined=way.blocks > 1,
    )  # fmt: skip
    if way not in prefilled:  # the answers from the best blocks are among those from more
        found = ask_each(session, questions, max_tokens=ANSWER_TOKENS)
        prefilled |= {replace(way, candidates=count): found for count in (CANDIDATES if way.blocks == 1 else (1,))}
    answers = []
    for found in prefilled[way]:
        some = found[: way.candidates]
        best = session.reader.best([(reading, one.usage.likelihood) for reading, one in some])
        answers.append(some[best][1].answer().text)
    return answers


def _has_room(model: LanguageModel | ForeignModel, tokens: int) -> bool:
    """Whether a document is read whole: one of others needs positions for question and answer."""
    return isinstance(model, LanguageModel) or tokens + ROOM <= model.context_length


def _about(model: LanguageModel | ForeignModel) -> dict[str, Any]:
    """Which model was measured, and under which conditions."""
    if isinstance(model, LanguageModel):
        return {"model": None if model.card is None else model.card.name, "conditions": conditions(model)}
    from goldfinch.foreign.running.engine import ForeignEngine

    numerics = ForeignEngine(model).numerics.to_dict()
    return {"model": model.name, "conditions": {"commit": git_commit(), "processor": processor(), "numerics": numerics}}


def _fingerprint(model: LanguageModel | ForeignModel) -> str | None:
    if isinstance(model, LanguageModel):
        return None if model.card is None else model.card.model_fingerprint
    return model.fingerprints["model_fingerprint"]


def document(model: LanguageModel | ForeignModel, length: int) -> tuple[str, list[Asked]]:
    """A text of at most `length` tokens, and questions that it answers."""
    assert model.tokenizer is not None
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


def best_way(rows: Sequence[dict[str, Any]]) -> Way:
    """What to follow at one length, from its rows, the first of them that with which all are compared; of equals the
    earlier."""
    better = [row for row in rows[1:] if row["gain"] > 0 and row["gain"] >= LEAST_GAIN * row["standard_error"]]
    best = max(better, key=lambda row: row["f1"]) if better else rows[0]
    return Way(*(best[name] for name in _WAY))


def keep(model: LanguageModel | ForeignModel, record: dict[str, Any]) -> Path | None:
    """Write a record into the user's private cache, where "auto" finds it; None where there is no place for it.

    Raises:
        CacheWriteError: it cannot be written.
    """
    parsed(record)
    fingerprint = _fingerprint(model)
    place = None if fingerprint is None else place_of(fingerprint)
    if place is None:
        return None
    with replacing_output(place / OWN_RECORD, follow=False) as stream:
        stream.write(json.dumps(record, indent=2).encode())
    return place / OWN_RECORD
