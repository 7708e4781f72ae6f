"""StreamingLLM (arXiv 2309.17453, sections 3.1 and 3.2): the first rows, attention sinks, and a window of the last.

The paper numbers positions by place in the cache (section 3.2). So do models of ours that rotate: their caches hold
keys from before the rotation, and the first rows move up to the window, which is the same numbering counted from the
end of the document. A GoldFinch key has no position unless the model rotates. A model of others has turned its keys
when they are stored: there rows keep the position that they had, and what is gone leaves a gap. It looks at no query:
a pre-fill stays as it is.
"""

from __future__ import annotations

from torch import Tensor

from .base import Observer, at_ends

SINKS = 4


class Streaming:
    """Keeps SINKS rows at the beginning and the last ones."""

    def queries(self, tokens: int) -> int:
        return 0

    def observer(self, tokens: int) -> Observer:
        raise NotImplementedError("it looks at no query")

    def kept(self, scores: Tensor | None, tokens: int, count: int) -> Tensor:
        sinks = min(SINKS, count - 1)
        return at_ends(tokens, sinks, count - sinks)
