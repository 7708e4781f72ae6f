"""Reading parts of a document whose cache holds the keys and values of attention layers: GPTAlpha, Llama, Finch below."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import goldfinch
from goldfinch.engine import session as session_module
from goldfinch.engine.reading import Reading
from goldfinch.engine.session import decode_one_token
from goldfinch.models.attention import CachedAttention
from goldfinch.models.layers import split_heads
from goldfinch.models.presets import presets
from goldfinch.models.state import GrowingBuffer, LayerState
from goldfinch.policies.attention import BLOCK, REPRESENTATIVES
from goldfinch.text.prompt import document_token_ids
from goldfinch.weights.writing import init_model
from tests.goldfinch.engine.test_reading import PLACES, QUESTIONS, TEXT
from tests.tolerances import PATHS_FP32

KINDS = ["gptalpha-tiny", "llama-tiny"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Path) -> Path:
    out = tmp_path_factory.mktemp("attention")
    for kind in KINDS:
        init_model(kind, 1, out / kind, tiny_tokenizer)
    return out


@pytest.fixture(scope="module", params=[*KINDS, "finch below gptalpha"])
def model(request: pytest.FixtureRequest, folder: Path) -> goldfinch.LanguageModel:
    if request.param in KINDS:
        return goldfinch.load_model(folder / request.param, dtype=torch.float32)
    shape = replace(presets()["gptalpha-tiny"], time_mix="finch", upper_time_mix="gptalpha")
    torch.manual_seed(1)
    mixed = goldfinch.LanguageModel(shape)
    with torch.no_grad():  # initial values let the upper layers count for next to nothing
        for weight in mixed.blocks[2].parameters():
            weight += 0.1 * torch.randn(weight.shape)
    mixed.tokenizer = goldfinch.load_model(folder / KINDS[0]).tokenizer
    return mixed.eval()


@pytest.fixture(scope="module")
def cache(model: goldfinch.LanguageModel) -> goldfinch.DocumentCache:
    ids, span = document_token_ids(model, TEXT)
    return goldfinch.prefill(model, ids, document_range=span)


def logits_of(session: goldfinch.Session, question: str, reading: Reading) -> Tensor:
    return session.start(session.question_token_ids(question), session.state_for(reading))[0]


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= PATHS_FP32 * float(expected.abs().max())


def whole_matrix(read: Tensor, queries: list[Tensor] | None = None, keys: list[Tensor] | None = None):
    """A stand-in for `CachedAttention.forward`: all keys, one matrix, in which rows of the document unread are hidden."""

    def forward(core: CachedAttention, q: Tensor, k: Tensor, v: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        state = replace(state, keys=state.keys.append(k), values=state.values.append(v))
        n, new, D = state.keys.length, q.shape[1], core.head_dim
        q_h, k_h, v_h = (split_heads(x, D).transpose(1, 2) for x in (q, state.keys.rows, state.values.rows))
        if core.rope is not None:
            q_h, k_h = core.rope(q_h, n - new), core.rope(k_h, 0)
        hidden = torch.arange(n)[None] > torch.arange(n - new, n)[:, None]
        hidden[:, : len(read)] |= ~read
        y = (q_h @ k_h.transpose(-1, -2) / D**0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ v_h
        if queries is not None and keys is not None:
            queries.append(q_h[0, :, -1])
            keys.append(k_h[0])
        return y.transpose(1, 2).flatten(-2), state

    return forward


def rows_read(cache: goldfinch.DocumentCache, reading: Reading) -> Tensor:
    read = torch.zeros(cache.length, dtype=torch.bool)
    for start, end in reading.rows or ((0, cache.length),):
        read[start:end] = True
    return read


def test_what_is_read_is_the_block_at_its_true_positions(model, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    for question in QUESTIONS[1:4]:
        reading = session.reader.read(question)
        assert reading.rows is not None
        assert reading.tokens < cache.length / 3
        found = logits_of(session, question, reading)
        ids = torch.tensor([session.question_token_ids(question)])
        with monkeypatch.context() as patched, torch.no_grad():
            patched.setattr(CachedAttention, "forward", whole_matrix(rows_read(cache, reading)))
            expected = model(ids, cache.state)[0][0, -1]
        assert close(found, expected)
        assert not close(found, session.start(session.question_token_ids(question))[0])


def test_what_is_not_read_does_not_count(model, cache) -> None:
    """Keys and values of other blocks, changed beyond recognition, leave the logits as they are, bit for bit."""
    session = goldfinch.Session(model, cache, read="lexical")
    reading = session.reader.read(QUESTIONS[2])
    unread = ~rows_read(cache, reading)

    def changed(layer: LayerState) -> LayerState:
        if not layer.keys.length:
            return layer
        keys, values = layer.keys.rows.clone(), layer.values.rows.clone()
        keys[:, unread], values[:, unread] = 7.0, -7.0
        return replace(layer, keys=GrowingBuffer.of(keys), values=GrowingBuffer.of(values))

    state = replace(cache.state, layers=tuple(changed(layer) for layer in cache.state.layers))
    other = goldfinch.Session(model, replace(cache, state=state), read="lexical")
    assert bool(unread.any())
    assert torch.equal(logits_of(other, QUESTIONS[2], reading), logits_of(session, QUESTIONS[2], reading))
    whole = Reading("all", (), None, cache.length)
    assert not torch.equal(logits_of(other, QUESTIONS[2], whole), logits_of(session, QUESTIONS[2], whole))


def test_reading_all_rows_is_reading_all(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    halves = Reading("lexical", (), ((0, 100), (100, cache.length)), cache.length)
    assert close(logits_of(session, QUESTIONS[0], halves), session.start(session.question_token_ids(QUESTIONS[0]))[0])


def test_whole_is_chunked_is_step_by_step(model, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    reading = session.reader.read(QUESTIONS[4])
    whole = logits_of(session, QUESTIONS[4], reading)
    monkeypatch.setattr(session_module, "QUESTION_BLOCK", 3)
    assert close(logits_of(session, QUESTIONS[4], reading), whole)
    state = session.state_for(reading)
    for token in session.question_token_ids(QUESTIONS[4]):
        logits, state = decode_one_token(model, token, state)
    assert close(logits, whole)


def test_the_size_of_a_chunk_of_the_document_does_not_count(model, cache) -> None:
    ids, span = document_token_ids(model, TEXT)
    other = goldfinch.prefill(model, ids, document_range=span, block_tokens=63)
    sessions = [goldfinch.Session(model, one, read="lexical") for one in (cache, other)]
    readings = [session.reader.read(QUESTIONS[3]) for session in sessions]
    assert readings[0] == readings[1]
    assert close(*(logits_of(session, QUESTIONS[3], readings[0]) for session in sessions))


@pytest.mark.parametrize("policy", ["lexical", "attention"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_warm_is_cold(dtype: torch.dtype, kind: str, policy: str, folder: Path, tmp_path: Path) -> None:
    model = goldfinch.load_model(folder / kind, dtype=dtype)
    ids, span = document_token_ids(model, TEXT)
    cache = goldfinch.prefill(model, ids, document_range=span)
    cache.save(tmp_path / "doc.gfc")
    before = (tmp_path / "doc.gfc").read_bytes()
    opened = goldfinch.open_cache(tmp_path / "doc.gfc", model, asking=True)
    warm, cold = (goldfinch.Session(model, one, read=policy) for one in (cache, opened))
    for question in QUESTIONS[:2]:
        readings = [session.reader.read(question) for session in (warm, cold)]
        assert readings[0] == readings[1]
        assert readings[0].rows is not None
        assert torch.equal(*(logits_of(session, question, readings[0]) for session in (warm, cold)))
        answers = [session.ask(question, max_tokens=4) for session in (warm, cold)]
        assert answers[0].token_ids == answers[1].token_ids
    assert (tmp_path / "doc.gfc").read_bytes() == before


def test_attention_chooses_the_blocks_of_the_whole_matrix(model, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    session = goldfinch.Session(model, cache, read="attention", read_blocks=2)
    found = session.reader.read(QUESTIONS[1]).found
    near = torch.zeros(cache.length, dtype=torch.bool)
    near[0] = near[-1] = True
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(CachedAttention, "forward", whole_matrix(near, queries, keys))
        model(torch.tensor([session.question_token_ids(QUESTIONS[1])]), cache.state)
    start, end = cache.document_range
    scores = []
    for first in range(start, end, BLOCK):
        score = 0.0
        for q, k in zip(queries, keys, strict=True):
            rows = k[:, first : min(first + BLOCK, end)]  # (H, n, D)
            tokens = sorted(((rows * q[:, None]).sum((0, 2)) / q.shape[-1] ** 0.5).tolist())[-REPRESENTATIVES:]
            score += sum(tokens) / len(tokens)
        scores.append(score)
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    assert [f.block for f in found] == order[:2]
    assert [f.score for f in found] == pytest.approx([scores[n] for n in order[:2]], rel=PATHS_FP32)


def test_citations_are_of_what_was_read(model, cache) -> None:
    session = goldfinch.Session(model, cache, read="lexical")
    answer = session.ask(QUESTIONS[3], max_tokens=8)
    found = answer.usage.reading.found[0]
    first = goldfinch.cite(session, QUESTIONS[3], answer.token_ids)[0]
    assert PLACES[3] in TEXT.split("\n")[found.first_line - 1]
    assert found.first_line <= first.line <= found.last_line


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_reads_the_same_blocks(kind: str, folder: Path, tmp_path: Path) -> None:
    here, there = (goldfinch.load_model(folder / kind, dtype=torch.float32, device=d) for d in ("cpu", "cuda"))
    ids, span = document_token_ids(here, TEXT)
    goldfinch.prefill(here, ids, document_range=span).save(tmp_path / "doc.gfc")
    sessions = [
        goldfinch.Session(model, goldfinch.open_cache(tmp_path / "doc.gfc", model), read="lexical")
        for model in (here, there)
    ]
    for question in QUESTIONS[:2]:
        readings = [session.reader.read(question) for session in sessions]
        assert readings[0] == readings[1]
        found = logits_of(sessions[1], question, readings[0]).cpu()
        assert close(found, logits_of(sessions[0], question, readings[0]))
