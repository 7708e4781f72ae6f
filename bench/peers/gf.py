"""gf through its library, as the command line calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from goldfinch.models.language_model import LanguageModel
from goldfinch.weights.loading import load_model

from .base import Peer


class Gf(Peer):
    """gf, library calls as the command line makes them."""

    def __init__(self, dtype: torch.dtype, model: str | Path, folder: Path) -> None:
        super().__init__(f"gf {str(dtype).split('.')[1]}", folder)
        self.model: LanguageModel = load_model(model, dtype=dtype)

    def prefill(self, ids: list[int]) -> object:
        from goldfinch import prefill

        return prefill(self.model, torch.tensor([ids]))

    def save(self, cache: Any) -> None:
        cache.save(self.file)

    def first_token(self, question: list[int]) -> Callable[[], None]:
        from goldfinch import Session, open_cache
        from goldfinch.engine.session import decode_one_token

        logits, state = Session(self.model, open_cache(self.file, self.model, asking=True)).start(question)
        box: list[Any] = [int(logits.argmax()), state]

        def step() -> None:
            logits, box[1] = decode_one_token(self.model, box[0], box[1])
            box[0] = int(logits.argmax())

        return step
