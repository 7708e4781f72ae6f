"""The pointer in numpy: the twin of `pointer.Pointer`, whose docstrings say what each step is for; no gradients.

Notation: B batch (1), T positions, n document rows read, m question rows, C d_model, D pointer width, V vocab_size,
M = MATCHED, H heads of a look. Nothing is padded here: there is one sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from gfkernels.layer.native import gelu
from gfkernels.layer.product import times

from goldfinch.models.config import ModelConfig

from .pointing import (
    DILATIONS,
    GATES,
    LOOK_DILATIONS,
    LOOK_HEAD_DIM,
    MATCHED,
    MOST_COLUMNS,
    NOTHING,
    QUESTION_DILATIONS,
    RUNS,
    SEPARATORS,
    Pointing,
    Rows,
)

Array = np.ndarray
_TINY = np.finfo(np.float32).tiny


def softmax(x: Array, axis: int = -1) -> Array:
    """Along an axis."""
    x = np.exp(x - x.max(axis, keepdims=True))
    return x / x.sum(axis, keepdims=True)


def log_softmax(x: Array) -> Array:
    """Along the last axis."""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _gelu(x: Any) -> Any:
    rows: Any = np.ascontiguousarray(x)
    return gelu(rows)


class LightPointer:
    """The pointer's weights; methods as of `Pointer`.

    Args:
        config: of the model.
        weights: float32 by the names of the modules.
    """

    def __init__(self, config: ModelConfig, weights: Any) -> None:
        self._weights, self._looks = weights, [getattr(weights.looks, str(n)) for n in range(config.pointer_looks)]
        self._heads = 1 if config.pointer_width % LOOK_HEAD_DIM else config.pointer_width // LOOK_HEAD_DIM

    def open(self, document: Rows, before: Any, question: Rows, recent: Any, end: int | None = None) -> Pointing:
        """Read document rows beside a question; all of one sequence, none of them padding."""
        w, ids, asked_ids = self._weights, np.asarray(document.token_ids)[0], np.asarray(question.token_ids)[0]
        rows, asked = np.asarray(document.embedded)[0], np.asarray(question.embedded)[0]  # (n, C), (m, C)
        h = w.row(np.concatenate([rows, np.asarray(document.compressed_k)[0]], -1))  # (n, D)
        q = w.row(np.concatenate([asked, np.asarray(question.compressed_k)[0]], -1))  # (m, D)
        same = ids[:, None] == asked_ids
        overlap = np.where(same.any(-1), w.word_weight[ids], np.float32(0))[:, None]
        likeness = times(w.align(rows), w.align(asked).T) / np.float32(math.sqrt(h.shape[-1]))  # (n, m)
        aligned = times(softmax(likeness), q)
        whole = times(softmax(times(q, w.attend_question[:, None])[:, 0])[None], q)  # (1, D)
        parts = [h, aligned, h * aligned, h * whole, overlap, likeness.max(-1, keepdims=True)]
        mixed = w.blend(np.concatenate(parts, -1))
        if self._looks:
            mixed = mixed + times(_in_runs(same).astype(np.float32), w.runs)
        h = _gelu(mixed)
        h = _through(w.neighbours, DILATIONS, h)
        if self._looks:
            q = _through(w.question_neighbours, QUESTION_DILATIONS, q)
            layout = self._layout(ids)
            for look in self._looks:
                h = self._look(look, h, q, whole, layout)
        h = w.norm(h)
        gates = w.gate_row(h)
        ends: Any = np.concatenate([np.zeros_like(gates[:1]), gates[:-1]])
        return Pointing(document.token_ids, before, w.key(h)[None], ends[None], recent, end)

    def _look(self, look: Any, h: Array, q: Array, whole: Array, layout: _Layout) -> Array:
        """As `pointer._Look.forward`: h (n, D), q (m, D), whole (1, D) -> (n, D)."""
        x = look.row_norm(h)
        keys, values = np.split(look.tell(look.question_norm(q)), 2, -1)
        ask, keys, values = (y.reshape(len(y), self._heads, -1).swapaxes(0, 1) for y in (look.ask(x), keys, values))
        scores = times(ask, keys.swapaxes(1, 2)) / np.float32(math.sqrt(ask.shape[-1]))  # (H, n, m)
        found = times(softmax(scores), values).swapaxes(0, 1).reshape(len(h), -1)
        placed = look.placed(layout.shares(softmax(look.mark(x), 0)))
        blended = look.blend(np.concatenate([x, found, x * found, x * whole], -1))
        h = h + _gelu(blended + placed)
        return _through(look.neighbours, LOOK_DILATIONS, h)

    def _layout(self, ids: Array) -> _Layout:
        known = np.clip(np.nan_to_num(self._weights.signs), 0, MOST_COLUMNS).round().astype(np.int64)
        signs = known[:, ids]
        return _Layout(signs[0] > 0, signs[1:])

    def scores(self, stream: Any, pointing: Pointing, recent: Any) -> tuple[Array, Array]:
        """Scores (B, T, n) of the rows and how many of the last tokens each continues, as `Pointer.scores`."""
        before, keys = np.asarray(pointing.before)[:, None], np.asarray(pointing.keys)
        same = (recent[:, :, None] == before) & (before != NOTHING)
        matched = np.logical_and.accumulate(same, -1).sum(-1)
        q = self._weights.query(stream)
        scores = times(q, keys.swapaxes(1, 2)) / np.float32(math.sqrt(q.shape[-1]))
        return scores + self._weights.matched[matched], matched

    def shares(self, stream: Any, pointing: Pointing, recent: Any) -> tuple[Array, Array, Array]:
        """Attention, logarithms of the gates and the changed stream, as `Pointer.shares`."""
        w = self._weights
        scores, matched = self.scores(stream, pointing, recent)
        attention = softmax(scores)
        gates = w.gate(stream) + w.gate_start + times(attention, np.asarray(pointing.gates))
        counts = np.stack([(attention * (matched == n)).sum(-1) for n in range(MATCHED + 1)], -1)
        gates = gates + times(counts, w.gate_matched) + scores.max(-1, keepdims=True) * w.gate_best
        found = times(attention, np.asarray(pointing.keys))
        seen = _gelu(w.seen(np.concatenate([stream, found], -1)))
        assert gates.shape[-1] == GATES
        return attention, log_softmax(gates), stream + w.change(seen)

    def found(self, stream: Any, pointing: Pointing, recent: Any) -> tuple[float, float]:
        """As `Pointer.found`."""
        best, gates = self.scores(stream, pointing, recent)[0].max(), self.shares(stream, pointing, recent)[1]
        return float(best), float(np.exp(gates[0, 0, 1]))

    def copied(self, head: Callable[[Any], Any], stream: Any, pointing: Pointing, recent: Any, token_ids: Any) -> Array:
        """As `Pointer.copied`."""
        attention, gates, _ = self.shares(stream, pointing, recent)
        of_token = np.asarray(pointing.token_ids)[:, None] == token_ids[..., None]  # (B, T, n)
        taken = np.exp(gates[..., 1:2]) * attention * of_token
        mixed = np.take_along_axis(self.mix(head, stream, pointing, recent), token_ids[..., None], -1)
        return taken / np.exp(mixed)

    def mix(self, head: Callable[[Any], Any], stream: Any, pointing: Pointing, recent: Any) -> Array:
        """The logarithm of the mixed distribution (B, T, V), as `Pointer.mix`."""
        attention, gates, changed = self.shares(stream, pointing, recent)
        mixed = np.exp(gates[..., :1]) * softmax(head(changed))
        copied = np.exp(gates[..., 1:2]) * attention
        ids = np.asarray(pointing.token_ids)
        for b, t in np.ndindex(mixed.shape[:2]):
            np.add.at(mixed[b, t], ids[b], copied[b, t])
        if pointing.end is not None:
            mixed[..., pointing.end] += np.exp(gates[..., 2])
        return np.log(np.maximum(mixed, _TINY))

    @staticmethod
    def recent_tokens(token_ids: Any, recent: Any) -> Array:
        """As `pointer.recent_tokens`."""
        line = np.concatenate([recent[:, ::-1], token_ids], 1)
        windows = np.lib.stride_tricks.sliding_window_view(line, recent.shape[1], 1)
        return windows[:, 1:, ::-1]

    @staticmethod
    def tokens_before(token_ids: Any) -> Array:
        """As `pointer.tokens_before`."""
        padded = np.concatenate([np.full((len(token_ids), MATCHED), NOTHING), token_ids], 1)
        return np.lib.stride_tricks.sliding_window_view(padded, MATCHED, 1)[:, :-1, ::-1]


def _through(layers: Any, dilations: tuple[int, ...], h: Array) -> Array:
    """Rows (n, D) through layers that let them see their neighbours, as `pointer._Neighbours`."""
    n = len(h)
    for place, d in enumerate(dilations):
        layer = getattr(layers, str(place))
        x = layer.norm(h)
        padded = np.zeros((n + 2 * d, x.shape[1]), np.float32)
        padded[d : n + d] = x
        around = np.concatenate([padded[:n], x, padded[2 * d :]], -1)
        h = h + _gelu(layer.mix(around))
    return h


def _in_runs(same: Array) -> Array:
    """As `pointer.in_runs`: (n, m) bool -> (n, len(RUNS)) bool."""
    n, found = len(same), []
    ends, length = same, 1
    for wanted in RUNS:
        while length < wanted:
            shifted = np.zeros_like(ends)
            shifted[1:, 1:] = ends[:-1, :-1]
            ends, length = shifted & same, length + 1
        here = np.concatenate([ends.any(-1), np.zeros(length - 1, bool)])
        found.append(np.stack([here[at : at + n] for at in range(length)]).any(0))
    return np.stack(found, -1)


class _Layout:
    """As `pointer.Layout`, of one sequence.

    Args:
        breaks: (n,) bool, tokens that end lines.
        separators: (len(SEPARATORS), n), how many separators they hold.
    """

    def __init__(self, breaks: Array, separators: Array) -> None:
        n, places = len(breaks), np.arange(len(breaks))
        begins = np.concatenate([[True], breaks[:-1]])
        self.first = np.maximum.accumulate(np.where(begins, places, 0))
        backwards = np.maximum.accumulate(np.where(np.roll(begins, -1)[::-1], places, 0))
        self.last = (n - 1) - backwards[::-1]
        counted = np.concatenate([np.zeros((len(SEPARATORS), 1), np.int64), separators.cumsum(-1)], -1)
        self.columns = np.minimum(counted[:, 1:] - counted[:, self.first], MOST_COLUMNS - 1)

    def shares(self, weights: Array) -> Array:
        """What of weights (n, H) lies in each row's line and columns, (n, (1 + len(SEPARATORS)) H)."""
        sums = np.concatenate([np.zeros_like(weights[:1]), weights.cumsum(0)])
        found = [sums[self.last + 1] - sums[self.first]]
        for columns in self.columns:
            held = (columns[:, None] == np.arange(MOST_COLUMNS)).astype(np.float32)
            found.append(times(held, times(held.T, weights)))
        return np.concatenate(found, -1)
