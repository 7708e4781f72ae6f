"""Asking a cached document: the end of tail and question through the GOLD layers in one pass, then decode.

Notation: T document tokens, K tail_length, Q question tokens, C d_model, V vocab_size.

The document itself never passes a Finch layer again. Of its last K tokens and the question, the last K pass the GOLD
layers, because the token shifts of those layers reach back no further (golden rule, section "tail property"): of a
question of K tokens or more, the end alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Unpack

from gfkernels import arrays

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.datasets.facts import NOT_STATED
from goldfinch.devices import out_of_memory, synchronize, without_gradients
from goldfinch.errors import DeviceError
from goldfinch.models.memory import GoldMemory, expanded_bytes
from goldfinch.policies.base import Chosen
from goldfinch.policies.measured import Evidence
from goldfinch.policies.named import ALL, AUTO
from goldfinch.text.prompt import question_token_ids, template_of

from .answer import Answer, Answering, Confidence, StreamedText, Usage
from .quoting import Quotable, Quoting
from .reading import DocumentReader, Reading, Rows
from .sampling import Sampling, SamplingOptions, log_probability

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.models.language_model import LanguageModel
    from goldfinch.models.state import ModelState

    # Logits (V,) behind a question, and the state there.
    Started = tuple[Tensor, ModelState]

DEFAULT_MEMORY_BYTES = 4 << 30
# Tokens decoded before a CUDA graph is captured, which costs a few steps: most answers are shorter.
EAGER_TOKENS = 8
# Rows that a question may read and add, to estimate what it takes.
QUESTION_ROWS = 1024
# Question tokens per pass through the Finch layers.
QUESTION_BLOCK = 512


class Session:
    """A model and a cached document, ready for questions. Asking changes neither.

    Args:
        model: the model that the cache belongs to.
        cache: from `prefill` or `open_cache`.
        memory_bytes: keys and values of the document are expanded once and held when they take no more than
            this; otherwise they are rebuilt block by block at every step. The choice depends on the size of
            the cache and on this number alone, never on what memory happens to be free. The blocks that a reading
            policy chose are few and always held.
        read: the reading policy (`policies.named.POLICIES`): which part of the document a question is answered from;
            or blocks that are chosen already.
        read_blocks: how many blocks it chooses; by default what was measured for the model, else 1.
        candidates: of how many blocks, each read by itself, the model chooses the one that it answers from. By default
            what was measured for the model, else 1.

    Raises:
        GoldFinchError: no such reading policy, or one that cannot be followed here.
    """

    def __init__(
        self,
        model: LanguageModel,
        cache: DocumentCache,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        read: str | Chosen = AUTO,
        read_blocks: int | None = None,
        candidates: int | None = None,
    ) -> None:
        self.model, self.cache = model, cache
        self.template = template_of(model)
        self.runs_on = model.executor.name
        self.reader = DocumentReader(model, cache, read, read_blocks, candidates)
        needed = expanded_bytes(model.config, cache.read_count, model.element_bytes)
        self.expands = needed <= memory_bytes
        kept = f"kept: {needed:,} bytes, at most {memory_bytes:,} allowed"
        rebuilt = f"rebuilt by block at every step: {needed:,} bytes would be needed, {memory_bytes:,} allowed"
        self.chosen_path = f"keys and values of the document are {kept if self.expands else rebuilt}"
        self.expand_s = 0.0
        self._quotable: dict[Reading, Quotable] = {}
        self.last_usage = Usage(cache.length)
        if self.reader.policy == ALL:
            _ = self.document_state  # what a session can fail at, it fails at before the first question

    def __repr__(self) -> str:
        name = (self.cache.source or {}).get("name") or "a document"
        return f"<Session: {self.cache.length:,} tokens of {name!r}, read={self.reader.policy!r}>"

    @without_gradients
    def _expanded(self, rows: Rows | None) -> ModelState:
        """The state behind the document, with keys and values of some rows, or of all that fit into the memory."""
        if not self.model.config.n_gold:
            return self.cache.state if rows is None else self.cache.state.holding(rows)
        document = self.cache.on_device(self.model.device, whole=rows is None)
        started = time.perf_counter()
        if self.expands or rows is not None:
            try:
                document = self.model.executor.expand(document, self.cache.held(rows))
            except out_of_memory() as error:
                raise DeviceError(
                    "not enough memory to expand the keys and values", hint="give a smaller --memory"
                ) from error
        synchronize(self.model.device)
        self.expand_s = time.perf_counter() - started
        return replace(self.cache.state, memory=GoldMemory(self.model.executor, document))

    @cached_property
    def document_state(self) -> ModelState:
        """The state behind the document, its GOLD memory ready to be attended to, all of it."""
        return self._expanded(None)

    @property
    def expanded_bytes(self) -> int:
        """Bytes of the keys and values of the whole document that are held now."""
        memory = self.document_state.memory if "document_state" in vars(self) else None
        if not isinstance(memory, GoldMemory) or memory.document is None or memory.document.expanded is None:
            return 0
        return sum(rows.nbytes for pair in memory.document.expanded for rows in pair)

    @property
    def question_bytes(self) -> int:
        """What a question under way takes, estimated: states, keys and values of what it reads, twice in a batch."""
        config, element = self.model.config, self.model.element_bytes
        states = config.n_finch * config.d_model * config.head_dim * 4
        kept = 2 * config.n_attention * self.cache.length * config.d_model * element
        return 2 * (states + expanded_bytes(config, QUESTION_ROWS, element) + kept)

    def state_for(self, reading: Reading) -> ModelState:
        """The state behind the document, its GOLD memory or its attention layers holding what a question reads."""
        return self.document_state if reading.rows is None else self._expanded(reading.rows)

    @without_gradients
    def start(
        self, token_ids: list[int], state: ModelState | None = None, *, copies: bool = True
    ) -> tuple[Tensor, ModelState]:
        """Logits (V,) of the token after the document and `token_ids`, and the state there.

        Args:
            token_ids: of the question; may be empty.
            state: behind the document (`state_for`); by default with all of it.
            copies: let a model with a pointer copy from what is read.
        """
        x, state = self.behind_layers(token_ids, self.document_state if state is None else state, copies=copies)
        return self.model.first_logits(x, state)[0, -1], state

    @without_gradients
    def behind_layers(
        self, token_ids: list[int], state: ModelState, *, copies: bool = True
    ) -> tuple[Tensor, ModelState]:
        """The last position above all layers, (1, 1, C), and the state there; arguments as of `start`."""
        x, state = self._behind_question(token_ids, state)
        return self._behind_gold_layers(x, state, copies=copies)

    @without_gradients
    def behind(self, first: list[int], then: list[int], *, copies: bool = True) -> Tensor:
        """Logits (1 + len(then), V) behind `first` and behind each token of `then`; arguments as of `start`."""
        logits, state = self.start(first, copies=copies)
        rows = [logits[None]]
        if then:
            more, _ = self.model(self.model.row_of(then), state)
            rows.append(more[0])
        return arrays.joined(rows)

    def likeliest(self, token_ids: list[int], count: int) -> list[int]:
        """The likeliest tokens behind `token_ids`, one after the other; one that ends an answer ends nothing."""
        found = list[int]()
        logits, state = self.start(token_ids)
        while len(found) < count:
            found.append(int(logits.argmax()))
            if len(found) < count:
                logits, state = decode_one_token(self.model, found[-1], state)
        return found

    def _behind_question(self, token_ids: list[int], state: ModelState) -> tuple[Tensor, ModelState]:
        """The end of tail and question below the GOLD layers, (1, T, C), and the state there."""
        model = self.model
        rows = [self.cache.tail_hidden]
        ids = model.row_of(token_ids)
        for start in range(0, ids.shape[1], QUESTION_BLOCK):
            block = ids[:, start : start + QUESTION_BLOCK]
            x, state = model.run_prefill_layers(block, state)
            if model.config.n_gold:
                state = model.remember(state, block, model.compress_keys(x))
                rows.append(x)
            else:
                rows = [x]  # nothing above looks at the tail
        return arrays.joined(rows, 1)[:, -model.config.tail_length :], state

    def _behind_gold_layers(self, x: Tensor, state: ModelState, *, copies: bool) -> tuple[Tensor, ModelState]:
        """The last position above all layers, (1, 1, C), and the state there."""
        if self.model.config.n_gold:
            x, state = self.model.run_gold_layers(x, state)
        return x[:, -1:], self.model.point(state) if copies else state

    def choose(self, question: str, token_ids: list[int], readings: Sequence[Reading]) -> tuple[Reading, Started]:
        """Which of several parts of the document answers a question, and the start there, as `start` gives it.

        Args:
            token_ids: of the question.
            readings: the parts, the best found first.
        """
        starts, evidence = zip(*self.weighed(token_ids, readings), strict=True)
        best = self.reader.choose(question, readings, evidence)
        return readings[best], starts[best]

    @without_gradients
    def weighed(self, token_ids: list[int], readings: Sequence[Reading]) -> list[tuple[Started, Evidence]]:
        """The start of an answer from each of several parts of the document, and what speaks for it; as in `choose`."""
        model, behind = self.model, None
        found: list[tuple[Started, Evidence]] = []
        for reading in readings:
            state = self.state_for(reading)
            if behind is None or not (model.config.n_gold and model.config.can_batch):
                behind = self._behind_question(token_ids, state)
            elif isinstance(memory := state.memory, GoldMemory) and isinstance(behind[1].memory, GoldMemory):
                # Recurrent layers do not know what is read: the question passes them once.
                shared = replace(behind[1].memory, document=memory.document)
                behind = behind[0], replace(behind[1], memory=shared)
            x, state = self._behind_gold_layers(*behind, copies=True)
            logits = model.first_logits(x, state)[0, -1]
            silence = log_probability(logits, self._silence, whole=True)
            found.append(((logits, state), Evidence(reading.score, silence, *model.found(x, state))))
        return found

    @cached_property
    def _silence(self) -> int:
        """The first token of "Not stated."."""
        return int(self.model.tokenizer.encode(self.template.answer_prefix + NOT_STATED)[0])

    def generate(self, token_ids: list[int], **sampling: Unpack[SamplingOptions]) -> list[int]:
        """Token ids that follow the document and `token_ids`; the end token is not among them.

        Args:
            token_ids: what stands between document and answer; may be empty.
            **sampling: fields of `Sampling`.
        """
        usage = self._usage(token_ids, self.reader.read(None))
        answering = Answering(Sampling(**sampling), self.template.end_token_id, usage)
        for _ in self._decode(token_ids, answering):
            pass
        return answering.token_ids

    def _usage(self, token_ids: list[int], reading: Reading) -> Usage:
        """What an answer behind `token_ids` has taken before it begins."""
        config = self.model.config
        tail = min(self.cache.tail_hidden.shape[1], max(config.tail_length - len(token_ids), 0)) if config.n_gold else 0
        times = {"expand": self.expand_s, "question": 0.0, "decode": 0.0}
        return Usage(self.cache.length, 0, tail, len(token_ids), 0, times, reading=reading)

    def begin_answer(self, token_ids: list[int], reading: Reading, sampling: Sampling, *, raw: bool) -> Answering:
        """An answer in text; with `raw`, text that continues, which only the stops of `sampling` end."""
        stops = sampling.stop if raw else (*self.template.stop, *sampling.stop)
        text = StreamedText(self.model.tokenizer, stops, strip=not raw)
        usage = self._usage(token_ids, reading)
        confidence: Confidence = self._confidence
        if raw:
            sampling, confidence = replace(sampling, least_likelihood=0.0), _no_answer
        elif sampling.least_likelihood is None and not sampling.quote and sampling.temperature == 0:
            least = self.reader.record.least_likelihood.get(reading.policy, 0.0)
            sampling = replace(sampling, least_likelihood=least)
        if not raw and (sampling.quote or sampling.temperature > 0):
            confidence = _not_calibrated
        quoting = self._quoting(reading) if sampling.quote and not raw else None
        return Answering(sampling, self.template.end_token_id, usage, text, confidence, quoting)

    def _quoting(self, reading: Reading) -> Quoting:
        """What a quote may be of what was read."""
        if reading not in self._quotable:
            self._quotable.clear()  # of the last reading alone: questions read different blocks
            self._quotable[reading] = Quotable(self.reader.index, reading.found)
        ends = self.template.end_token_id
        return Quoting(self._quotable[reading], () if ends is None else (ends,), self.model.config.vocab_size)

    def _confidence(self, usage: Usage) -> tuple[float | None, str | None]:
        assert usage.reading is not None
        return self.reader.confidence(usage.reading, usage.likelihood)

    def _decode(
        self, token_ids: list[int], answering: Answering, *, copies: bool = True, begun: Started | None = None
    ) -> Iterator[None]:
        """Let `answering` take token after token, its usage up to date after each; `copies` as in `start`, whose result
        may be given."""
        model, most = self.model, answering.sampling.max_tokens
        self.last_usage = usage = answering.usage
        assert usage.timings_s is not None
        assert usage.reading is not None
        if begun is None:
            state = self.state_for(usage.reading)
            usage.timings_s["expand"] = self.expand_s
            started = time.perf_counter()
            begun = self.start(token_ids, state, copies=copies)
            synchronize(model.device)
            usage.timings_s["question"] = time.perf_counter() - started
        logits, state = begun
        started = time.perf_counter()
        decoder = None
        while (token := answering.take(logits)) is not None:
            usage.timings_s["decode"] = time.perf_counter() - started
            yield
            if not answering.going:
                return
            if usage.generated_tokens == EAGER_TOKENS:
                decoder = model.executor.decoder(state, most - EAGER_TOKENS)
            if decoder is not None:
                logits = decoder.step(token)
            else:
                logits, state = decode_one_token(model, token, state)

    def question_token_ids(self, question: str, *, raw: bool = False) -> list[int]:
        """Tokens of a question in the model's template; as it is when `raw`."""
        return question_token_ids(self.model, question, raw=raw)

    def stream(self, question: str, *, raw: bool = False, **sampling: Unpack[SamplingOptions]) -> Iterator[str]:
        """The answer in pieces of text, as they are decoded.

        Args:
            question: the question; with `raw`, text to continue, without the template.
            **sampling: fields of `Sampling`.
        """
        for answering in self.answering(question, raw, Sampling(**sampling)):
            if answering.piece:
                yield answering.piece

    def ask(self, question: str, *, raw: bool = False, **sampling: Unpack[SamplingOptions]) -> Answer:
        """The whole answer; arguments as in `stream`."""
        *_, answering = self.answering(question, raw, Sampling(**sampling))
        return answering.answer()

    def answering(self, question: str, raw: bool, sampling: Sampling) -> Iterator[Answering]:
        """The answer after each token and once more when it is finished; only then where it may yet be another."""
        ids = self.question_token_ids(question, raw=raw)
        readings, begun, taken = [self.reader.read(None)] if raw else self.reader.readings(question), None, 0.0
        reading = readings[0]
        if len(readings) > 1:
            started = time.perf_counter()
            reading, begun = self.choose(question, ids, readings)
            synchronize(self.model.device)
            taken = time.perf_counter() - started
        answering = self.begin_answer(ids, reading, sampling, raw=raw)
        if answering.usage.timings_s is not None:
            answering.usage.timings_s["question"] = taken
        certain = not answering.sampling.least_likelihood  # else it may be withheld until its end
        for _ in self._decode(ids, answering, copies=not raw, begun=begun):
            if certain:
                yield answering
        answering.finish()
        if not certain:
            answering.piece = answering.answer().text
        yield answering


def _no_answer(_: Usage) -> tuple[float | None, str | None]:
    return None, "text that goes on is no answer"


def _not_calibrated(_: Usage) -> tuple[float | None, str | None]:
    """The likelihood of tokens that were allowed, or drawn, is another than that of the likeliest ones."""
    return None, "nothing was calibrated for quotes and for a temperature"


@without_gradients
def decode_one_token(model: LanguageModel, token: int, state: ModelState) -> tuple[Tensor, ModelState]:
    """Logits (V,) after one more token, and the state there."""
    logits, state = model(model.row_of([token]), state)
    return logits[0, -1], state
