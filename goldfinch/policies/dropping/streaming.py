"""StreamingLLM (arXiv 2309.17453, sections 3.1 and 3.2): the first rows, attention sinks, and a window of the last.

The paper numbers positions by place in the cache. Here rows keep the position that they had: a GoldFinch key has none
unless the model rotates, and where it does, or a model of others has turned its keys, what is gone leaves a gap. It
looks at no query: a pre-fill stays as it is.
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
