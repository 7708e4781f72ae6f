"""Our models as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from goldfinch.caching.document_cache import DocumentCache, open_cache
from goldfinch.caching.identity import identity_of
from goldfinch.caching.numerics import Numerics, numerics_of
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.base import Chosen
from goldfinch.policies.named import AUTO
from goldfinch.text.prompt import document_token_ids, question_token_ids

from .base import Progress, Prompt
from .prefill import prefill
from .session import DEFAULT_MEMORY_BYTES, Session


class GoldFinchEngine:
    """A model of ours behind the protocol; contract of each method in `base.Engine`.

    Args:
        model: with its executor.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of(self.model)

    @property
    def numerics(self) -> Numerics:
        return numerics_of(self.model)

    def document(self, text: str) -> Prompt:
        ids, own = document_token_ids(self.model, text)
        return Prompt(ids[0].numpy(), own)

    def question(self, text: str, *, raw: bool = False) -> list[int]:
        return question_token_ids(self.model, text, raw=raw)

    def prefill(
        self, prompt: Prompt, *, source: dict[str, Any] | None = None, progress: Progress | None = None
    ) -> DocumentCache:
        ids = torch.from_numpy(prompt.token_ids)[None]
        return prefill(self.model, ids, document_range=prompt.document_range, source=source, progress=progress)

    def save(self, cache: DocumentCache, path: Path) -> None:
        cache.save(path)

    def open(self, path: Path) -> DocumentCache:
        return open_cache(path, self.model)

    def session(
        self,
        cache: DocumentCache,
        *,
        memory_bytes: int | None = None,
        read: str | Chosen = AUTO,
        read_blocks: int | None = None,
    ) -> Session:
        most = DEFAULT_MEMORY_BYTES if memory_bytes is None else memory_bytes
        return Session(self.model, cache, memory_bytes=most, read=read, read_blocks=read_blocks)
