"""The rwkv package."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets

from .base import Peer
from .shapes import Shape


class Rwkv(Peer):
    """The rwkv package's RWKV-6 (same depth and width), state in memory."""

    def __init__(self, dtype: str, shape: Shape, folder: Path) -> None:
        os.environ.setdefault("RWKV_JIT_ON", "1")
        from rwkv.model import RWKV

        super().__init__(f"rwkv package RWKV-6 {'bfloat16' if dtype == 'bf16' else 'float32'}", folder)
        config = replace(
            presets()["finch-12x768"],
            n_layer=shape.layers,
            d_model=shape.width,
            d_ffn=shape.width * 7 // 2,
            vocab_size=shape.vocabulary,
        )
        torch.manual_seed(0)
        weights = {k: v.clone() for k, v in LanguageModel(config).state_dict().items()}
        path = folder / "rwkv6.pth"
        if not path.exists():
            torch.save(weights, path)
        self.model = RWKV(model=str(path)[: -len(".pth")], strategy=f"cpu {dtype}")

    def prefill(self, ids: list[int]) -> object:
        state = None
        for start in range(0, len(ids), 512):
            _, state = self.model.forward(ids[start : start + 512], state)
        return state

    def save(self, cache: Any) -> None:
        # Some of the state are rows of larger tensors, and a saved view takes its whole storage with it.
        torch.save([tensor.clone() for tensor in cache], self.file)

    def first_token(self, question: list[int]) -> Callable[[], None]:
        state = torch.load(self.file, weights_only=True)
        out, state = self.model.forward(question, state)
        box = [int(out.argmax()), state]

        def step() -> None:
            out, box[1] = self.model.forward([box[0]], box[1])
            box[0] = int(out.argmax())

        return step
