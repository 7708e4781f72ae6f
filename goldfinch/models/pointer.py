"""The pointer: an answer may be copied from the rows of the document that are read, token by token.

Notation: B batch, T positions, n document rows read, m question rows, C d_model, R = C / compression_ratio, D pointer
width, V vocab_size, M = MATCHED.

Pointer networks (Vinyals et al. 2015, arXiv 1506.03134) mixed with a vocabulary (See et al. 2017, arXiv 1704.04368).
Once per question the rows are read beside the question: a row is its token's embedding and its compressed key, both of
which the cache holds anyway, and what of the question resembles it (the aligned question of Chen et al. 2017, arXiv
1704.00051); convolutions let every row see what stands before *and* after it. With `pointer_looks` rows that know their
neighbours look at the question again (attention from text to question and convolutions in turn, as in QANet, arXiv
1804.09541, section 2.2), whose tokens know theirs too. Per answer token the stream chooses
among the rows, helped by how many of the last tokens a row continues, and three gates mix

    p = g_v vocabulary + g_c attention over the rows' token ids + g_e end of the answer

where the vocabulary's part sees what was found, so that it can say that nothing was.

Nothing here touches prefill: a cache of the same model without a pointer serves as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from gfkernels.precision import accumulation_dtype
from torch import Tensor, nn

from .config import ModelConfig
from .layers import LayerNorm, PlainLinear, parameter
from .running.pointing import (
    DILATIONS,
    GATES,
    LOOK_DILATIONS,
    LOOK_HEAD_DIM,
    MARKS,
    MATCHED,
    MOST_COLUMNS,
    NOTHING,
    QUESTION_DILATIONS,
    RUNS,
    SEPARATORS,
    Pointing,
    Rows,
)


class _Neighbours(nn.Module):
    """Rows from themselves and those `dilation` before and after, added to what they were."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = LayerNorm(width)
        self.mix = PlainLinear(3 * width, width)

    def forward(self, h: Tensor, held: Tensor) -> Tensor:
        """h (B, n, D), held (B, n, 1) 0 or 1 -> (B, n, D)."""
        x, d = self.norm(h) * held, self.dilation
        n = x.shape[1]
        padded = F.pad(x, (0, 0, d, d))
        around = torch.cat([padded[:, :n], x, padded[:, 2 * d :]], dim=-1)
        return h + F.gelu(self.mix(around))


@dataclass(frozen=True, eq=False)
class Layout:
    """Where rows stand in lines, and in the columns of these.

    Attributes:
        first, last: (B, n) int64, the rows with which each row's line begins and ends.
        columns: (len(SEPARATORS), B, n) int64, how many separators stand in the line up to a row.
    """

    first: Tensor
    last: Tensor
    columns: Tensor

    @classmethod
    def of(cls, breaks: Tensor, separators: Tensor) -> Layout:
        """The layout of rows whose tokens end lines, (B, n) bool, and hold separators, (len(SEPARATORS), B, n)."""
        n, places = breaks.shape[1], torch.arange(breaks.shape[1], device=breaks.device)
        begins = F.pad(breaks[:, :-1], (1, 0), value=True)
        first = torch.where(begins, places, 0).cummax(1).values
        last = (n - 1) - torch.where(begins.roll(-1, 1).flip(1), places, 0).cummax(1).values.flip(1)
        counted = F.pad(separators.cumsum(-1), (1, 0))  # (S, B, n + 1)
        before = counted.gather(-1, first.expand(len(separators), -1, -1))
        return cls(first, last, (counted[..., 1:] - before).clamp_max(MOST_COLUMNS - 1))

    def shares(self, weights: Tensor) -> Tensor:
        """What of weights lies in each row's line, and in its columns: (B, n, H) -> (B, n, (1 + len(SEPARATORS)) H)."""
        sums = F.pad(weights.cumsum(1), (0, 0, 1, 0))
        ends = torch.stack([self.last + 1, self.first])[..., None].expand(-1, -1, -1, weights.shape[-1])
        upto, before = sums.gather(1, ends[0]), sums.gather(1, ends[1])
        found = [upto - before]
        for columns in self.columns:
            held = F.one_hot(columns, MOST_COLUMNS).to(weights.dtype)  # (B, n, columns)
            found.append(held @ (held.transpose(1, 2) @ weights))
        return torch.cat(found, dim=-1)


class _Look(nn.Module):
    """A further look at the question, by rows that know their neighbours: attention, lines, columns, convolutions.

    The rows of a table that hold what the question asks for, and those of the heading, are far from the cell: a look
    chooses MARKS rows, and each row knows how far one of these stands in its line, or in its column.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mark = PlainLinear(width, MARKS)
        self.placed = PlainLinear((1 + len(SEPARATORS)) * MARKS, width)
        self.heads = 1 if width % LOOK_HEAD_DIM else width // LOOK_HEAD_DIM
        self.row_norm, self.question_norm = LayerNorm(width), LayerNorm(width)
        self.ask, self.tell = PlainLinear(width, width), PlainLinear(width, 2 * width)
        self.blend = PlainLinear(4 * width, width)
        self.neighbours = nn.ModuleList(_Neighbours(width, dilation) for dilation in LOOK_DILATIONS)

    def forward(self, h: Tensor, q: Tensor, whole: Tensor, held: Tensor, asked: Tensor, layout: Layout) -> Tensor:
        """What the rows become, (B, n, D).

        Args:
            h: rows (B, n, D).
            q: the question's tokens (B, m, D).
            whole: (B, 1, D), the question in one.
            held: (B, n, 1) 0 or 1.
            asked: (B, 1, m) bool.
            layout: of the rows.
        """
        x = self.row_norm(h)
        keys, values = self.tell(self.question_norm(q)).chunk(2, dim=-1)
        parts = [y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.ask(x), keys, values)]
        found = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=asked[:, None])
        found = found.transpose(1, 2).flatten(-2)
        marks = self.mark(x).to(accumulation_dtype(x.dtype)).masked_fill(held == 0, -torch.inf).softmax(1)
        placed = self.placed(layout.shares(marks).to(x.dtype))
        h = h + F.gelu(self.blend(torch.cat([x, found, x * found, x * whole], dim=-1)) + placed)
        for layer in self.neighbours:
            h = layer(h, held)
        return h


def recent_tokens(token_ids: Tensor, recent: Tensor) -> Tensor:
    """The last M tokens at each position, the latest first: token_ids (B, T), recent (B, M) -> (B, T, M)."""
    line = torch.cat([recent.flip(1), token_ids], dim=1)  # (B, M + T)
    return line.unfold(1, recent.shape[1], 1)[:, 1:].flip(-1)


def tokens_before(token_ids: Tensor) -> Tensor:
    """The M tokens before each row of whole sequences, the nearest first: (B, T) -> (B, T, M); NOTHING before the
    first."""
    padded = F.pad(token_ids, (MATCHED, 0), value=NOTHING)
    return padded.unfold(1, MATCHED, 1)[:, :-1].flip(-1)


class Pointer(nn.Module):
    """The pointer's weights; D is `config.pointer_width`. Its twin in numpy is `running.light_pointer`."""

    recent_tokens = staticmethod(recent_tokens)
    tokens_before = staticmethod(tokens_before)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        C, D = config.d_model, config.pointer_width
        self.looks: nn.ModuleList | None = None
        if config.pointer_looks:
            self.runs = parameter(len(RUNS), D)
            # Not trained: which tokens end a line, and how many separators of each kind they hold (`know_signs`).
            self.signs = parameter(1 + len(SEPARATORS), config.vocab_size)
            self.question_neighbours = nn.ModuleList(_Neighbours(D, dilation) for dilation in QUESTION_DILATIONS)
            self.looks = nn.ModuleList(_Look(D) for _ in range(config.pointer_looks))
        self.row = PlainLinear(C + config.d_compressed, D)
        self.align = PlainLinear(C, D)
        self.word_weight = parameter(config.vocab_size)
        self.attend_question = parameter(D)
        self.blend = PlainLinear(4 * D + 2, D)
        self.neighbours = nn.ModuleList(_Neighbours(D, dilation) for dilation in DILATIONS)
        self.norm = LayerNorm(D)
        self.key = PlainLinear(D, D)
        self.query = PlainLinear(C, D)
        self.matched = parameter(MATCHED + 1)
        self.gate = PlainLinear(C, GATES)
        self.gate_start = parameter(GATES)
        self.gate_row = PlainLinear(D, GATES)
        self.gate_matched = parameter(MATCHED + 1, GATES)
        self.gate_best = parameter(GATES)
        self.seen = PlainLinear(C + D, D)
        self.change = PlainLinear(D, C)

    def open(self, document: Rows, before: Tensor, question: Rows, recent: Tensor, end: int | None = None) -> Pointing:
        """Read document rows beside a question.

        Args:
            document: n rows.
            before: (B, n, M), as `Pointing` has them.
            question: m rows.
            recent: (B, M).
            end: id of the token that ends an answer, or None.
        """
        held = (document.token_ids != NOTHING)[..., None].to(document.embedded.dtype)
        asked = (question.token_ids != NOTHING)[:, None]  # (B, 1, m)
        h = self.row(torch.cat([document.embedded, document.compressed_k], dim=-1))
        q = self.row(torch.cat([question.embedded, question.compressed_k], dim=-1))
        same = (document.token_ids[..., None] == question.token_ids[:, None]) & asked & (held > 0)  # (B, n, m)
        weight = self.word_weight[document.token_ids.clamp_min(0)]
        overlap = torch.where(same.any(-1), weight, torch.zeros_like(weight))[..., None]
        likeness = self.align(document.embedded) @ self.align(question.embedded).transpose(1, 2)
        likeness = (likeness / math.sqrt(h.shape[-1])).masked_fill(~asked, -torch.inf)
        aligned = likeness.softmax(-1) @ q
        weights = (q @ self.attend_question).masked_fill(~asked[:, 0], -torch.inf).softmax(-1)
        whole = weights[:, None] @ q
        best = likeness.amax(-1, keepdim=True)
        mixed = self.blend(torch.cat([h, aligned, h * aligned, h * whole, overlap, best], dim=-1))
        if self.looks is not None:
            mixed = mixed + in_runs(same).to(mixed.dtype) @ self.runs
        h = F.gelu(mixed)
        for layer in self.neighbours:
            h = layer(h, held)
        if self.looks is not None:
            kept = asked.transpose(1, 2).to(q.dtype)
            for layer in self.question_neighbours:
                q = layer(q, kept)
            layout = self._layout(document.token_ids)
            for look in self.looks:
                h = look(h, q, whole, held, asked, layout)
        h = self.norm(h)
        # A row's own part of the gates is that of the row before it: whether an answer ends behind it.
        ends = F.pad(self.gate_row(h), (0, 0, 1, -1))
        return Pointing(document.token_ids, before, self.key(h), ends, recent, end)

    def know_signs(self, texts: Sequence[str]) -> None:
        """Note what tokens tell of lines and columns.

        Args:
            texts: of every token, by id.
        """
        counts = [[float(sum(text.count(sign) for sign in signs)) for text in texts] for signs in SEPARATORS]
        with torch.no_grad():
            self.signs.copy_(torch.tensor([[float("\n" in text) for text in texts], *counts]))

    def _layout(self, token_ids: Tensor) -> Layout:
        known = self.signs.float().nan_to_num().clamp(0, MOST_COLUMNS).round().long()  # a file may hold anything
        signs = known[:, token_ids.clamp_min(0)] * (token_ids != NOTHING)
        return Layout.of(signs[0] > 0, signs[1:])

    def scores(self, stream: Tensor, pointing: Pointing, recent: Tensor) -> tuple[Tensor, Tensor]:
        """How well each row goes on, and how many of the last tokens it continues.

        Args:
            stream: (B, T, C), normed.
            recent: (B, T, M), the last tokens at each position, the latest first.

        Returns:
            scores (B, T, n), -inf for padding, and the count of tokens (B, T, n) int64.
        """
        before = pointing.before[:, None]
        same = (recent[:, :, None] == before) & (before != NOTHING)  # (B, T, n, M)
        matched = same.to(torch.int64).cumprod(-1).sum(-1)
        q = self.query(stream)
        acc = accumulation_dtype(q.dtype)
        scores = (q @ pointing.keys.transpose(1, 2)).to(acc) / math.sqrt(q.shape[-1])
        scores = scores + self.matched.to(acc)[matched]
        return scores.masked_fill((pointing.token_ids == NOTHING)[:, None], -torch.inf), matched

    def shares(self, stream: Tensor, pointing: Pointing, recent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is mixed, and how; arguments as in `scores`.

        Returns:
            attention over the rows (B, T, n), the logarithms of the gates (B, T, GATES), and the stream (B, T, C) from
            which the vocabulary's part comes.
        """
        scores, matched = self.scores(stream, pointing, recent)
        attention = scores.softmax(-1)
        acc = attention.dtype
        gates = (self.gate(stream) + self.gate_start).to(acc)
        gates = gates + attention @ pointing.gates.to(acc)
        counts = torch.zeros(*matched.shape[:2], MATCHED + 1, dtype=acc, device=matched.device)
        gates = gates + counts.scatter_add(-1, matched, attention) @ self.gate_matched.to(acc)
        gates = gates + scores.amax(-1, keepdim=True) * self.gate_best.to(acc)
        found = (attention @ pointing.keys.to(acc)).to(stream.dtype)
        changed = stream + self.change(F.gelu(self.seen(torch.cat([stream, found], dim=-1))))
        return attention, gates.log_softmax(-1), changed

    def found(self, stream: Tensor, pointing: Pointing, recent: Tensor) -> tuple[float, float]:
        """How well the best row goes on, and how much of the next token's probability is copied, for one sequence and
        one position; arguments as in `scores`."""
        best, gates = self.scores(stream, pointing, recent)[0].amax(), self.shares(stream, pointing, recent)[1]
        return float(best), float(gates[0, 0, 1].exp())

    def copied(
        self, head: Callable[[Tensor], Tensor], stream: Tensor, pointing: Pointing, recent: Tensor, token_ids: Tensor
    ) -> Tensor:
        """How much of the probability of each token comes from copying each row, (B, T, n), at most 1 over all rows.

        Args:
            head, stream, pointing, recent: as in `mix`.
            token_ids: (B, T) int64, the token that follows each position.
        """
        attention, gates, _ = self.shares(stream, pointing, recent)
        of_token = pointing.token_ids[:, None] == token_ids[..., None]  # (B, T, n)
        taken = gates[..., 1:2].exp() * attention * of_token
        return taken / self.mix(head, stream, pointing, recent).gather(-1, token_ids[..., None]).exp()

    def mix(self, head: Callable[[Tensor], Tensor], stream: Tensor, pointing: Pointing, recent: Tensor) -> Tensor:
        """The logarithm of the mixed distribution.

        Args:
            head: the logits of the vocabulary (B, T, V) from a normed stream.
            stream, pointing, recent: as in `scores`.

        Returns:
            (B, T, V) in float32 or better.
        """
        attention, gates, changed = self.shares(stream, pointing, recent)
        acc = attention.dtype
        mixed = gates[..., :1].exp() * head(changed).to(acc).softmax(-1)
        copied = gates[..., 1:2].exp() * attention
        places = pointing.token_ids.clamp_min(0)[:, None].expand_as(copied)
        mixed = mixed.scatter_add(-1, places, copied)
        if pointing.end is not None:
            mixed[..., pointing.end] += gates[..., 2].exp()
        return mixed.clamp_min(torch.finfo(acc).tiny).log()


def in_runs(same: Tensor) -> Tensor:
    """Whether each row stands in a run of two, of three tokens that the question has too.

    Args:
        same: (B, n, m) bool, which rows equal which of the question's tokens.

    Returns:
        (B, n, len(RUNS)) bool.
    """
    n, found = same.shape[1], []
    ends, length = same, 1  # at (row, token) a common run of `length` tokens ends
    for wanted in RUNS:
        while length < wanted:
            ends, length = F.pad(ends[:, :-1, :-1], (1, 0, 1, 0)) & same, length + 1
        here = F.pad(ends.any(-1), (0, length - 1))
        found.append(torch.stack([here[:, at : at + n] for at in range(length)]).any(0))
    return torch.stack(found, dim=-1)


@torch.no_grad()
def initialise_pointer(pointer: Pointer) -> None:
    """What training starts with: nearly everything from the vocabulary."""
    row = (pointer.row, pointer.align, pointer.blend, pointer.key)
    for linear in (*row, pointer.query, pointer.gate, pointer.gate_row, pointer.seen, pointer.change):
        linear.as_torch_begins()
    for layer in pointer.neighbours:
        layer.norm.as_torch_begins()  # type: ignore[union-attr,operator]
        layer.mix.as_torch_begins()  # type: ignore[union-attr,operator]
    if pointer.looks is not None:
        _initialise_looks(pointer)
    pointer.norm.as_torch_begins()
    pointer.word_weight.fill_(1.0)
    for zero in (pointer.gate.weight, pointer.change.weight, pointer.attend_question, pointer.gate_matched):
        zero.zero_()
    pointer.gate_best.zero_()
    pointer.matched.copy_(torch.arange(MATCHED + 1) / 2)
    pointer.gate_start.copy_(torch.tensor([4.0, 0.0, -4.0]))


def _initialise_looks(pointer: Pointer) -> None:
    """What is added to a pointer without them starts at zero, so that one that is trained already stays as it is."""
    assert pointer.looks is not None
    pointer.runs.zero_()
    pointer.signs.zero_()
    for part in (pointer.question_neighbours, pointer.looks):
        for module in part.modules():
            if isinstance(module, LayerNorm | PlainLinear):
                module.as_torch_begins()
        for module in part.modules():
            if isinstance(module, _Neighbours):
                module.mix.weight.zero_()
            if isinstance(module, _Look):
                module.blend.weight.zero_()
                module.placed.weight.zero_()
