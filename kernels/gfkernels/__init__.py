"""Ops of the GoldFinch family: each fast form beside the readable one that judges it."""

from gfkernels.attention.reference import attend_block, attend_expanded, attention_ref, causal_attention, merge_partials
from gfkernels.wkv6.chunked import wkv6_chunked, wkv6_step
from gfkernels.wkv6.reference import wkv6_recurrent

from .dispatch import choose_backend, linear, wkv6
from .errors import BackendUnavailable, KernelError, KernelInputError

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
