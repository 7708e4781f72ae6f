"""What is taken out of a cache of the library is put into another, in memory of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from goldfinch.errors import ModelRefused
from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.running.states import SequenceState, can_cut, put_in, taken_out
from tests.goldfinch.foreign.running.tiny import random_ids, tiny_model

NAMES = ("llama", "gemma3_text", "falcon_h1", "mamba2")


def rows_of_ids(count: int) -> Tensor:
    """(1, count)."""
    return torch.from_numpy(random_ids(count))[None]


def begun(model: ForeignModel, ids: Tensor, capacity: int = 1) -> object:
    layers = put_in(lambda: library.new_cache(model.network), model.layers, None, capacity)
    library.forward(model.network, ids[0], layers, 0)
    return layers


def tensors(state: SequenceState) -> list[Tensor]:
    held = [part for layer in state.layers for part in (layer.keys, layer.values, *layer.states.values())]
    return [part for part in held if part is not None]


@pytest.mark.parametrize("name", NAMES)
def test_rows_written_into_slots_are_those_that_the_library_joins(name: str) -> None:
    """A capacity of one row doubles again and again."""
    model, ids = tiny_model(name), rows_of_ids(50)
    own, theirs = begun(model, ids[:, :30]), library.new_cache(model.network)
    library.forward(model.network, ids[0, :30], theirs)
    for at in range(30, 50):
        mine = library.forward(model.network, ids[0, at : at + 1], own, at)
        assert torch.equal(mine, library.forward(model.network, ids[0, at : at + 1], theirs, at))
    for a, b in zip(own.layers, theirs.layers, strict=True):  # type: ignore[attr-defined]
        if getattr(b, "keys", None) is not None:
            assert torch.equal(a.keys, b.keys)
            assert torch.equal(a.values, b.values)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_is_taken_out_changes_or_keeps_more_memory_than_it_needs(name: str) -> None:
    model, ids = tiny_model(name), rows_of_ids(60)
    layers = begun(model, ids[:, :48], 48)
    state = taken_out(layers, model.layers, 48)
    before = [part.clone() for part in tensors(state)]
    for part in tensors(state):
        assert part.untyped_storage().nbytes() == part.numel() * part.element_size()
    library.forward(model.network, ids[0, 48:], layers, 48)
    again = put_in(lambda: library.new_cache(model.network), model.layers, state, 60)
    library.forward(model.network, ids[0, 48:], again, 48)
    assert all(torch.equal(a, b) for a, b in zip(tensors(state), before, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_put_in_and_taken_out_again_is_the_same(name: str) -> None:
    model = tiny_model(name)
    state = taken_out(begun(model, rows_of_ids(40)), model.layers, 40)
    again = taken_out(put_in(lambda: library.new_cache(model.network), model.layers, state, 41), model.layers, 40)
    assert all(torch.equal(a, b) for a, b in zip(tensors(state), tensors(again), strict=True))
    assert tensors(state.without_rows(model.layers).with_rows(model.layers, state))[0].equal(tensors(state)[0])


def test_only_a_model_that_keeps_every_row_can_be_cut_anywhere() -> None:
    assert [can_cut(tiny_model(name).layers) for name in NAMES] == [True, False, False, False]


def test_a_layer_that_keeps_something_else_is_named() -> None:
    model = tiny_model("llama")
    layers = begun(model, rows_of_ids(8))
    with pytest.raises(ModelRefused, match="layer 0"):
        taken_out(layers, model.layers, 9)
