"""GoldFinch: linear-time prefill, an extremely compressed cache, answers from the cache alone.

Names load on first use, so that `import goldfinch` costs nothing and `goldfinch.list_models` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gfkernels.threads  # noqa: F401

from .version import __version__

if TYPE_CHECKING:
    from .batching import ask_many
    from .cache import DocumentCache, open_cache
    from .citing import Citation, cite
    from .config import ModelConfig
    from .errors import GoldFinchError
    from .library import Library
    from .model import LanguageModel
    from .model_directory import list_models, load_model
    from .packing import Unpacked, prefill_packed
    from .prefilling import document_token_ids, prefill
    from .session import Answer, Session

_HOMES = {
    "Answer": "session",
    "Citation": "citing",
    "DocumentCache": "cache",
    "GoldFinchError": "errors",
    "LanguageModel": "model",
    "Library": "library",
    "ModelConfig": "config",
    "Session": "session",
    "Unpacked": "packing",
    "ask_many": "batching",
    "cite": "citing",
    "document_token_ids": "prefilling",
    "list_models": "model_directory",
    "load_model": "model_directory",
    "open_cache": "cache",
    "prefill": "prefilling",
    "prefill_packed": "packing",
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
