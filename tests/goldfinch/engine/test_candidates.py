"""Several candidates, one answer: the block that the model itself finds fitting; likelihood and confidence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import goldfinch
from goldfinch.datasets.facts import NOT_STATED
from goldfinch.engine.cite import cite
from goldfinch.errors import GoldFinchError
from goldfinch.policies import measured
from goldfinch.policies.base import Chosen
from goldfinch.policies.measured import Choice, Evidence
from goldfinch.text.prompt import document_token_ids

PLACES = ("Aberdeen", "Bristol", "Cardiff", "Dundee", "Exeter", "Falmouth")
FILLER = "It lies by the sea and has many streets, full of people on most days. " * 9
TEXT = "\n\n".join(f"{place} is known for its {place[::-1].lower()} trade. {FILLER}" for place in PLACES)
QUESTION = "What trade is Dundee known for?"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture(scope="module")
def cache(model: goldfinch.LanguageModel) -> goldfinch.DocumentCache:
    ids, span = document_token_ids(model, TEXT)
    return goldfinch.prefill(model, ids, document_range=span)


def record(
    folder: Path, model: goldfinch.LanguageModel, monkeypatch: pytest.MonkeyPatch, choice=None, **values: object
) -> None:
    """What was measured of the model."""
    row = {"least_tokens": 0, "policy": "lexical", "blocks": 1, "candidates": 3, "choice": choice or {}}
    monkeypatch.setattr(measured, "RECORDS", folder)
    path = folder / f"{model.card.model_fingerprint}.json"
    path.write_text(json.dumps({"rows": [row], **values}))


def one_by_one(model, cache, count: int) -> list[goldfinch.Session]:
    found = goldfinch.Session(model, cache, read="lexical", read_blocks=count).reader.read(QUESTION).found
    return [goldfinch.Session(model, cache, read=Chosen("lexical", (block,))) for block in found]


def evidence(session: goldfinch.Session) -> Evidence:
    """What the model says of what a session reads, by the public way to the first token."""
    reading, ids = session.reader.read(QUESTION), session.question_token_ids(QUESTION)
    logits, _ = session.start(ids, session.state_for(reading))
    first = session.model.tokenizer.encode(" " + NOT_STATED)[0]
    return Evidence(reading.score, float(logits.log_softmax(-1)[first]), 0.0, 0.0)


CHOICES = ({}, {"silence": 1e4}, {"silence": -1e4}, {"silence": -1e4, "margin": 1e6})


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_answer_of_the_block_that_fits_best(choice: dict, model, cache, tmp_path, monkeypatch) -> None:
    """Bit for bit what this block gives alone, streamed, in a batch, and from the file."""
    alone = one_by_one(model, cache, 3)
    record(tmp_path, model, monkeypatch, choice)
    best = Choice(**choice).best([evidence(session) for session in alone])
    expected = alone[best].ask(QUESTION, max_tokens=12)
    session = goldfinch.Session(model, cache)
    assert (session.reader.policy, session.reader.candidates) == ("lexical", 3)
    found = session.ask(QUESTION, max_tokens=12)
    assert found.token_ids == expected.token_ids
    assert found.usage.likelihood == expected.usage.likelihood
    assert found.usage.reading == expected.usage.reading == session.reader.read(QUESTION) == session.last_usage.reading
    assert "".join(session.stream(QUESTION, max_tokens=12)) == found.text
    assert [a.token_ids for a in goldfinch.ask_many(session, [QUESTION] * 5, max_tokens=12)] == [found.token_ids] * 5
    block = found.usage.reading.found[0]
    assert [c.first_line for c in cite(session, QUESTION, found.token_ids)] == [block.first_line]
    assert [c.found == block for c in session.reader.explained(QUESTION) if c.read] == [True]
    cache.save(tmp_path / "doc.gfc")
    again = goldfinch.Session(model, goldfinch.open_cache(tmp_path / "doc.gfc", model)).ask(QUESTION, max_tokens=12)
    assert (again.token_ids, again.usage.likelihood) == (found.token_ids, found.usage.likelihood)


def test_the_choices_differ(model, cache) -> None:
    """Else the test above would show nothing."""
    seen = [evidence(session) for session in one_by_one(model, cache, 3)]
    best = [Choice(**choice).best(seen) for choice in CHOICES]
    assert best[0] == best[3] == 0
    assert len(set(best)) >= 2


def test_each_question_of_several_keeps_what_was_chosen_for_it(model, cache, tmp_path, monkeypatch) -> None:
    record(tmp_path, model, monkeypatch, {"score": 0.0, "silence": -1e4})
    session = goldfinch.Session(model, cache)
    questions = [f"What trade is {place} known for?" for place in PLACES]
    answers = goldfinch.ask_many(session, questions, max_tokens=4)
    readings = [session.reader.read(question) for question in questions]
    assert [answer.usage.reading for answer in answers] == readings
    first = [goldfinch.Session(model, cache, read="lexical").reader.read(question) for question in questions]
    assert readings != first  # else nothing was chosen


def test_who_names_blocks_or_a_policy_gets_no_candidates(model, cache, tmp_path, monkeypatch) -> None:
    record(tmp_path, model, monkeypatch)
    assert goldfinch.Session(model, cache, read="lexical").reader.candidates == 1
    assert goldfinch.Session(model, cache, read_blocks=2).reader.candidates == 1
    assert len(goldfinch.Session(model, cache, read="lexical", candidates=2).reader.readings(QUESTION)) == 2


def test_what_cannot_be(model, cache) -> None:
    with pytest.raises(GoldFinchError, match="the number of candidates is 9, allowed: 1 to 8"):
        goldfinch.Session(model, cache, read="lexical", candidates=9)
    with pytest.raises(GoldFinchError, match="2 candidates of 3 blocks each, allowed: several of one of them"):
        goldfinch.Session(model, cache, read="lexical", read_blocks=3, candidates=2)


@torch.no_grad()
def test_the_likelihood_is_the_mean_over_the_tokens(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="all")
    answer = session.ask(QUESTION, max_tokens=6)
    ids, terms = session.question_token_ids(QUESTION), []
    for n, token in enumerate(answer.token_ids):
        terms.append(float(session.start(ids + answer.token_ids[:n])[0].log_softmax(-1)[token]))
    assert len(terms) == 6
    assert answer.usage.likelihood == pytest.approx(math.exp(sum(terms) / 6), rel=1e-3)
    sampled = session.ask(QUESTION, max_tokens=6, temperature=2.0, seed=1)
    assert sampled.usage.likelihood < answer.usage.likelihood


def test_confidence_is_a_number_only_where_one_was_calibrated(model, cache, tmp_path, monkeypatch) -> None:
    assert goldfinch.Session(model, cache, read="lexical").ask(QUESTION, max_tokens=4).confidence is None
    given = {"auc": 0.8, "intercept": 0.5, "score_weight": -1.0, "likelihood_weight": 2.0}
    record(tmp_path, model, monkeypatch, confidence={"lexical": given, "all": {"auc": 0.5, "reason": "tells nothing"}})
    session = goldfinch.Session(model, cache, read="lexical")
    answer = session.ask(QUESTION, max_tokens=4)
    x = 0.5 - answer.usage.reading.score + 2 * math.log(answer.usage.likelihood)
    assert answer.confidence == pytest.approx(1 / (1 + math.exp(-x)))
    assert answer.confidence_reason is None
    raw = session.ask(QUESTION, max_tokens=4, raw=True)
    for other in (
        session.ask(QUESTION, max_tokens=4, quote=True),
        session.ask(QUESTION, max_tokens=4, temperature=1.0),
    ):
        assert (other.confidence, other.confidence_reason) == (
            None,
            "nothing was calibrated for quotes and for a temperature",
        )
    assert (raw.confidence, raw.confidence_reason) == (None, "text that goes on is no answer")
    whole = goldfinch.Session(model, cache, read="all").ask(QUESTION, max_tokens=4)
    assert (whole.confidence, whole.confidence_reason) == (None, "tells nothing")
    attention = goldfinch.Session(model, cache, read="attention").ask(QUESTION, max_tokens=4)
    assert attention.confidence is None
    assert "the reading policy 'attention'" in attention.confidence_reason


@pytest.mark.gpu
def test_a_gpu_chooses_among_the_same_candidates(model, cache, tiny_model: Path, tmp_path: Path) -> None:
    cache.save(tmp_path / "doc.gfc")
    there = goldfinch.load_model(tiny_model, device="cuda", dtype=torch.float32)
    session = goldfinch.Session(there, goldfinch.open_cache(tmp_path / "doc.gfc", there), read="lexical", candidates=3)
    found, here = session.ask(QUESTION, max_tokens=6), one_by_one(model, cache, 3)
    assert found.usage.reading in [alone.reader.read(QUESTION) for alone in here]
    assert 0 < found.usage.likelihood < 1
