"""Citations: attention weights, the map from tokens to lines, planted facts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import goldfinch
from goldfinch.engine.attention_scores import attention_to_document, copied_from
from goldfinch.engine.cite import (
    NEAR,
    Citation,
    _citations,
    _lines,
    _of_blocks,
    _with_places,
    cite,
    line_shares,
    most_read,
)
from goldfinch.engine.session import Session
from goldfinch.policies.places import Found
from tests.conftest import SAMPLES
from tests.tolerances import PATHS_FP32

BOATS = (("Bittern", "Ines"), ("Heron", "Tomas"), ("Dipper", "Olga"), ("Osprey", "Piet"))


@pytest.fixture(scope="module")
def model() -> goldfinch.LanguageModel:
    return goldfinch.load_model()


def session(model: goldfinch.LanguageModel, text: str, memory_bytes: int = 1 << 30) -> goldfinch.Session:
    ids, span = goldfinch.document_token_ids(model, text)
    cache = goldfinch.prefill(model, ids, document_range=span)
    return goldfinch.Session(model, cache, memory_bytes=memory_bytes)


@pytest.mark.parametrize(
    "text",
    [
        "one line",
        "a\nb\nc",
        "\n\nfirst\n\n\nsecond\r\nthird\r\n",
        "Привет\nмир\n你好，\n世界 🙂\n",
        "x" * 300 + "\n" + "y" * 300,
        "\n",
    ],
)
def test_tokens_lie_in_the_lines_that_they_are_written_in(model: goldfinch.LanguageModel, text: str) -> None:
    tokenizer = model.tokenizer
    ids = tokenizer.encode(text)
    lines, places = _lines(tokenizer, ids)
    assert lines == text.split("\n")
    done = ""
    for n, place in enumerate(places):
        before, done = done, tokenizer.decode(ids[: n + 1])
        if "\ufffd" in before + done:
            continue
        new = done[len(before) :]
        lead = len(new) - len(new.lstrip("\r\n")) if new.strip("\r\n") else 0
        assert place == (before + new[:lead]).count("\n")


def test_weights_are_those_of_attention_written_out(tiny_model: Path) -> None:
    """One GOLD layer: the recorded weights against softmax over all keys, in both ways of holding them."""
    model = goldfinch.load_model(tiny_model, dtype=torch.float64)
    text = (SAMPLES / "lighthouse-handbook.txt").read_text()[:1500]
    sessions = [session(model, text, memory) for memory in (1 << 30, 0)]
    found = [attention_to_document(one, one.document_state, [5, 6, 7], [8, 9]) for one in sessions]
    assert torch.allclose(found[0], found[1], rtol=PATHS_FP32)
    heads, rows = model.config.n_head, 2
    assert 0 < float(found[0].sum()) <= heads * rows * model.config.n_gold + 1e-6
    # A single fresh pass over document, question and answer must give the same rows.
    kept: list[torch.Tensor] = []
    one = session(model, text)
    ids = torch.cat([one.cache.ids_on(model.device), torch.tensor([[5, 6, 7, 8]])], dim=1)
    with torch.no_grad():
        from goldfinch.models import torch_executor

        def judge(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            weights = scores.masked_fill(mask, -torch.inf).softmax(-1)
            kept.append(weights[0, :, -2:, : one.cache.length].sum((0, 1)))
            return weights @ v

        before = torch_executor.causal_attention
        torch_executor.causal_attention = judge
        try:
            model(ids)
        finally:
            torch_executor.causal_attention = before
    assert torch.allclose(found[0].double(), sum(kept), rtol=1e-4, atol=1e-6)


def test_neighbours_are_joined_and_blank_lines_left_out() -> None:
    shares = torch.tensor([0.02, 0.3, 0.2, 0.0, 0.25, 0.03, 0.1], dtype=torch.float64)
    found = _citations(shares, ["a", "b", "c", "d", " ", "f", "g"])
    assert [(c.first_line, c.last_line, c.text) for c in found] == [(2, 3, "b"), (7, 7, "g"), (5, 6, "f")]
    assert found[0].share == pytest.approx(0.5)
    copied = _citations(torch.tensor([0.001, 0.998, 0.001], dtype=torch.float64), ["a", "b", "c"])
    assert [c.text for c in copied] == ["b"]
    assert _citations(torch.zeros(0, dtype=torch.float64), []) == []


def test_the_line_of_a_planted_fact_is_cited(model: goldfinch.LanguageModel) -> None:
    lines = (SAMPLES / "us-constitution.txt").read_text().split("\n")[:120]
    hits = 0
    for n, place in enumerate((7, 23, 41, 58, 77, 95, 110)):
        planted = [*lines[:place], f"The access code of Harwick is {40813 + n}.", *lines[place:]]
        one = session(model, "\n".join(planted))
        answer = one.ask("What is the access code of Harwick?", max_tokens=16)
        cited = cite(one, "What is the access code of Harwick?", answer.token_ids)
        assert 1 <= len(cited) <= 3
        hits += any(c.first_line <= place + 1 <= c.last_line for c in cited)
    assert hits >= 6


def test_an_empty_answer_cites_nothing(model: goldfinch.LanguageModel) -> None:
    assert cite(session(model, "A text."), "What?", []) == []
    shares, lines = line_shares(session(model, "A text.\nAnother."), "What?", [300])
    assert float(shares.sum()) == pytest.approx(1.0)
    assert lines == ["A text.", "Another."]


def test_the_place_of_a_fact_in_a_long_line_is_cited(model: goldfinch.LanguageModel) -> None:
    words = (SAMPLES / "us-constitution.txt").read_text().split()[:600]
    hits = 0
    for n, place in enumerate((50, 140, 230, 320, 410, 500)):
        fact = f"The access code of Harwick is {40813 + n}."
        text = " ".join([*words[:place], fact, *words[place:]])
        one = session(model, text)
        question = "What is the access code of Harwick?"
        cited = cite(one, question, one.ask(question, max_tokens=16).token_ids)[0]
        assert cited.text == text
        assert text[cited.column - 1].strip()
        assert cited.passage in text
        assert text.index(cited.passage) < cited.column <= text.index(cited.passage) + len(cited.passage)
        hits += abs(cited.column - 1 - text.index(fact)) <= len(fact)
    assert hits >= 5


def test_tokens_read_most_are_found_together() -> None:
    weights = torch.zeros(40, dtype=torch.float64)
    weights[3], weights[20:24] = 0.3, 0.2
    assert most_read(weights) == 24 - NEAR  # the four outweigh the single one
    assert most_read(weights[:5]) == 0  # fewer than are counted together
    assert most_read(torch.tensor([1.0])) == 0


def test_columns_are_those_of_the_text(tiny_model: Path) -> None:
    """Every token's place, in lines that begin within tokens and behind several line ends."""
    one = session(goldfinch.load_model(tiny_model), "Ähre\n\n  zwei drei\r\nvier\nfünf sechs")
    text = one.model.tokenizer.decode(one.cache.own_token_ids.tolist())
    lines = text.split("\n")
    ids = one.cache.own_token_ids.tolist()
    _, places = _lines(one.model.tokenizer, ids)
    found = set()
    for n in range(len(ids)):
        weights = torch.zeros(len(ids), dtype=torch.float64)
        weights[n] = 1.0
        place = Citation(places[n] + 1, places[n] + 1, 1.0, places[n] + 1, lines[places[n]])
        (cited,) = _with_places(one.reader.index, [place], weights, ids, places)
        if place.text:
            assert 1 <= cited.column <= len(place.text)
        found.add((cited.line, cited.column))
    assert {line for line, _ in found} >= {1, 3, 4, 5}
    assert (3, 3) in found  # behind the blanks


def test_what_was_copied_says_which_line_was_read(model: goldfinch.LanguageModel) -> None:
    """A value that stands in two lines is cited with the line that the pointer took it from; shares are probabilities."""
    text = "\n".join(["| boat | weight | keeper |", "|---|---|---|", *(f"| {n} | 58 | {k} |" for n, k in BOATS)]) + "\n"
    one = session(model, text)
    hits = 0
    for name, _ in BOATS:
        question = f"What is the weight of {name}?"
        answer = one.ask(question, max_tokens=8)
        state = one.state_for(one.reader.read(question))
        copied = copied_from(one, state, one.question_token_ids(question), answer.token_ids)
        assert float(copied.min()) >= 0
        assert float(copied.sum()) <= len(answer.token_ids) + 1e-3
        hits += answer.text == "58" and cite(one, question, answer.token_ids)[0].text.startswith(f"| {name} |")
    assert hits >= 3


def test_a_model_without_a_pointer_copies_nothing_and_runs_for_nothing(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = session(goldfinch.load_model(tiny_model), "A text.\nAnother.")
    monkeypatch.setattr(Session, "behind_layers", None)
    assert float(copied_from(one, one.document_state, [5, 6], [7]).abs().sum()) == 0


def test_a_line_between_the_blocks_is_cited_when_it_was_copied_from() -> None:
    share, lines = torch.tensor([0.1, 0.2, 0.0, 0.7], dtype=torch.float64), ["a", "b", "c", "d"]
    block = [Found(0, 1.0, 1, 2, ((0, 5),))]
    assert [c.line for c in _of_blocks(share, lines, block, between=True)] == [4, 2]
    assert [c.line for c in _of_blocks(share, lines, block, between=False)] == [2]
