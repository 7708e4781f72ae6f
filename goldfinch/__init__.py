"""GoldFinch: linear-time prefill, an extremely compressed cache, answers from the cache alone.

Names load on first use, so that `import goldfinch` costs nothing and `goldfinch.list_models` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gfkernels.threads  # noqa: F401

from .version import __version__

if TYPE_CHECKING:
    from goldfinch.caching.document_cache import DocumentCache, open_cache
    from goldfinch.engine.answer import Answer
    from goldfinch.engine.batch_decode import ask_many
    from goldfinch.engine.cite import Citation, cite
    from goldfinch.engine.packed_prefill import Unpacked, prefill_packed
    from goldfinch.engine.prefill import prefill
    from goldfinch.engine.session import Session
    from goldfinch.library.library import Library
    from goldfinch.models.config import ModelConfig
    from goldfinch.models.language_model import LanguageModel
    from goldfinch.text.prompt import document_token_ids
    from goldfinch.weights.directory import list_models
    from goldfinch.weights.loading import load_model

    from .errors import GoldFinchError

_HOMES = {
    "Answer": "engine.session",
    "Citation": "engine.cite",
    "DocumentCache": "caching.document_cache",
    "GoldFinchError": "errors",
    "LanguageModel": "models.language_model",
    "Library": "library.library",
    "ModelConfig": "models.config",
    "Session": "engine.session",
    "Unpacked": "engine.packed_prefill",
    "ask_many": "engine.batch_decode",
    "cite": "engine.cite",
    "document_token_ids": "text.prompt",
    "list_models": "weights.directory",
    "load_model": "weights.loading",
    "open_cache": "caching.document_cache",
    "prefill": "engine.prefill",
    "prefill_packed": "engine.packed_prefill",
}

__all__ = [
    "Answer",
    "Citation",
    "DocumentCache",
    "GoldFinchError",
    "LanguageModel",
    "Library",
    "ModelConfig",
    "Session",
    "Unpacked",
    "__version__",
    "ask_many",
    "cite",
    "document_token_ids",
    "list_models",
    "load_model",
    "open_cache",
    "prefill",
    "prefill_packed",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'goldfinch' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
