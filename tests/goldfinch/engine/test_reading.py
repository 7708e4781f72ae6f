"""Reading policies in a session: what is read decides, warm = cold, together = one by one, every model type or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import goldfinch
from goldfinch.engine.reading import DocumentReader, Reading
from goldfinch.errors import GoldFinchError
from goldfinch.models.config import RopeConfig
from goldfinch.models.memory import GoldMemory
from goldfinch.policies.base import Chosen
from goldfinch.policies.named import AUTO
from goldfinch.policies.places import Found
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.text.prompt import document_token_ids
from goldfinch.weights.writing import init_model
from tests.tolerances import PATHS_FP32

PLACES = ("Aberdeen", "Bristol", "Cardiff", "Dundee", "Exeter", "Falmouth")
FILLER = "It lies by the sea and has many streets, full of people on most days. " * 9
TEXT = "\n\n".join(f"{place} is known for its {place[::-1].lower()} trade. {FILLER}" for place in PLACES)
QUESTIONS = [f"What trade is {place} known for?" for place in PLACES]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture(scope="module")
def cache(model: goldfinch.LanguageModel) -> goldfinch.DocumentCache:
    ids, span = document_token_ids(model, TEXT)
    return goldfinch.prefill(model, ids, document_range=span)


def read_text(session: goldfinch.Session, reading: Reading) -> str:
    assert reading.rows is not None
    start, end = session.cache.document_range
    ids = [session.cache.token_ids[max(a, start) : min(b, end)].tolist() for a, b in reading.rows]
    return "".join(session.model.tokenizer.decode(part) for part in ids)


def test_a_question_reads_the_block_that_it_is_about(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    for place, question in zip(PLACES, QUESTIONS, strict=True):
        reading = session.ask(question, max_tokens=3).usage.reading
        assert reading.policy == "lexical"
        assert len(reading.found) == 1
        assert f"{place} is known for" in read_text(session, reading)
        assert reading.tokens < cache.length / 3
        memory = session.state_for(reading).memory
        assert isinstance(memory, GoldMemory)
        assert memory.document_rows == reading.tokens


def test_blocks_that_are_chosen_already_are_read(model, cache) -> None:
    by_policy = goldfinch.Session(model, cache, read="lexical")
    third = by_policy.reader.read(QUESTIONS[2]).found
    session = goldfinch.Session(model, cache, read=Chosen("lexical", third))
    reading = session.ask(QUESTIONS[0], max_tokens=3).usage.reading
    assert reading == by_policy.reader.read(QUESTIONS[2])
    assert [c.found for c in session.reader.explained(QUESTIONS[0])] == list(third)
    assert session.reader.read(None).rows is None
    answers = goldfinch.ask_many(session, QUESTIONS[:2], max_tokens=3)
    assert [answer.usage.reading for answer in answers] == [reading, reading]


def test_more_blocks_read_more(model, cache) -> None:
    one, three = (goldfinch.Session(model, cache, read="lexical", read_blocks=n) for n in (1, 3))
    assert len(three.reader.read(QUESTIONS[0]).found) == 3
    assert one.reader.read(QUESTIONS[0]).found[0] == three.reader.read(QUESTIONS[0]).found[0]
    assert three.reader.read(QUESTIONS[0]).tokens > one.reader.read(QUESTIONS[0]).tokens


def test_what_is_not_read_does_not_count(model, cache) -> None:
    """Compressed keys of other blocks, changed beyond recognition, leave the answer's logits as they are, bit for bit."""
    session = goldfinch.Session(model, cache, read="lexical")
    reading = session.reader.read(QUESTIONS[2])
    ids = session.question_token_ids(QUESTIONS[2])
    expected = session.start(ids, session.state_for(reading))[0]
    assert reading.rows is not None
    needed = torch.zeros(cache.length, dtype=torch.bool)
    for start, end in reading.rows:
        needed[max(start - 1, 0) : end] = True  # a key looks at the row before it
    changed = cache.compressed_k.clone()
    changed[:, ~needed] = 7.0
    assert bool((~needed).any())
    other = goldfinch.Session(
        model, goldfinch.DocumentCache(**{**vars(cache), "compressed_k": changed}), read="lexical"
    )
    assert torch.equal(other.start(ids, other.state_for(reading))[0], expected)
    assert not torch.equal(session.start(ids)[0], expected)


@pytest.mark.parametrize("rope", [None, RopeConfig()])
def test_reading_all_rows_is_reading_all(rope: RopeConfig | None, tiny_model: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    if rope is not None:
        config = goldfinch.ModelConfig(**{**model.config.to_dict(), "rope": rope})
        other = goldfinch.LanguageModel(config)
        other.load_state_dict(model.state_dict())
        other.tokenizer, model = model.tokenizer, other
    ids, span = document_token_ids(model, TEXT)
    cache = goldfinch.prefill(model, ids, document_range=span)
    session = goldfinch.Session(model, cache, read="lexical")
    question = session.question_token_ids(QUESTIONS[0])
    halves = Reading("lexical", (), ((0, 100), (100, cache.length)), cache.length)
    found = session.start(question, session.state_for(halves))[0]
    expected = session.start(question)[0]
    assert float((found - expected).abs().max()) <= PATHS_FP32 * float(expected.abs().max())


@pytest.mark.parametrize("policy", ["lexical", "attention", *(["hybrid"] if vectors_at_hand() else [])])
def test_warm_is_cold(policy: str, model, cache, tmp_path: Path) -> None:
    cache.save(tmp_path / "doc.gfc")
    before = (tmp_path / "doc.gfc").read_bytes()
    warm = goldfinch.Session(model, cache, read=policy)
    cold = goldfinch.Session(model, goldfinch.open_cache(tmp_path / "doc.gfc", model), read=policy)
    for question in QUESTIONS[:3]:
        readings = [session.reader.read(question) for session in (warm, cold)]
        assert readings[0] == readings[1]
        ids = warm.question_token_ids(question)
        logits = [session.start(ids, session.state_for(readings[0]))[0] for session in (warm, cold)]
        assert torch.equal(*logits)
        assert warm.ask(question, max_tokens=6).token_ids == cold.ask(question, max_tokens=6).token_ids
    assert (tmp_path / "doc.gfc").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["doc.gfc"]


@pytest.mark.parametrize("policy", ["lexical", "attention"])
def test_together_is_one_by_one(policy: str, model, cache) -> None:
    session = goldfinch.Session(model, cache, read=policy)
    questions = [*QUESTIONS, "Zyzzyva?"]  # resembles nothing, so it reads the whole document
    together = goldfinch.ask_many(session, questions, max_tokens=12)
    for question, answer in zip(questions, together, strict=True):
        alone = session.ask(question, max_tokens=12)
        assert answer.token_ids == alone.token_ids
        assert answer.usage.reading == alone.usage.reading
    assert [answer.usage.reading.rows is None for answer in together[:-1]] == [False] * len(PLACES)
    assert (together[-1].usage.reading.rows is None) == (policy == "lexical")


def test_text_to_continue_reads_all(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    assert session.ask("Aberdeen", raw=True, max_tokens=3).usage.reading.rows is None


def test_citations_are_of_what_was_read(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    answer = session.ask(QUESTIONS[3], max_tokens=8)
    found = answer.usage.reading.found[0]
    first = goldfinch.cite(session, QUESTIONS[3], answer.token_ids)[0]
    allowed = {1, found.first_line, TEXT.count("\n") + 1}  # the first token and the last ones are always read
    assert first.first_line in allowed


def test_a_model_that_nothing_was_measured_for_reads_all(model, cache) -> None:
    assert goldfinch.Session(model, cache).reader.policy == "all"
    assert goldfinch.Session(model, cache).ask(QUESTIONS[0], max_tokens=2).usage.reading.tokens == cache.length


def test_what_cannot_be_is_refused(model, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        GoldFinchError, match="the reading policy is 'best', allowed: auto, all, lexical, hybrid, attention"
    ):
        DocumentReader(model, cache, "best")
    with pytest.raises(GoldFinchError, match="the number of blocks to read is 0, allowed: 1 to 64"):
        DocumentReader(model, cache, "lexical", 0)
    monkeypatch.setattr(model, "tokenizer", None)
    with pytest.raises(GoldFinchError, match="cannot be followed: the model has no tokenizer"):
        DocumentReader(model, cache, "lexical")
    assert DocumentReader(model, cache, AUTO).policy == "all"


def test_other_models_have_no_rows_to_choose(tmp_path: Path, tiny_tokenizer: Path) -> None:
    init_model("finch-tiny", 1, tmp_path / "finch", tiny_tokenizer)
    model = goldfinch.load_model(tmp_path / "finch")
    ids, span = document_token_ids(model, "A cat sat. " * 20)
    cache = goldfinch.prefill(model, ids, document_range=span)
    with pytest.raises(GoldFinchError, match="cannot be followed: the model has no attention layers"):
        goldfinch.Session(model, cache, read="lexical")
    assert goldfinch.Session(model, cache).ask("What?", max_tokens=2).usage.reading.policy == "all"
    chosen = Chosen("lexical", (Found(0, 1.0, 1, 1, ((0, 5),)),))
    assert goldfinch.Session(model, cache, read=chosen).ask("What?", max_tokens=2).usage.reading.policy == "all"


@pytest.mark.gpu
def test_a_gpu_reads_the_same_blocks(tiny_model: Path, cache, tmp_path: Path) -> None:
    cache.save(tmp_path / "doc.gfc")
    model = goldfinch.load_model(tiny_model, device="cuda")
    session = goldfinch.Session(model, goldfinch.open_cache(tmp_path / "doc.gfc", model), read="lexical")
    answers = goldfinch.ask_many(session, QUESTIONS, max_tokens=6)
    assert all(answer.usage.reading.rows is not None for answer in answers)
    assert all(f"{p} is known" in read_text(session, a.usage.reading) for p, a in zip(PLACES, answers, strict=True))
