"""Ops of the GoldFinch family: each fast form beside the readable one that judges it.

Names load on first use: `gfkernels.threads` comes before torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import threads  # noqa: F401

if TYPE_CHECKING:
    from .attention import attend_block, attend_expanded, attention_ref, causal_attention, merge_partials
    from .dispatch import choose_backend, linear, wkv6
    from .errors import BackendUnavailable, KernelError, KernelInputError
    from .wkv6_chunk import wkv6_chunked, wkv6_step
    from .wkv6_ref import wkv6_recurrent

_HOMES = {
    "BackendUnavailable": "errors",
    "KernelError": "errors",
    "KernelInputError": "errors",
    "attend_block": "attention",
    "attend_expanded": "attention",
    "attention_ref": "attention",
    "causal_attention": "attention",
    "choose_backend": "dispatch",
    "linear": "dispatch",
    "merge_partials": "attention",
    "wkv6": "dispatch",
    "wkv6_chunked": "wkv6_chunk",
    "wkv6_recurrent": "wkv6_ref",
    "wkv6_step": "wkv6_chunk",
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
