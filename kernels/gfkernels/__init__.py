"""Ops of the GoldFinch family: each fast form beside the readable one that judges it.

A folder is an op and a file in it a backend. `wkv6` names both a folder and, here, the op itself: the function is what
`from gfkernels import wkv6` gives, and files of the folder are reached with `from gfkernels.wkv6 import reference`.
"""

from .attention.reference import attend_block, attend_expanded, attention_ref, causal_attention, merge_partials
from .dispatch import choose_backend
from .errors import BackendUnavailable, KernelError, KernelInputError
from .layer.linear import linear
from .wkv6.chunked import wkv6_chunked, wkv6_step
from .wkv6.reference import wkv6_recurrent
from .wkv6.run import wkv6

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
