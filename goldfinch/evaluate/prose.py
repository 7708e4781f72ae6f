"""Held-out prose of a given length, to hide things in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Any, Protocol

_SENTENCE_END = re.compile(r"[.!?]\s+")


class HasTokenizer(Protocol):
    """A model, or an engine: its tokenizer says how long a document is."""

    @property
    def tokenizer(self) -> Any: ...


def prose_of(model: HasTokenizer, rng: Random, texts: Sequence[str], tokens: int) -> str:
    """Prose of at most `tokens` tokens, less than 2 % short."""
    pieces: list[int] = []
    while len(pieces) < tokens:
        text = rng.choice(texts)
        start = rng.randrange(max(1, len(text) - 4000))
        pieces += model.tokenizer.encode(text[start : start + 4000] + "\n\n")
    text = model.tokenizer.decode(pieces[:tokens])
    return str(text).rstrip("\ufffd")


def insert_at(prose: str, statements: Sequence[tuple[float, str]]) -> str:
    """The prose with each statement at the sentence boundary nearest to its depth (0 start, 1 end)."""
    cuts = [0, *(m.end() for m in _SENTENCE_END.finditer(prose)), len(prose)]
    placed = sorted((min(cuts, key=lambda cut: abs(cut - depth * len(prose))), text) for depth, text in statements)
    out, last = [], 0
    for position, statement in placed:
        out += [prose[last:position], statement.strip() + " "]
        last = position
    return "".join([*out, prose[last:]])
