"""Held-out prose of a given length, to hide things in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ..model import LanguageModel
from ..train.corpora import is_held_out_document, read_records

_SENTENCE_END = re.compile(r"[.!?]\s+")
ENCYCLOPEDIA = ("corpus-wikipedia-00", "corpus-wikipedia-01")


def held_out_texts(directory: Path, corpora: Sequence[str] = ENCYCLOPEDIA) -> list[str]:
    """Long texts that training never reads."""
    return [
        record["text"]
        for name in corpora
        for record in read_records(directory / f"{name}.jsonl.zst")
        if is_held_out_document(record["title"]) and len(record["text"]) > 3000
    ]


def prose_of(model: LanguageModel, rng: Random, texts: Sequence[str], tokens: int) -> str:
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
