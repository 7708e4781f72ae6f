"""Several questions to one document of a model of others, decoded as one batch: every weight is read once for all.

Notation: B questions, T document tokens, Q question tokens, L rows of the longest, H heads, D channels.

Each question runs alone up to the first token of its answer. Then the rows of all stand in one cache, the shorter ones
padded behind, and a mask keeps the padding out; every token has its true position. Results equal those of one by one
within rounding. Models that keep more than rows decode one by one: states take no padding.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor
from torch.nn.functional import pad

from goldfinch.engine.answer import Answer, Answering
from goldfinch.engine.batch_decode import MOST_ROWS
from goldfinch.engine.reading import Reading
from goldfinch.engine.sampling import Sampling, SamplingOptions
from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel

from .session import ForeignSession
from .states import SequenceState, can_cut, put_together, taken_out

# Memory that the rows of one batch may take, each with its own copy of the document's.
MOST_BYTES = 2 << 30


def ask_many(
    session: ForeignSession, questions: Sequence[str], *, raw: bool = False, **sampling: Unpack[SamplingOptions]
) -> list[Answer]:
    """Answers to several questions about one document; arguments as of `engine.batch_decode.ask_many`."""
    if len(questions) < 2 or _rows_together(session) < 2:
        return [session.ask(question, raw=raw, **sampling) for question in questions]
    answers: list[Answer] = []
    for question, found in zip(questions, ask_each(session, questions, raw=raw, **sampling), strict=True):
        best = session.reader.best([(reading, one.usage.likelihood) for reading, one in found])
        if len(found) > 1:
            session.reader.settle(question, found[best][0])
        answers.append(found[best][1].answer())
    return answers


def ask_each(
    session: ForeignSession, questions: Sequence[str], *, raw: bool = False, **sampling: Unpack[SamplingOptions]
) -> list[list[tuple[Reading, Answering]]]:
    """For each question the answers from all that it reads, of which one is to be chosen, the best reading first."""
    readings = [session.reader.readings(None if raw else question) for question in questions]
    wanted = [(q, reading) for q, found in zip(questions, readings, strict=True) for reading in found]
    rows, together = list[Row](), max(_rows_together(session), 1)
    for start in range(0, len(wanted), together):
        some = [Row.of(session, q, raw, Sampling(**sampling), one) for q, one in wanted[start : start + together]]
        decode_together(session.model, some)
        rows += some
    left = iter(rows)
    return [[(reading, next(left).answering) for reading in found] for found in readings]


def _rows_together(session: ForeignSession) -> int:
    """Answers that one batch may hold; one of a model that keeps more than rows."""
    return min(MOST_ROWS, MOST_BYTES // max(_row_bytes(session), 1)) if can_cut(session.model.layers) else 1


def _row_bytes(session: ForeignSession) -> int:
    cache = session.cache
    if cache.blocks is not None:  # a block has far fewer tokens, whatever the document's length
        return 0
    parts = (part for held in cache.state.layers for part in (held.keys, held.values) if part is not None)
    return sum(part.numel() * part.element_size() for part in parts)


@dataclass
class Row:
    """A question under way: its answer, the logits (V,) behind it, and what the layers hold there."""

    answering: Answering
    logits: Tensor
    state: SequenceState

    @classmethod
    def of(cls, session: ForeignSession, question: str, raw: bool, sampling: Sampling, reading: Reading) -> Row:
        started = time.perf_counter()
        ids, answering = session.begin(question, raw, sampling, reading)
        behind = session.reader.state(reading)
        logits, layers = session.start(ids, state=behind)
        state = taken_out(layers, session.model.layers, behind.position + len(ids), behind.dropped)
        assert answering.usage.timings_s is not None
        answering.usage.timings_s["question"] = time.perf_counter() - started
        return cls(answering, logits, state)

    def take(self, logits: Tensor) -> bool:
        """Take the next token; whether the answer goes on."""
        return self.answering.take(logits) is not None and self.answering.going


def decode_together(model: ForeignModel, rows: Sequence[Row]) -> None:
    """Decode the answers of several questions, of one document or of several, to their ends."""
    started = time.perf_counter()
    active = [row for row in rows if row.take(row.logits)]
    batch = _Batch(model, active) if active else None
    while batch is not None and active:
        logits = batch.step([row.answering.token_ids[-1] for row in active])
        going = [n for n, row in enumerate(active) if row.take(logits[n])]
        if len(going) < len(active):
            active = [active[n] for n in going]
            batch.keep(going)
    share = (time.perf_counter() - started) / len(rows)
    for row in rows:
        assert row.answering.usage.timings_s is not None
        row.answering.usage.timings_s["decode"] = share
        row.answering.finish()


class _Batch:
    """The rows of B answers under way in one cache of the library.

    Args:
        model: of all.
        rows: the answers.
    """

    def __init__(self, model: ForeignModel, rows: Sequence[Row]) -> None:
        self._model = model
        lengths = [row.state.rows for row in rows]
        longest, most = max(lengths), max(row.answering.sampling.max_tokens for row in rows)
        network, states = model.network, [row.state for row in rows]
        self._layers = put_together(lambda: library.new_cache(network), model.layers, states, longest + most)
        device = torch.device(self._model.device)
        self._positions = torch.tensor([row.state.position for row in rows], device=device)
        self._mask = (torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]).long()

    def step(self, token_ids: Sequence[int]) -> Tensor:
        """Logits (B, V) after one more token each."""
        ids = torch.tensor(token_ids, device=self._mask.device)
        self._mask = pad(self._mask, (0, 1), value=1)
        logits = library.step(self._model.network, ids, self._layers, self._positions, self._mask)
        self._positions = self._positions + 1
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows, named in their order."""
        index = torch.tensor(rows, dtype=torch.int64, device=self._mask.device)
        self._positions, self._mask = self._positions[index], self._mask[index]
        for layer in self._layers.layers:
            if hasattr(layer, "slots"):
                layer.slots.keep(rows)
