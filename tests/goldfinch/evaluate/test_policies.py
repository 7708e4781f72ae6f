"""Measuring reading policies on the text that comes with gf: its questions, the choice, where the record goes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import goldfinch
from goldfinch.errors import GoldFinchError
from goldfinch.evaluate import policies
from goldfinch.evaluate.policies import CANDIDATES, JOINED, TEXT, Way, best_way, document, keep, measure_policies
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.policies.measured import OWN_RECORD, parsed
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.text.prompt import document_token_ids
from tests.goldfinch.foreign.running.test_blocks import TEXT as BIRDS
from tests.goldfinch.foreign.running.test_blocks import engine_of, made


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


def test_the_questions_are_answered_by_the_text() -> None:
    words = " ".join((TEXT / "constitution.txt").read_text(encoding="utf-8").split())
    rows = json.loads((TEXT / "questions.json").read_text(encoding="utf-8"))
    assert len(rows) >= 30
    for row in rows:
        assert row["evidence"] in words, row
        assert row["answer"] in row["evidence"], row
    assert len({row["question"] for row in rows}) == len(rows)


def test_a_document_holds_what_is_asked_and_no_more_tokens(mini) -> None:
    counts = []
    for length in (1000, 4000):
        text, asked = document(mini, length)
        words = " ".join(text.split())
        assert 0.6 * length < len(mini.tokenizer.encode(text)) <= length
        assert all(answer in words for _, answer in asked)
        assert document(mini, length) == (text, asked)
        counts.append(len(asked))
    assert counts[0] < counts[1]
    assert len({question for question, _ in asked}) == len(asked)


def rows(*values: tuple[str, float, float, float]) -> list[dict[str, object]]:
    return [asdict(Way(p)) | {"f1": f1, "gain": gain, "standard_error": error} for p, f1, gain, error in values]


def test_a_policy_is_chosen_where_it_gains_enough() -> None:
    whole = ("all", 0.3, 0.0, 0.0)
    assert best_way(rows(whole, ("lexical", 0.4, 0.1, 0.04), ("hybrid", 0.45, 0.15, 0.07))) == Way("hybrid")
    assert best_way(rows(whole, ("lexical", 0.4, 0.1, 0.04), ("hybrid", 0.45, 0.15, 0.08))) == Way("lexical")
    assert best_way(rows(whole, ("lexical", 0.4, 0.1, 0.04), ("hybrid", 0.4, 0.1, 0.04))) == Way("lexical")
    assert best_way(rows(whole, ("lexical", 0.3, 0.0, 0.0), ("attention", 0.1, -0.2, 0.01))) == Way("all")


def test_random_weights_gain_nothing(model) -> None:
    seen: list[dict[str, object]] = []
    record = measure_policies(model, lengths=(500, 700), report=seen.append)
    assert record["rows"] == []
    assert record["measured"] == seen
    assert [row["policy"] for row in seen[: len(seen) // 2]] == [row["policy"] for row in seen[len(seen) // 2 :]]
    assert seen[0]["policy"] == "all"
    assert seen[0]["gain"] == 0


def test_auto_follows_what_was_kept(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    better = {"all": "1", "lexical": "ten", "attention": "1", "hybrid": "2"}
    answers = {policy: [replace(goldfinch.engine.answer.Answer(text, [], None))] for policy, text in better.items()}
    asked = [(f"What {n}?", "ten") for n in range(8)]
    monkeypatch.setattr(policies, "document", lambda *_: ("text", asked))
    monkeypatch.setattr(policies.Reader, "ask", lambda self, _text, q, **_: answers[self.read] * len(q))
    record = measure_policies(model, lengths=(600, 900))
    assert record["rows"] == [{"least_tokens": 600, "policy": "lexical", "blocks": 1, "candidates": 1}]
    path = keep(model, record)
    assert path is not None
    assert path.name == OWN_RECORD
    assert path.stat().st_mode & 0o077 == 0
    assert parsed(json.loads(path.read_text())).reading(600).policy == "lexical"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ids, span = document_token_ids(model, "The town lies by the sea. " * 150)
    cache = goldfinch.prefill(model, ids, document_range=span)
    assert cache.length > 600
    assert goldfinch.Session(model, cache).reader.policy == "lexical"
    path.unlink()
    assert goldfinch.Session(model, cache).reader.policy == "all"


def test_a_model_of_others_is_asked_from_the_whole_and_from_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured are answers: those of the engine to the same document, kept in one way and the other."""
    monkeypatch.setattr(policies, "document", lambda *_: (BIRDS, [("Who is the heron?", "grey"), ("Where?", "lake")]))
    model = engine_of("llama", context_length=4096).model
    seen: list[dict[str, object]] = []
    record = measure_policies(model, lengths=(1200,), report=seen.append)
    assert record["measured"] == seen
    words = "hybrid" if vectors_at_hand() else "lexical"
    assert [Way(row["policy"], row["blocks"], row["candidates"]) for row in seen] == [
        Way("all"),
        *(Way(words, candidates=count) for count in CANDIDATES),
        Way(words, JOINED),
    ]
    assert record["rows"] == []
    assert record["conditions"]["numerics"]["compute_dtype"] == "f32"
    parsed(record)
    shorter = measure_policies(engine_of("llama").model, lengths=(1200,))  # the whole has no room in 1,024 positions
    assert [row["policy"] for row in shorter["measured"]] == [words] * (len(CANDIDATES) + 1)
    assert shorter["rows"] == [{"least_tokens": 1200, "policy": words, "blocks": 1, "candidates": 1}]
    with_states = measure_policies(engine_of("lfm2").model, lengths=(1200,))  # states are never joined
    assert [row["policy"] for row in with_states["measured"]] == [words] * len(CANDIDATES)


def test_auto_keeps_in_blocks_what_was_measured_to_be_better_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = engine_of("llama", "auto", context_length=4096).model
    monkeypatch.setattr(policies, "document", lambda *_: ("text", [(f"What {n}?", "ten") for n in range(8)]))
    right = lambda model, way, text, asked, kept: ["ten" if way.candidates == 2 else "1"] * len(asked)  # noqa: E731
    monkeypatch.setattr(policies, "_answers", right)
    record = measure_policies(model, lengths=(600, 2000))
    words = "hybrid" if vectors_at_hand() else "lexical"
    assert record["rows"] == [{"least_tokens": 600, "policy": words, "blocks": 1, "candidates": 2}]
    engine = ForeignEngine(model)
    assert made(engine, BIRDS).blocks is None
    path = keep(model, record)
    assert path is not None
    cache = made(engine, BIRDS)
    assert cache.blocks is not None
    assert (engine.session(cache).reader.policy, engine.session(cache).reader.candidates) == (words, 2)
    assert engine.session(cache, read_blocks=1).reader.candidates == 1
    assert made(engine, BIRDS[:300]).blocks is None  # shorter than what was measured
    path.unlink()
    assert made(engine, BIRDS).blocks is None
    assert engine.session(cache).reader.candidates == 1


@pytest.mark.parametrize("lengths", [(), (499,), (1000, 600), (600, 600), tuple(range(600, 617))])
def test_lengths_that_there_cannot_be(lengths: tuple[int, ...], model) -> None:
    with pytest.raises(GoldFinchError, match="allowed"):
        measure_policies(model, lengths=lengths)
