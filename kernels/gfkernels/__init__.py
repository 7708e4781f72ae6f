"""Ops of the GoldFinch family: each fast form beside the readable one that judges it.

A folder is an op and a file in it a backend. Names load on first use: `gfkernels.threads` comes before torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import threads  # noqa: F401

if TYPE_CHECKING:
    from .attention.reference import attend_block, attend_expanded, attention_ref, causal_attention, merge_partials
    from .dispatch import choose_backend
    from .errors import BackendUnavailable, KernelError, KernelInputError
    from .layer.linear import linear
    from .wkv.chunked import wkv6_chunked, wkv6_step
    from .wkv.reference import wkv6_recurrent
    from .wkv.run import wkv6

_HOMES = {
    "BackendUnavailable": "errors",
    "KernelError": "errors",
    "KernelInputError": "errors",
    "attend_block": "attention.reference",
    "attend_expanded": "attention.reference",
    "attention_ref": "attention.reference",
    "causal_attention": "attention.reference",
    "choose_backend": "dispatch",
    "linear": "layer.linear",
    "merge_partials": "attention.reference",
    "wkv6": "wkv.run",
    "wkv6_chunked": "wkv.chunked",
    "wkv6_recurrent": "wkv.reference",
    "wkv6_step": "wkv.chunked",
}

__all__ = [
    "BackendUnavailable",
    "KernelError",
    "KernelInputError",
    "attend_block",
    "attend_expanded",
    "attention_ref",
    "causal_attention",
    "choose_backend",
    "linear",
    "merge_partials",
    "wkv6",
    "wkv6_chunked",
    "wkv6_recurrent",
    "wkv6_step",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
