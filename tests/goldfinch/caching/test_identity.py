"""Which model a cache belongs to."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from goldfinch.caching import identity
from goldfinch.caching.identity import identity_of
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets
from goldfinch.weights.fingerprints import fingerprints


def test_weights_of_a_model_without_a_card_are_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = LanguageModel(presets()["goldfinch-tiny"])
    hashed: list[int] = []

    def counted(config: object, weights: object) -> tuple[str, str]:
        hashed.append(1)
        return fingerprints(model.config, model.state_dict())

    monkeypatch.setattr(identity, "fingerprints", counted)
    first = identity_of(model)
    assert identity_of(model) == first
    assert len(hashed) == 1
    with torch.no_grad():
        model.emb.weight += 1  # as a step of training does
    assert identity_of(model)["model"]["prefill_fingerprint"] != first["model"]["prefill_fingerprint"]
    assert len(hashed) == 2


def test_what_an_engine_without_torch_will_need_imports_none() -> None:
    modules = (
        "caching.identity", "caching.numerics", "caching.sizes", "text.documents", "text.prompt", "text.template", "text.tokenizer",
        "weights.directory", "weights.fingerprints", "weights.published",
    )  # fmt: skip
    code = "; ".join([*(f"import goldfinch.{name}" for name in modules), "import sys; print('torch' in sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
