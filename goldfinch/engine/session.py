"""Asking a cached document: tail and question through the GOLD layers in one pass, then decode.

Notation: T document tokens, K tail_length, Q question tokens, C d_model, V vocab_size.

The document itself never passes a Finch layer again. Its last K tokens pass the GOLD layers again, with the
question, because the token shifts of those layers reach back (golden rule, section "tail property").
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.devices import synchronize
from goldfinch.errors import DeviceError, TokenizerError
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.memory import GoldMemory, expanded_bytes
from goldfinch.models.state import GoldDocument, ModelState
from goldfinch.text.template import PromptTemplate

from .sampling import Sampling, choose_token

DEFAULT_MEMORY_BYTES = 4 << 30
# Tokens decoded before a CUDA graph is captured, which costs a few steps: most answers are shorter.
EAGER_TOKENS = 8
# Question tokens per pass through the Finch layers.
QUESTION_BLOCK = 512


@dataclass
class Usage:
    """What one answer took.

    Attributes:
        document_tokens_cached: tokens that came from the cache.
        document_tokens_computed: document tokens that passed a Finch layer: 0.
        tail_tokens_replayed: document tokens that passed the GOLD layers with the question.
        question_tokens, generated_tokens: counts.
        timings_s: "expand" (keys and values of the document), "question", "decode".
        finish_reason: "stop" (end token or stop string) or "length".
    """

    document_tokens_cached: int
    document_tokens_computed: int = 0
    tail_tokens_replayed: int = 0
    question_tokens: int = 0
    generated_tokens: int = 0
    timings_s: dict[str, float] | None = None
    finish_reason: str = "length"


@dataclass
class Answer:
    """An answer: its text, its token ids and what it took."""

    text: str
    token_ids: list[int]
    usage: Usage


class Session:
    """A model and a cached document, ready for questions. Asking changes neither.

    Args:
        model: the model that the cache belongs to.
        cache: from `prefill` or `open_cache`.
        memory_bytes: keys and values of the document are expanded once and held when they take no more than
            this; otherwise they are rebuilt block by block at every step. The choice depends on the size of
            the cache and on this number alone, never on what memory happens to be free.
    """

    def __init__(self, model: LanguageModel, cache: DocumentCache, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        self.model, self.cache = model, cache
        self.template: PromptTemplate = model.card.template if model.card is not None else PromptTemplate()
        needed = expanded_bytes(model.config, cache.length, model.emb.weight.element_size())
        self.expands = needed <= memory_bytes
        kept = f"kept: {needed:,} bytes, at most {memory_bytes:,} allowed"
        rebuilt = f"rebuilt by block at every step: {needed:,} bytes would be needed, {memory_bytes:,} allowed"
        self.chosen_path = f"keys and values of the document are {kept if self.expands else rebuilt}"
        started = time.perf_counter()
        self._base = self._document_state()
        synchronize(model.device)
        self.expand_s = time.perf_counter() - started
        self.last_usage = Usage(cache.length)

    def _document_state(self) -> ModelState:
        if not self.model.config.n_gold:
            return self.cache.state
        assert self.cache.compressed_k is not None
        document = GoldDocument(self.cache.token_ids, self.cache.compressed_k)
        if self.expands:
            try:
                with torch.no_grad():
                    document = self.model.executor.expand(document)
            except torch.OutOfMemoryError as error:
                raise DeviceError(
                    "not enough memory to expand the keys and values", hint="give a smaller --memory"
                ) from error
        return replace(self.cache.state, memory=GoldMemory(self.model.executor, document))

    @property
    def document_state(self) -> ModelState:
        """The state behind the document, its GOLD memory ready to be attended to."""
        return self._base

    @torch.no_grad()
    def start(self, token_ids: list[int]) -> tuple[Tensor, ModelState]:
        """Logits (V,) of the token after the document and `token_ids`, and the state there."""
        model, state, tail = self.model, self._base, self.cache.tail_hidden
        rows = [tail]
        ids = torch.tensor([token_ids], dtype=torch.int64, device=model.device)
        for start in range(0, ids.shape[1], QUESTION_BLOCK):
            block = ids[:, start : start + QUESTION_BLOCK]
            x, state = model.run_prefill_layers(block, state)
            if model.config.n_gold:
                state = model.remember(state, block, model.compress_keys(x))
                rows.append(x)
            else:
                rows = [x]  # nothing above looks at the tail
        x = torch.cat(rows, dim=1)
        if model.config.n_gold:
            x, state = model.run_gold_layers(x, state)
        return model.logits(x[:, -1:])[0, -1], state

    @torch.no_grad()
    def generate(self, token_ids: list[int], **sampling: Any) -> list[int]:
        """Token ids that follow the document and `token_ids`; the end token is not among them.

        Args:
            token_ids: what stands between document and answer; may be empty.
            **sampling: fields of `Sampling`.
        """
        return list(self._generate(token_ids, Sampling(**sampling)))

    def _generate(self, token_ids: list[int], sampling: Sampling) -> Iterator[int]:
        """Yield token ids one by one; `last_usage` is kept up to date."""
        model, generator = self.model, sampling.generator()
        tail = self.cache.tail_hidden.shape[1] if model.config.n_gold else 0
        usage = Usage(self.cache.length, 0, tail, len(token_ids), 0, {"expand": self.expand_s})
        assert usage.timings_s is not None
        self.last_usage = usage
        started = time.perf_counter()
        logits, state = self.start(token_ids)
        synchronize(model.device)
        usage.timings_s["question"] = time.perf_counter() - started
        started = time.perf_counter()
        usage.timings_s["decode"] = 0.0
        decoder = None
        while True:
            token = choose_token(logits, sampling, generator)
            if token == self.template.end_token_id:
                usage.finish_reason = "stop"
                return
            usage.generated_tokens += 1
            usage.timings_s["decode"] = time.perf_counter() - started
            yield token
            if usage.generated_tokens >= sampling.max_tokens:
                return
            if usage.generated_tokens == EAGER_TOKENS:
                decoder = model.executor.decoder(state, sampling.max_tokens - EAGER_TOKENS)
            if decoder is not None:
                logits = decoder.step(token)
            else:
                logits, state = decode_one_token(model, token, state)

    def question_token_ids(self, question: str, *, raw: bool = False) -> list[int]:
        """Tokens of a question in the model's template; as it is when `raw`."""
        if self.model.tokenizer is None:
            raise TokenizerError("this model has no tokenizer, so it cannot read a question")
        ids: list[int] = self.model.tokenizer.encode(question if raw else self.template.question_text(question))
        return ids

    def stream(self, question: str, *, raw: bool = False, **sampling: Any) -> Iterator[str]:
        """The answer in pieces of text, as they are decoded.

        Args:
            question: the question; with `raw`, text to continue, without the template.
            **sampling: fields of `Sampling`.
        """
        for piece, _ in self._stream(question, raw, Sampling(**sampling)):
            if piece:
                yield piece

    def ask(self, question: str, *, raw: bool = False, **sampling: Any) -> Answer:
        """The whole answer; arguments as in `stream`."""
        pieces, ids = [], []
        for piece, token in self._stream(question, raw, Sampling(**sampling)):
            pieces.append(piece)
            if token is not None:
                ids.append(token)
        return Answer("".join(pieces), ids, self.last_usage)

    def _stream(self, question: str, raw: bool, sampling: Sampling) -> Iterator[tuple[str, int | None]]:
        """(text that became certain, token id) pairs; a last one without a token."""
        stops = sampling.stop if raw else (*self.template.stop, *sampling.stop)
        text = StreamedText(self.model.tokenizer, stops, strip=not raw)
        for token in self._generate(self.question_token_ids(question, raw=raw), sampling):
            piece = text.add(token)
            yield piece, token
            if text.stopped:
                self.last_usage.finish_reason = "stop"
                return
        yield text.finish(), None


@torch.no_grad()
def decode_one_token(model: LanguageModel, token: int, state: ModelState) -> tuple[Tensor, ModelState]:
    """Logits (V,) after one more token, and the state there."""
    ids = torch.tensor([[token]], dtype=torch.int64, device=model.device)
    logits, state = model(ids, state)
    return logits[0, -1], state


class StreamedText:
    """Text from tokens, given out as soon as it is certain.

    Held back are the bytes of an unfinished character and whatever may yet become a stop string.

    Args:
        tokenizer: decode(ids) -> text.
        stops: strings that end the text; the first one found cuts it.
        strip: drop white space at both ends, as an answer has no use for it.
    """

    def __init__(self, tokenizer: Any, stops: tuple[str, ...], strip: bool) -> None:
        self._tokenizer, self._stops, self._strip = tokenizer, tuple(s for s in stops if s), strip
        self._ids: list[int] = []
        self._given = 0
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that this token makes certain."""
        self._ids.append(token)
        text = self._text()
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            return self._give(text[: min(found)], len(text))
        # A trailing replacement character is an unfinished one.
        certain = min(len(text.rstrip("\ufffd")), len(text) - self._stop_overlap(text))
        if self._strip:  # blanks at the end may yet turn out to be the last
            certain = len(text[:certain].rstrip())
        return self._give(text, certain)

    def finish(self) -> str:
        """What is left when no token follows."""
        text = self._text()
        return self._give(text.rstrip() if self._strip else text, len(text))

    def _text(self) -> str:
        text: str = self._tokenizer.decode(self._ids)
        return text.lstrip() if self._strip else text

    def _give(self, text: str, end: int) -> str:
        text = text.rstrip() if self._strip and self.stopped else text
        piece = text[self._given : end]
        self._given = max(self._given, min(end, len(text)))
        return piece

    def _stop_overlap(self, text: str) -> int:
        """Characters at the end of the text that begin a stop string."""
        longest = 0
        for stop in self._stops:
            for n in range(min(len(stop) - 1, len(text)), 0, -1):
                if text.endswith(stop[:n]):
                    longest = max(longest, n)
                    break
        return longest
