"""The size of a file is known before it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import goldfinch
from goldfinch.caching.identity import identity_of
from goldfinch.caching.numerics import numerics_of
from goldfinch.caching.sizes import planned_bytes


@pytest.mark.parametrize("name", ["llama_rope", "finchc2", "finchc2_gptalpha", "finch_gold", "goldfinch_ratio2"])
def test_planned_bytes_of_every_model_type(imported: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    model = goldfinch.load_model(imported(name))
    ids = torch.arange(200)[None] * 31 % model.config.vocab_size
    goldfinch.prefill(model, ids).save(tmp_path / "x.gfc")
    planned = planned_bytes(identity_of(model), numerics_of(model), None, ids[0].numpy())
    actual = (tmp_path / "x.gfc").stat().st_size
    assert abs(planned - actual) <= 0.01 * actual
    assert planned_bytes(identity_of(model), numerics_of(model), None, ids[0].numpy(), exactly=False) >= planned
