"""Quotes: an answer is a literal part of what was read, whatever the tokens, sampled or greedy, alone or together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import goldfinch
from goldfinch.datasets.facts import NOT_STATED
from goldfinch.engine.quoting import Quotable, Quote, Quoting
from goldfinch.errors import GoldFinchError
from goldfinch.policies.base import best_blocks
from goldfinch.policies.index import DocumentIndex
from goldfinch.text.prompt import document_token_ids
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.weights.directory import ASSETS, DEFAULT_MODEL

TOKENIZER = read_tokenizer(ASSETS / DEFAULT_MODEL / "tokenizer.json")
PLACES = ("Aberdeen", "Bristol", "Cardiff", "Dundee", "Exeter", "Falmouth")
FILLER = "It lies by the sea; café, naïve 😀 streets (東京).\nFull of people on 12,345 days. " * 9
TEXT = "\n\n".join(f"{place} is known for its {place[::-1].lower()} trade. {FILLER}" for place in PLACES)
QUESTIONS = [f"What trade is {place} known for?" for place in PLACES]
END = 0


def quotable(text: str) -> Quotable:
    return Quotable(DocumentIndex(TOKENIZER, TOKENIZER.encode(text)), ())


def chosen(text: str, wanted: str) -> bool:
    """Whether the tokens of some words can follow one another in a quote of a text, and a quote may end there."""
    quoting = Quoting(quotable(text), [END], TOKENIZER.vocab_size)
    for token in TOKENIZER.encode(wanted):
        if token not in quoting.allowed():
            return False
        quoting.take(token)
    return END in quoting.allowed()


def drawn(source: Quotable, seed: int, most: int = 12) -> str:
    """A quote of tokens drawn at random."""
    generator, ids = torch.Generator().manual_seed(seed), list[int]()
    quoting = Quoting(source, [END], TOKENIZER.vocab_size)
    for _ in range(most):
        allowed = quoting.allowed()
        token = allowed[int(torch.randint(len(allowed), (1,), generator=generator))] if allowed else END
        if token == END:
            break
        quoting.take(token)
        ids.append(token)
    return TOKENIZER.decode(ids).lstrip().rstrip("\ufffd")


@pytest.mark.parametrize(
    "wanted", ["Aberdeen", " Aberdeen is known", "12,345 days.", "café, naïve 😀", "(東京)", " sea"]
)
def test_words_of_the_document_may_be_quoted(wanted: str) -> None:
    assert chosen(TEXT, wanted)


@pytest.mark.parametrize("wanted", ["Glasgow", "Aberdeen was", "Aber", "is  known", "berdeen", "12,34"])
def test_other_words_may_not(wanted: str) -> None:
    assert not chosen(TEXT, wanted)


def test_a_refusal_may_be_given_whole() -> None:
    assert chosen("Red apples.", NOT_STATED)
    assert chosen("Red apples.", f" {NOT_STATED}")
    assert not chosen("Red apples.", "Not")
    assert not chosen("Red apples.", "stated.")


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=60), st.integers(0, 5))
def test_whatever_is_drawn_stands_in_the_text(text: str, seed: int) -> None:
    source = quotable(text)
    quote = drawn(source, seed)
    assert quote in source.text or NOT_STATED.startswith(quote)


@pytest.mark.parametrize("seed", range(8))
def test_the_place_is_exact(seed: int) -> None:
    index = DocumentIndex(TOKENIZER, TOKENIZER.encode(TEXT))
    found = best_blocks("lexical", index, QUESTIONS[3], 2)
    source = Quotable(index, found)
    quote = drawn(source, seed).split("\n")[0].strip()
    place = source.place(quote)
    if not quote or NOT_STATED.startswith(quote):
        assert place is None
        return
    assert place is not None
    assert place.text == quote
    line = TEXT.split("\n")[place.line - 1]
    assert line[place.first_character - 1 : place.last_character] == quote
    assert any(block.first_line <= place.line <= block.last_line for block in found)


def test_rows_of_a_table_are_quoted_before_their_heading() -> None:
    text = "item,price,place\n" + "".join(f"item {n},{n * 7},shelf {n}\n" for n in range(150))
    index = DocumentIndex(TOKENIZER, TOKENIZER.encode(text))
    source = Quotable(index, best_blocks("lexical", index, "Where is item 140?", 1))
    assert source.place("shelf 140") == Quote("shelf 140", 142, 14, 22)
    assert source.place("price") == Quote("price", 1, 6, 10)
    assert source.place("shelf 3") is None  # it was not read


@pytest.fixture(scope="module")
def session(tiny_model: Path) -> goldfinch.Session:
    model = goldfinch.load_model(tiny_model)
    ids, span = document_token_ids(model, TEXT)
    return goldfinch.Session(model, goldfinch.prefill(model, ids, document_range=span), read="lexical")


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "seed": 3}, {"temperature": 1.0, "top_k": 3, "seed": 1}])
def test_answers_are_quotes(sampling: dict[str, float], session: goldfinch.Session) -> None:
    """A model of random weights says nothing that a document holds; asked for quotes, it says nothing else."""
    free = [session.ask(question, max_tokens=12, **sampling).text for question in QUESTIONS]
    assert any(text and text not in TEXT for text in free)
    answers = goldfinch.ask_many(session, QUESTIONS, max_tokens=12, quote=True, **sampling)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        alone = session.ask(question, max_tokens=12, quote=True, **sampling)
        assert answer.text == alone.text
        assert answer.quote == alone.quote
        assert "".join(session.stream(question, max_tokens=12, quote=True, **sampling)) == answer.text
        assert answer.text in TEXT or NOT_STATED.startswith(answer.text)
        if answer.quote is not None:
            line = TEXT.split("\n")[answer.quote.line - 1]
            assert line[answer.quote.first_character - 1 : answer.quote.last_character] == answer.text


def test_without_quote_there_is_no_place(session: goldfinch.Session) -> None:
    assert session.ask(QUESTIONS[0], max_tokens=4).quote is None


def test_text_to_continue_quotes_nothing(session: goldfinch.Session) -> None:
    with pytest.raises(GoldFinchError, match="quotes nothing"):
        session.ask("Aberdeen", raw=True, max_tokens=3, quote=True)
