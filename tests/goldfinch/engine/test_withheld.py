"""Answers that the model finds too unlikely: "Not stated." stands for them, however they were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import goldfinch
from goldfinch.datasets.facts import NOT_STATED
from goldfinch.errors import GoldFinchError
from goldfinch.policies.measured import ModelRecord
from goldfinch.text.prompt import document_token_ids

TEXT = "\n\n".join(
    f"{p} lies by the sea. " + "It has many streets, full of people. " * 20 for p in ("Ayr", "Bath", "Cork")
)
QUESTION = "Where does Bath lie?"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture(scope="module")
def cache(model: goldfinch.LanguageModel) -> goldfinch.DocumentCache:
    ids, span = document_token_ids(model, TEXT)
    return goldfinch.prefill(model, ids, document_range=span)


@pytest.mark.parametrize("candidates", [1, 2])
def test_less_likely_answers_are_withheld(candidates: int, model, cache) -> None:
    session = goldfinch.Session(model, cache, read="lexical", candidates=candidates)
    given = session.ask(QUESTION, max_tokens=5)
    assert given.text != NOT_STATED
    assert given.withheld is None
    assert given.usage.likelihood is not None
    assert 0 < given.usage.likelihood < 1
    for least, text in ((given.usage.likelihood * 0.99, given.text), (given.usage.likelihood * 1.01, NOT_STATED)):
        asked = {"max_tokens": 5, "least_likelihood": least}
        found = session.ask(QUESTION, **asked)
        assert found.text == text
        assert found.token_ids == given.token_ids
        assert found.withheld == (None if text == given.text else given.text)
        assert list(session.stream(QUESTION, **asked)) == [text]
        assert [a.text for a in goldfinch.ask_many(session, [QUESTION] * 6, **asked)] == [text] * 6
    assert (found.confidence, found.confidence_reason) == (None, "the answer was withheld")


def test_what_was_measured_is_the_default(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    given = session.ask(QUESTION, max_tokens=5)
    assert given.withheld is None
    assert given.text != NOT_STATED
    for policy, found in (("lexical", NOT_STATED), ("hybrid", given.text)):  # of the policy that was followed alone
        session.reader.record = ModelRecord(least_likelihood={policy: 1.0})
        assert session.ask(QUESTION, max_tokens=5).text == found
        assert "".join(session.stream(QUESTION, max_tokens=5)) == found
        assert [a.text for a in goldfinch.ask_many(session, [QUESTION] * 6, max_tokens=5)] == [found] * 6
    session.reader.record = ModelRecord(least_likelihood={"lexical": 1.0})
    assert session.ask(QUESTION, max_tokens=5, least_likelihood=0.0).text == given.text
    assert session.ask(QUESTION, max_tokens=5, temperature=1.0, seed=1).withheld is None  # measured for greedy answers
    assert session.ask(QUESTION, max_tokens=5, quote=True).withheld is None
    assert session.ask("Bath", raw=True, max_tokens=5).withheld is None


def test_text_that_goes_on_is_never_withheld(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    found = session.ask("Bath", raw=True, max_tokens=5, least_likelihood=1.0)
    assert found.withheld is None
    assert (
        found.text
        == session.ask("Bath", raw=True, max_tokens=5).text
        == "".join(session.stream("Bath", raw=True, max_tokens=5, least_likelihood=1.0))
    )


def test_only_probabilities_are_allowed(model, cache) -> None:
    with pytest.raises(GoldFinchError, match=r"least_likelihood is 1.5, allowed: 0 to 1"):
        goldfinch.Session(model, cache).ask(QUESTION, least_likelihood=1.5)
