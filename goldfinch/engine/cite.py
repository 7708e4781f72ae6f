"""Which lines of a document an answer rests on: the attention of the GOLD layers over the cached tokens.

Notation: T document tokens, H heads, N rows that predicted the answer's tokens, G GOLD layers.

The answer is run once more behind the question, in one pass. At the rows that predicted its tokens, every GOLD layer's
attention weights over the document are summed and mapped to lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from goldfinch.errors import TokenizerError
from goldfinch.models.layers import split_heads
from goldfinch.models.memory import GoldMemory

from .session import Session

MOST_CITATIONS = 3
# A neighbour of a cited line belongs to it when it was read at least this much, relative to it.
NEIGHBOUR_SHARE = 0.5


@dataclass(frozen=True)
class Citation:
    """A place of the document that an answer rests on.

    Attributes:
        first_line, last_line: from 1, inclusive.
        share: of the attention that went to the document.
        text: of the line that was read most, without blanks at its ends.
    """

    first_line: int
    last_line: int
    share: float
    text: str


def cite(session: Session, question: str, answer_ids: Sequence[int], *, raw: bool = False) -> list[Citation]:
    """The lines that the GOLD layers read most for an answer, most read first.

    Args:
        session: that gave the answer.
        question: as it was asked; raw as in `Session.ask`.
        answer_ids: token ids of the answer (`Answer.token_ids`).

    Returns:
        up to MOST_CITATIONS places; none for an empty answer or a model without GOLD layers.

    Raises:
        TokenizerError: the model has no tokenizer.
    """
    return _citations(*line_shares(session, question, answer_ids, raw=raw))


def line_shares(
    session: Session, question: str, answer_ids: Sequence[int], *, raw: bool = False
) -> tuple[Tensor, list[str]]:
    """The share of the attention that each line of the document had, (lines,) float64, and the lines.

    Arguments as in `cite`; no lines for an empty answer or a model without GOLD layers.
    """
    if session.model.tokenizer is None:
        raise TokenizerError("this model has no tokenizer, so its tokens have no lines")
    if not answer_ids or not session.model.config.n_gold:
        return torch.zeros(0, dtype=torch.float64), []
    weights = attention_to_document(session, session.question_token_ids(question, raw=raw), answer_ids)
    start, end = session.cache.document_range
    ids = session.cache.token_ids[0, start:end].tolist()
    lines, first_lines = _lines(session.model.tokenizer, ids)
    per_line = torch.zeros(len(lines), dtype=torch.float64)
    per_line.index_add_(0, torch.tensor(first_lines), weights[start:end].double().cpu())
    return per_line / per_line.sum().clamp_min(1e-30), lines


@torch.no_grad()
def attention_to_document(session: Session, question_ids: Sequence[int], answer_ids: Sequence[int]) -> Tensor:
    """Attention weights (T,) that the rows which predicted the answer gave to the document, over heads and layers."""
    model, state = session.model, session.document_state
    ids = torch.tensor([[*question_ids, *answer_ids[:-1]]], dtype=torch.int64, device=model.device)
    x = session.cache.tail_hidden[:, :0]
    if ids.shape[1]:  # else one token behind the bare document, which the tail predicts
        x, state = model.run_prefill_layers(ids, state)
        state = model.remember(state, ids, model.compress_keys(x))
    assert isinstance(state.memory, GoldMemory)
    recorder = _Recorder(state.memory, len(answer_ids))
    model.run_gold_layers(torch.cat([session.cache.tail_hidden, x], dim=1), replace(state, memory=recorder))
    return recorder.weights


class _Recorder:
    """A GOLD memory that notes the attention weights of its last rows.

    Args:
        memory: the memory.
        rows: N.
    """

    def __init__(self, memory: GoldMemory, rows: int) -> None:
        assert memory.document is not None
        self._memory, self._rows = memory, rows
        self.weights = torch.zeros(memory.document.length, device=memory.document.token_ids.device)

    @property
    def length(self) -> int:
        return self._memory.length

    def attend(self, index: int, q: Tensor) -> Tensor:
        document = self._memory.document
        assert document is not None
        document_scores, own_scores = self._scores(index, q[0, :, -self._rows :].float())
        both = torch.cat([document_scores, own_scores], dim=-1).softmax(-1)  # (H, N, held rows + own rows)
        self.weights[document.positions()] += both[..., : document_scores.shape[-1]].sum((0, 1))
        return self._memory.attend(index, q)

    def _scores(self, index: int, q: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (H, N, T) against the document and (H, N, n) against the rows after it, -inf where not yet there."""

        def scores(k: Tensor) -> Tensor:
            return q @ split_heads(k, q.shape[-1]).transpose(1, 2)[0].float().transpose(-1, -2)

        memory, document = self._memory, self._memory.document
        assert document is not None
        scale = 1 / math.sqrt(q.shape[-1])
        if document.expanded is not None:
            blocks: list[Any] = [document.expanded[index][0]]
        else:
            blocks = [k for _, (k, _) in memory.executor.rebuilt(document, index)]
        parts = [scores(k) for k in blocks]
        own = q.new_zeros(*q.shape[:-1], 0)  # a single token behind the bare document
        if memory.expanded:
            own = scores(memory.expanded[index][0].rows)
        n = own.shape[-1]
        later = torch.ones(self._rows, n, dtype=torch.bool, device=q.device).triu(n - self._rows + 1)
        return torch.cat(parts, dim=-1) * scale, (own * scale).masked_fill(later, -torch.inf)


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
        if len(found) == MOST_CITATIONS or values[best] == 0:
            break
        if best in taken or not lines[best].strip():
            continue
        enough, first, last = NEIGHBOUR_SHARE * values[best], best, best
        while first > 0 and first - 1 not in taken and values[first - 1] >= enough:
            first -= 1
        while last + 1 < len(values) and last + 1 not in taken and values[last + 1] >= enough:
            last += 1
        taken |= set(range(first, last + 1))
        found.append(Citation(first + 1, last + 1, sum(values[first : last + 1]), lines[best].strip()))
    return found
