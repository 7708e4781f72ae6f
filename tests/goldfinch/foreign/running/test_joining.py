"""Blocks that were computed apart, read together: keys turned on to their places, and what is computed anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from goldfinch.errors import GoldFinchError
from goldfinch.foreign.running.blocks import computed
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.foreign.running.joining import joined, obstacle_to_joining, turned
from goldfinch.foreign.running.session import ForeignSession
from tests.goldfinch.foreign.running.test_blocks import BIRDS, QUESTION, engine_of, made, saved
from tests.tolerances import FOREIGN_FP32

JOINABLE = ("llama", "qwen2", "qwen3", "phi3")
NUMBERS = (1, 4, 2)


def apart(engine: ForeignEngine) -> tuple[Any, Any, list[int]]:
    """A cache in blocks, what one pass holds behind prompt and three of its blocks, and where each begins."""
    cache = made(engine)
    tokens = [cache.blocks.token_ids[n] for n in NUMBERS]
    starts = [cache.state.position]
    for one in tokens:
        starts.append(starts[-1] + len(one))
    prompt = tuple(cache.token_ids[: cache.state.position].tolist())
    together = computed(engine.model, None, (*prompt, *(token for one in tokens for token in one)))
    return cache, together, starts


@pytest.mark.parametrize("name", JOINABLE)
def test_keys_are_those_of_their_new_places(name: str) -> None:
    """Keys and values of the first layer depend on token and position alone: they are those of one pass."""
    engine = engine_of(name, context_length=4096)
    assert obstacle_to_joining(engine.model) is None
    cache, together, starts = apart(engine)
    state = joined(engine.model, cache.state, cache.blocks, NUMBERS, recomputed=0)
    assert state.position == together.position == starts[-1]
    one, other = state.layers[0], together.layers[0]
    for a, b in ((one.keys, other.keys), (one.values, other.values)):
        assert float((a - b).abs().max()) < FOREIGN_FP32
    assert float((state.layers[-1].values - together.layers[-1].values).abs().max()) > FOREIGN_FP32  # blind


@pytest.mark.parametrize("recomputed", [5, 10_000])
def test_what_is_computed_anew_has_seen_what_stands_before_it(recomputed: int) -> None:
    engine = engine_of("llama", context_length=4096)
    cache, together, starts = apart(engine)
    state = joined(engine.model, cache.state, cache.blocks, NUMBERS, recomputed)
    last = starts[1] + min(recomputed, starts[2] - starts[1]) if recomputed == 5 else starts[-1]
    for one, other in zip(state.layers, together.layers, strict=True):
        assert float((one.keys[:, :last] - other.keys[:, :last]).abs().max()) < FOREIGN_FP32
        assert float((one.values[:, :last] - other.values[:, :last]).abs().max()) < FOREIGN_FP32


def test_turning_is_undone_by_turning_back_and_leaves_other_channels() -> None:
    keys, angles = torch.randn(2, 3, 10), torch.tensor([1.0, 0.1, 0.01])
    there = turned(keys, angles, 7)
    assert torch.allclose(turned(there, angles, -7), keys, atol=1e-6)
    assert torch.equal(there[..., 6:], keys[..., 6:])
    assert not torch.allclose(there[..., :6], keys[..., :6], atol=0.1)


def test_layers_that_turn_keys_in_several_ways_are_not_joined() -> None:
    for name, why in (("gemma3_text", "window"), ("mistral", "window")):
        assert why in str(obstacle_to_joining(engine_of(name).model))
    engine = engine_of("llama")
    inverse = engine.model.network.model.rotary_emb.inv_freq
    inverse.mul_(1.5)
    try:
        engine = engine_of("llama")
        assert obstacle_to_joining(engine.model) is None  # the network's own angles, whatever they are
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("goldfinch.foreign.library.rotary_of", lambda network: (inverse * 1.01).tolist())
            assert "turned on" in str(obstacle_to_joining(engine_of("llama").model))
    finally:
        inverse.div_(1.5)


def test_several_blocks_are_read_together_in_the_order_of_the_document(tmp_path: Path) -> None:
    engine = engine_of("llama", context_length=2048)
    cache = engine.open(saved(made(engine), tmp_path / "a.gfc"), asking=True)
    session = ForeignSession(engine.model, cache, read_blocks=2, joined=True)
    assert (session.reader.blocks, session.reader.candidates) == (2, 1)
    (reading,) = session.reader.readings(QUESTION)
    numbers = [found.block for found in reading.found]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 2
    assert BIRDS.index("heron") in numbers
    state = session.reader.state(reading)
    assert state.position == cache.state.position + sum(len(cache.blocks.token_ids[n]) for n in numbers)
    answer = session.ask(QUESTION, max_tokens=6)
    assert answer.usage.reading == reading
    assert session.ask(QUESTION, max_tokens=6).token_ids == answer.token_ids
    assert engine.ask_many(session, [QUESTION, "Who?"], max_tokens=6)[0].token_ids == answer.token_ids
    cited = engine.cite(session, QUESTION, answer.token_ids)
    assert {one.first_line for one in cited} == {found.first_line for found in reading.found}
    assert sum(candidate.read for candidate in session.reader.explained(QUESTION)) == 2
    shorter = ForeignSession(engine_of("llama").model, cache, read_blocks=2, joined=True)  # two have no room
    assert [found.block for found in shorter.reader.read(QUESTION).found] == [BIRDS.index("heron")]
    assert engine.session(cache, read_blocks=2).reader.candidates == 2  # nothing was measured: each by itself


def test_what_cannot_be_joined_is_named() -> None:
    engine = engine_of("llama")
    cache = made(engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("goldfinch.foreign.running.reading.obstacle_to_joining", lambda model: "of a reason")
        with pytest.raises(GoldFinchError, match="of a reason"):
            ForeignSession(engine.model, cache, read_blocks=2, joined=True)
        assert ForeignSession(engine.model, cache, read_blocks=1, joined=True).reader.blocks == 1
