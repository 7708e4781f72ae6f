"""Answers to several questions about one document, decoded as one batch: every weight is read once for all of them.

Notation: B answers, C d_model, H heads, D head dim, R = C / compression_ratio, n own rows (question and answer).

Each question runs alone up to the first token of its answer, for questions differ in length and the recurrent layers
take no padding. From there on all rows take one token at a time: the recurrent states are stacked, the keys and
values of the document are shared, and those since are padded to the longest. Results equal those of one by one within
rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Unpack

import torch
from gfkernels import merge_partials
from gfkernels.precision import accumulation_dtype
from torch import Tensor

from goldfinch.devices import synchronize
from goldfinch.errors import GoldFinchError
from goldfinch.models.executor import Executor
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.layers import split_heads
from goldfinch.models.memory import GoldMemory
from goldfinch.models.pointer import Pointing
from goldfinch.models.state import GoldDocument, LayerState, ModelState

from .answer import Answer, Answering, Question, Step, in_turns
from .reading import DocumentReader, Reading
from .sampling import Sampling, SamplingOptions

# Rows of one batch: states and keys of so many answers are held at once.
MOST_ROWS = 32


def can_batch(model: LanguageModel) -> bool:
    """Whether answers of this model can share a batch."""
    return model.config.can_batch


class Asked(Protocol):
    """What a batch needs of a session (`session.Session`)."""

    model: LanguageModel
    reader: DocumentReader

    def ask(self, question: str, *, raw: bool = False, **sampling: Unpack[SamplingOptions]) -> Answer:
        """The whole answer."""

    def answering(self, question: str, raw: bool, sampling: Sampling) -> Iterator[Answering]:
        """The answer after each token and once more when it is finished."""

    def question_token_ids(self, question: str, *, raw: bool = False) -> list[int]:
        """Tokens of a question."""

    def state_for(self, reading: Reading) -> ModelState:
        """The state behind the document, its GOLD memory holding what a question reads."""

    def begin_answer(self, token_ids: list[int], reading: Reading, sampling: Sampling, *, raw: bool) -> Answering:
        """An answer under way."""

    def choose(
        self, question: str, token_ids: list[int], readings: Sequence[Reading]
    ) -> tuple[Reading, tuple[Tensor, ModelState]]:
        """Which of several parts answers a question, and the start there."""

    def start(
        self, token_ids: list[int], state: ModelState | None = None, *, copies: bool = True
    ) -> tuple[Tensor, ModelState]:
        """Logits (V,) of the token after the document and `token_ids`, and the state there."""


def ask_many(
    session: Asked, questions: Sequence[str], *, raw: bool = False, **sampling: Unpack[SamplingOptions]
) -> list[Answer]:
    """Answers to several questions about one document.

    Args:
        session: on the document.
        questions: as `Session.ask` takes them; raw likewise.
        **sampling: fields of `Sampling`; with a seed every question draws from a generator of its own with that seed.

    Returns:
        one Answer per question, in their order; the times of a batch are shared out evenly over its rows.
    """
    chosen = Sampling(**sampling)
    too_few = len(questions) < session.model.executor.fewest_batch_rows
    if too_few or not can_batch(session.model):
        return [session.ask(question, raw=raw, **sampling) for question in questions]
    answers: list[Answer] = []
    for start in range(0, len(questions), MOST_ROWS):
        together = [Question(text, raw, chosen) for text in questions[start : start + MOST_ROWS]]
        rows = [_Row(session, n, question) for n, question in enumerate(together)]
        for _ in _decode_all(session.model, rows):
            pass
        answers += [row.answering.answer() for row in rows]
    return answers


def answer_together(session: Asked, questions: Sequence[Question]) -> Iterator[list[Step]]:
    """Answers to several questions about one document, step by step.

    Args:
        session: on the document.
        questions: at most MOST_ROWS; too few to gain from it are answered in turns (`in_turns`).
    """
    if len(questions) < session.model.executor.fewest_batch_rows or not can_batch(session.model):
        yield from in_turns(questions, session.answering)
        return
    rows = list[_Row]()
    for n, question in enumerate(questions):
        try:
            rows.append(_Row(session, n, question))
        except GoldFinchError as error:
            yield [Step(n, "", None, finished=True, error=error)]
        else:
            yield []  # others may have their turn between two questions
    yield from _decode_all(session.model, rows)


class _Row:
    """One answer under way.

    Attributes:
        index: which of the questions.
        answering: its answer.
        reads_all: whether it reads the whole document.
        logits, state: behind the question.
    """

    @torch.no_grad()
    def __init__(self, session: Asked, index: int, question: Question) -> None:
        self.index, self._question, reader = index, question, session.reader
        text, raw, sampling = question.text, question.raw, question.sampling
        ids = session.question_token_ids(text, raw=raw)
        readings = [reader.read(None)] if raw else reader.readings(text)
        started, (reading, *others) = time.perf_counter(), readings
        if others:
            reading, (self.logits, self.state) = session.choose(text, ids, readings)
        else:
            self.logits, self.state = session.start(ids, session.state_for(reading), copies=not raw)
        synchronize(session.model.device)
        taken = time.perf_counter() - started
        self.reads_all = reading.rows is None
        self.answering = session.begin_answer(ids, reading, sampling, raw=raw)
        self._certain = not self.answering.sampling.least_likelihood  # else it may be withheld until its end
        self.times = self.answering.usage.timings_s or {}
        self.times["question"] = taken

    def take(self, logits: Tensor) -> Step | None:
        """Take the next token; None for a question that was given up."""
        answering = self.answering
        if self._question.given_up():
            return None
        token = answering.take(logits)
        piece = "" if token is None else answering.piece
        finished = token is None or not answering.going
        if finished:
            piece += answering.finish()
        if not self._certain:
            piece = answering.answer().text if finished else ""
        return Step(self.index, piece, answering, finished)


def _decode_all(model: LanguageModel, rows: Sequence[_Row]) -> Iterator[list[Step]]:
    # Keys and values of a whole document are shared; those of chosen blocks are each row's own.
    for whole in (True, False):
        together = [row for row in rows if row.reads_all == whole]
        if together:
            yield from _decode(model, together)


def _decode(model: LanguageModel, rows: Sequence[_Row]) -> Iterator[list[Step]]:
    taken, batch = 0.0, None
    active, logits = list(rows), [row.logits for row in rows]
    while active:
        started = time.perf_counter()
        steps = [row.take(one) for row, one in zip(active, logits, strict=True)]
        going = [n for n, step in enumerate(steps) if step is not None and not step.finished]
        taken += time.perf_counter() - started
        yield [step for step in steps if step is not None]
        started = time.perf_counter()
        if batch is not None and 0 < len(going) < len(active):
            batch = batch.keep(going)
        active = [active[n] for n in going]
        if active:
            batch = batch or _Batch.of(model, [row.state for row in active])
            last = [[row.answering.token_ids[-1]] for row in active]
            found, batch = batch.step(torch.tensor(last, device=model.device))
            logits = list(found)
        taken += time.perf_counter() - started
    for row in rows:
        row.times["decode"] = taken / len(rows)


@dataclass(frozen=True)
class _Batch:
    """The states of B answers under way.

    Attributes:
        model: theirs.
        state: layer states stacked along the batch axis, without a GOLD memory.
        memory: what the GOLD layers attend to, None for models without them.
    """

    model: LanguageModel
    state: ModelState
    memory: _BatchMemory | None

    @classmethod
    def of(cls, model: LanguageModel, states: Sequence[ModelState]) -> _Batch:
        layers = tuple(LayerState.stack([state.layers[i] for state in states]) for i in range(model.config.n_layer))
        memories = [state.memory for state in states if isinstance(state.memory, GoldMemory)]
        memory = _BatchMemory.of(memories) if model.config.n_gold else None
        pointings = [state.pointing for state in states if state.pointing is not None]
        pointing = Pointing.stack(pointings) if pointings else None
        return cls(model, ModelState(layers, states[0].position, pointing=pointing), memory)

    @torch.no_grad()
    def step(self, token_ids: Tensor) -> tuple[Tensor, _Batch]:
        """Logits (B, V) after one more token each (B, 1), and the batch there."""
        model = self.model
        x, state = model.run_prefill_layers(token_ids, self.state)
        memory = self.memory
        if memory is not None:
            memory = memory.append(token_ids, model.compress_keys(x))
            x, state = model.run_gold_layers(x, replace(state, memory=memory))
            state = replace(state, memory=None)
        logits, state = model.next_logits(x, token_ids, state)
        return logits[:, -1], replace(self, state=state, memory=memory)

    @torch.no_grad()
    def keep(self, rows: Sequence[int]) -> _Batch:
        """The batch of some of its rows."""
        index = torch.tensor(rows, device=self.model.device)
        layers = tuple(layer.select(index) for layer in self.state.layers)
        memory = None if self.memory is None else self.memory.keep(rows, index)
        pointing = None if self.state.pointing is None else self.state.pointing.select(index)
        return replace(self, state=replace(self.state, layers=layers, pointing=pointing), memory=memory)


@dataclass(frozen=True)
class _BatchMemory:
    """What the GOLD layers of B sequences attend to: one document that all read, and the own rows of each.

    What a reading policy chose for each question of its own are own rows as well.

    Attributes:
        executor: rebuilds keys and values and attends to the document.
        document: what all of them read, or None.
        counts: own rows of each so far.
        lengths: the same on the device, (B,).
        last_id, last_compressed_k: (B, 1) and (B, 1, R), the last row of each.
        expanded: per GOLD layer K and V of the own rows, (B, n, C), padded behind.
    """

    executor: Executor
    document: GoldDocument | None
    counts: tuple[int, ...]
    lengths: Tensor
    last_id: Tensor
    last_compressed_k: Tensor
    expanded: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def of(cls, memories: Sequence[GoldMemory]) -> _BatchMemory:
        document = memories[0].document
        shared = all(memory.document is document for memory in memories)
        rows = []
        for layer in range(len(memories[0].expanded)):
            pair = []
            for part in (0, 1):
                own = [_own_rows(memory, layer, part, with_document=not shared) for memory in memories]
                pair.append(torch.nn.utils.rnn.pad_sequence(own, batch_first=True))
            rows.append((pair[0], pair[1]))
        lengths = [m.token_ids.length + (0 if shared else m.document_rows) for m in memories]
        last = [memory.previous_row() for memory in memories]
        return cls(
            memories[0].executor,
            document if shared else None,
            tuple(lengths),
            torch.tensor(lengths, device=memories[0].token_ids.rows.device),
            torch.cat([row[0] for row in last if row is not None]),
            torch.cat([row[1] for row in last if row is not None]),
            tuple(rows),
        )

    @property
    def length(self) -> int:
        """Tokens of the longest sequence (no key is rotated, so the others' positions do not matter)."""
        return (0 if self.document is None else self.document.length) + max(self.counts)

    def append(self, token_ids: Tensor, compressed_k: Tensor) -> _BatchMemory:
        """The memory with one more row each: token_ids (B, 1), compressed_k (B, 1, R)."""
        previous = (self.last_id, self.last_compressed_k)
        pairs = self.executor.rebuild(token_ids, compressed_k, previous, 1)  # their positions play no part
        n, rows = max(self.counts) + 1, torch.arange(len(self.lengths), device=token_ids.device)
        expanded = []
        for (old_k, old_v), (k, v) in zip(self.expanded, pairs, strict=True):
            pair = []
            for old, new in ((old_k, k), (old_v, v)):
                wider = torch.nn.functional.pad(old, (0, 0, 0, n - old.shape[1])) if old.shape[1] < n else old.clone()
                wider[rows, self.lengths] = new[:, 0]
                pair.append(wider)
            expanded.append((pair[0], pair[1]))
        counts = tuple(count + 1 for count in self.counts)
        grown = replace(self, counts=counts, lengths=self.lengths + 1, expanded=tuple(expanded))
        return replace(grown, last_id=token_ids, last_compressed_k=compressed_k)

    def keep(self, rows: Sequence[int], index: Tensor) -> _BatchMemory:
        """The memory of some of the rows, whose numbers are on the device, too."""
        expanded = tuple((k[index], v[index]) for k, v in self.expanded)
        counts = tuple(self.counts[row] for row in rows)
        kept = replace(self, counts=counts, lengths=self.lengths[index], expanded=expanded)
        return replace(kept, last_id=self.last_id[index], last_compressed_k=self.last_compressed_k[index])

    def attend(self, index: int, q: Tensor) -> Tensor:
        """Attention of q (B, H, 1, D) over document and own rows."""
        own = self._own(index, q)
        if self.document is None:
            return own[0].to(q.dtype)
        partials = self.executor.attend_document(index, q, self.document.length - 1, self.document)
        return merge_partials([*partials, own])[0].to(q.dtype)

    def _own(self, index: int, q: Tensor) -> tuple[Tensor, Tensor]:
        """Output (B, H, 1, D) and log-sum-exp (B, H, 1) over the own rows, those of padding left out."""
        k, v = (split_heads(x, q.shape[-1]).transpose(1, 2) for x in self.expanded[index])
        acc = accumulation_dtype(q.dtype)
        scores = (q @ k.transpose(-1, -2)).to(acc) / math.sqrt(q.shape[-1])  # (B, H, 1, n)
        padding = torch.arange(k.shape[2], device=q.device) >= self.lengths[:, None]
        scores = scores.masked_fill(padding[:, None, None], -torch.inf)
        return (scores.softmax(-1).to(v.dtype) @ v).to(acc), scores.logsumexp(-1)


def _own_rows(memory: GoldMemory, layer: int, part: int, with_document: bool) -> Tensor:
    """Keys (part 0) or values (part 1) of a sequence, (n, C): own rows, behind those that it reads of its document."""
    own = memory.expanded[layer][part].rows[0]
    if not with_document:
        return own
    assert memory.document is not None
    assert memory.document.expanded is not None
    return torch.cat([memory.document.expanded[layer][part][0], own])
