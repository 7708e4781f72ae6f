"""Which lines of a document were read most for an answer: what it was copied from, or the model's attention.

Notation: T document tokens, H heads, N rows that predicted the answer's tokens.

The answer is run once more behind the question, in one pass. Where a model's pointer gave most of its tokens, the rows
that they were copied from are summed and mapped to lines. Else it is the attention weights over the document, of every
GOLD, GPTAlpha or Llama layer, at the rows that predicted the answer's tokens.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goldfinch.errors import TokenizerError
from goldfinch.policies.blocks import map_tokens
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.places import Found

from .attention_scores import attention_to_document, copied_from
from .session import Session

MOST_CITATIONS = 3
# A place that had less of what was read is none, unless it is the first.
LEAST_SHARE = 0.01
# A neighbour of a cited line belongs to it when it was read at least this much, relative to it.
NEIGHBOUR_SHARE = 0.5
# Tokens next to each other whose attention counts together where a place in a line is looked for: a few words.
NEAR = 8
# An answer counts as copied when so much of its tokens' probability, in the mean, was.
COPIED_SHARE = 0.5


@dataclass(frozen=True)
class Citation:
    """A place of the document that was read most for an answer.

    Attributes:
        first_line, last_line: from 1, inclusive.
        share: of what was read of the document.
        line: the line in it that was read most.
        text: of that line.
        column: character of the line, from 1, where what was read most of it begins.
        passage: the block of the document that this stands in, heading rows of a table first.
    """

    first_line: int
    last_line: int
    share: float
    line: int
    text: str
    column: int = 1
    passage: str = ""


def cite(session: Session, question: str, answer_ids: Sequence[int], *, raw: bool = False) -> list[Citation]:
    """The lines that were read most for an answer, most read first.

    Args:
        session: that gave the answer.
        question: as it was asked; raw as in `Session.ask`.
        answer_ids: token ids of the answer (`Answer.token_ids`).

    Returns:
        up to MOST_CITATIONS places; none for an empty answer or a model without attention. Where a reading policy
        chose blocks, the places are these.

    Raises:
        TokenizerError: the model has no tokenizer.
    """
    read = _read(session, question, answer_ids, raw=raw)
    if read is None:
        return []
    found = session.reader.read(None if raw else question).found
    return cited(read.weights, session.reader.index, found, copied=read.copied)


def cited(weights: Tensor, index: DocumentIndex, found: Sequence[Found], *, copied: bool = False) -> list[Citation]:
    """The places that were read most, most read first.

    Args:
        weights: (n,) float64, how much each of the document's own tokens was read.
        index: of the document.
        found: the blocks that were read; none for all of it.
        copied: the weights say what was copied, so that a line between the blocks may be a place, too: the first and
            the last tokens of a document are always read.
    """
    ids = index.token_ids.tolist()
    share, lines, places = _shares(index.tokenizer, weights, ids)
    chosen = _of_blocks(share, lines, found, between=copied) if found else _citations(share, lines)
    return _with_places(index, chosen, weights, ids, places)


def line_shares(
    session: Session, question: str, answer_ids: Sequence[int], *, raw: bool = False
) -> tuple[Tensor, list[str]]:
    """The share of each line of the document in what was read, (lines,) float64, and the lines.

    Arguments as in `cite`; no lines for an empty answer or a model without attention.
    """
    read = _read(session, question, answer_ids, raw=raw)
    if read is None:
        return torch.zeros(0, dtype=torch.float64), []
    return _shares(session.model.tokenizer, read.weights, session.cache.own_token_ids.tolist())[:2]


@dataclass(frozen=True)
class _Read:
    """How much each of the document's own tokens was read, (n,) float64: what the answer was copied from, or else the
    attention."""

    weights: Tensor
    copied: bool


def _read(session: Session, question: str, answer_ids: Sequence[int], *, raw: bool) -> _Read | None:
    """What was read for an answer; None as in `cite`."""
    if session.model.tokenizer is None:
        raise TokenizerError("this model has no tokenizer, so its tokens have no lines")
    config = session.model.config
    if not answer_ids or not (config.n_gold or config.n_attention):
        return None
    state = session.state_for(session.reader.read(None if raw else question))
    question_ids = session.question_token_ids(question, raw=raw)
    weights = copied_from(session, state, question_ids, answer_ids)
    copied = float(weights.sum()) >= COPIED_SHARE * len(answer_ids)
    if not copied:
        weights = attention_to_document(session, state, question_ids, answer_ids)
    return _Read(weights[slice(*session.cache.document_range)].double().cpu(), copied)


def _shares(tokenizer: Any, weights: Tensor, ids: Sequence[int]) -> tuple[Tensor, list[str], list[int]]:
    """The share of each line, the lines, and the 0-based line of each token."""
    lines, places = _lines(tokenizer, ids)
    per_line = torch.zeros(len(lines), dtype=torch.float64)
    per_line.index_add_(0, torch.tensor(places), weights)
    return per_line / per_line.sum().clamp_min(1e-30), lines, places


def _with_places(
    index: DocumentIndex, cited: Sequence[Citation], weights: Tensor, ids: Sequence[int], places: Sequence[int]
) -> list[Citation]:
    """The same with the character of each line that was read most, and the block around it."""
    tokens, found = map_tokens(index.tokenizer, ids), list[Citation]()
    starts = np.asarray(index.places.blocks.first_row)
    for one in cited:
        first, last = bisect_left(places, one.line - 1), bisect_right(places, one.line - 1)
        token = first + most_read(weights[first:last]) if first < last else min(first, len(ids) - 1)
        line_start = 0 if one.line == 1 else tokens.line_ends[one.line - 2] + 1
        character = max(tokens.starts[token], line_start)
        blanks = len(tokens.text[character:]) - len(tokens.text[character:].lstrip(" \t\n"))
        column = max(min(character + blanks - line_start + 1, len(one.text)), 1)
        block = max(int(np.searchsorted(starts, token, side="right")) - 1, 0)
        passage = index.text(block) if len(index) else one.text
        found.append(replace(one, column=column, passage=passage.strip("\n")))
    return found


def most_read(weights: Tensor) -> int:
    """The first of the NEAR tokens next to each other that were read most together: weights (n,), n at least 1."""
    near = weights.unfold(0, min(NEAR, len(weights)), 1).sum(-1)
    return int(near.argmax())


def _lines(tokenizer: Any, ids: Sequence[int]) -> tuple[list[str], list[int]]:
    """The lines of a document, and for each token the 0-based line that it (or what follows its line ends) lies in."""
    # A line end is one byte in UTF-8 and part of no other character, so it shows in a token decoded alone.
    ends: dict[int, tuple[int, int]] = {}
    for token in set(ids):
        text = tokenizer.decode([token])
        leading = len(text) - len(text.lstrip("\r\n")) if text.strip("\r\n") else 0
        ends[token] = (text[:leading].count("\n"), text.count("\n"))
    places, line = [], 0
    for token in ids:
        leading, count = ends[token]
        places.append(line + leading)
        line += count
    lines = tokenizer.decode(list(ids)).split("\n")
    lines += [""] * (line + 1 - len(lines))
    return lines, places


def _citations(share: Tensor, lines: Sequence[str]) -> list[Citation]:
    """The most read places, neighbours that were read nearly as much joined to them."""
    values, taken, found = share.tolist(), set[int](), list[Citation]()
    for best in sorted(range(len(values)), key=lambda n: -values[n]):
        if len(found) == MOST_CITATIONS or values[best] == 0 or (found and values[best] < LEAST_SHARE):
            break
        if best in taken or not lines[best].strip():
            continue
        enough, first, last = NEIGHBOUR_SHARE * values[best], best, best
        while first > 0 and first - 1 not in taken and values[first - 1] >= enough:
            first -= 1
        while last + 1 < len(values) and last + 1 not in taken and values[last + 1] >= enough:
            last += 1
        taken |= set(range(first, last + 1))
        found.append(Citation(first + 1, last + 1, sum(values[first : last + 1]), best + 1, lines[best]))
    return found


def _of_blocks(share: Tensor, lines: Sequence[str], found: Sequence[Found], *, between: bool) -> list[Citation]:
    """The blocks that were read, most read first, each with the line in it that was read most; with `between`, the line
    outside of them that was read most, if it was read more than any block."""
    values, cited = share.tolist(), list[Citation]()
    for block in found:
        numbers = range(block.first_line - 1, block.last_line)
        best = max(numbers, key=lambda n: (values[n], -n))
        read = sum(values[n] for n in numbers)
        cited.append(Citation(block.first_line, block.last_line, read, best + 1, lines[best]))
    inside = {n for block in found for n in range(block.first_line - 1, block.last_line)}
    outside = max((n for n in range(len(values)) if n not in inside), key=lambda n: (values[n], -n), default=None)
    if between and outside is not None and values[outside] > max(citation.share for citation in cited):
        cited.append(Citation(outside + 1, outside + 1, values[outside], outside + 1, lines[outside]))
    return sorted(cited, key=lambda citation: -citation.share)[:MOST_CITATIONS]
