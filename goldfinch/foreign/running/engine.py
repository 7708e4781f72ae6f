"""A model of others as an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import gfcache
import numpy as np
import torch
from gfcache.format.lenders import block_keys

from goldfinch.caching.identity import check_identity
from goldfinch.caching.numerics import Numerics, difference_between
from goldfinch.caching.row_parts import Form
from goldfinch.engine.answer import Answer, Question, Step, in_turns
from goldfinch.engine.base import Progress, Prompt, ReplayReport, Start
from goldfinch.engine.cite import Citation
from goldfinch.engine.sampling import SamplingOptions
from goldfinch.errors import CacheMismatch, TokenizerError
from goldfinch.foreign import library
from goldfinch.foreign.basis.kept import basis_of, offer_kept
from goldfinch.foreign.basis.making import obstacle_to_basis
from goldfinch.foreign.checkpoints import planned_positions
from goldfinch.foreign.dropping.rows import (
    ForeignChooser,
    check_droppable,
    differing,
    dropped,
    obstacle_to_dropping,
    without,
)
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.prompts import ForeignTokenizer, document_ids
from goldfinch.policies.base import Chosen
from goldfinch.policies.dropping.named import Dropping
from goldfinch.policies.named import AUTO, BLOCKS, WHOLE
from goldfinch.weights.directory import ModelCard, read_card

from .batch import ask_many
from .block_prefill import in_blocks
from .blocks import planned_blocks
from .citing import cite
from .coding import check, coded, rounded_rows
from .files import ForeignCache, layers_json, unpack
from .prefill import check_length, keeps_blocks, prefill_from, reusable_tokens
from .replay import compared, start_of
from .session import ForeignSession, question_tokens


class ForeignEngine:
    """A model of others behind the protocol; contract of each method in `base.Engine`.

    Args:
        model: loaded (`models.load`).
    """

    trained_tokens = None  # documents that are too long are refused, not remarked on
    packing_obstacle = "models of others compute each document alone"

    def __init__(self, model: ForeignModel) -> None:
        self.model = model

    @cached_property
    def card(self) -> ModelCard:
        return read_card(self.model.path)

    @property
    def tokenizer(self) -> ForeignTokenizer | None:
        return self.model.tokenizer

    @property
    def device(self) -> str:
        return self.model.device

    @property
    def dtype(self) -> str:
        return self.model.dtype

    @property
    def most_tokens(self) -> int | None:
        too_long = self.model.context_length + 1
        return None if keeps_blocks(self.model, too_long) else self.model.context_length

    @property
    def is_linear(self) -> bool:
        return all(layer.kind != "full" for layer in self.model.layers)

    @property
    def block_tokens(self) -> int:
        return self.model.block_tokens

    @cached_property
    def identity(self) -> dict[str, Any]:
        model, found = self.model, self.model.fingerprints
        rotary = library.rotary_of(model.network)
        config = {name: getattr(model.config, name) for name in ("n_layer", "d_model", "vocab_size", "head_dim")}
        return {
            "model": {
                "name": model.name,
                "model_type": model.config.model_type,
                "config": config | {"layer_ratio": 1, "compression_ratio": 1},
                "layers": layers_json(model.layers),
                **({} if rotary is None else {"rotary": rotary}),
                "prefill_fingerprint": found["prefill_fingerprint"],
                "model_fingerprint": found["model_fingerprint"],
            },
            "tokenizer": {"fingerprint": found.get("tokenizer_fingerprint"), "vocab_size": config["vocab_size"]},
            "template": {
                "prefix_fingerprint": model.template.prefix_fingerprint(),
                "fingerprint": model.template.fingerprint(),
            },
        }

    def identity_of(self, token_ids: np.ndarray) -> dict[str, Any]:
        if not keeps_blocks(self.model, len(token_ids)):
            check_length(self.model, len(token_ids))
            return self.identity
        prompt, blocks = planned_blocks(self.model, token_ids)
        return in_blocks(self.identity, prompt, [block.tokens for block in blocks])

    @property
    def numerics(self) -> Numerics:
        model, device = self.model, self.device.partition(":")[0]
        schedule = f"blocks of {model.block_tokens}" if model.schedule == "blocks" else "whole, then steps"
        threads = torch.get_num_threads() if device == "cpu" else None
        versions = f"transformers {model.library_version}, torch {torch.__version__}"
        return Numerics(device, model.dtype, schedule, threads, versions)

    def difference(self, numerics: Numerics, *, packing: bool = True) -> tuple[str, str, str] | None:
        return difference_between(numerics, self.numerics, packing=packing, library=True)

    def document(self, text: str) -> Prompt:
        tokenizer = self.model.tokenizer
        if tokenizer is None:
            raise TokenizerError("this model has no tokenizer, so it cannot read text")
        ids, own = document_ids(tokenizer, self.model.template, text)
        return Prompt(np.array(ids, dtype=np.int64), own)

    def question(self, text: str, *, raw: bool = False) -> list[int]:
        return question_tokens(self.model, text, raw=raw)

    def plan_checkpoints(self, tokens: int, wanted: str | None) -> list[int]:
        if keeps_blocks(self.model, tokens):
            return []  # each block is one to resume from
        return planned_positions(self.model.config, self.dtype, tokens, wanted)

    def can_continue(self) -> bool:
        return self.model.schedule == "blocks"

    def reusable_tokens(
        self, base: ForeignCache | None, token_ids: np.ndarray, lenders: Sequence[ForeignCache] = ()
    ) -> int:
        return reusable_tokens(self.model, base, token_ids, lenders)

    def block_keys(self, token_ids: np.ndarray) -> list[bytes]:
        if not keeps_blocks(self.model, len(token_ids)):
            return []
        prompt, blocks = planned_blocks(self.model, token_ids)
        return block_keys(prompt, [block.tokens for block in blocks])

    def prefill_from(
        self,
        start: Start,
        token_ids: np.ndarray,
        *,
        document_range: tuple[int, int] | None = None,
        source: dict[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> ForeignCache:
        if start.form.coding.is_lossy:
            check(self.identity_of(token_ids), start.form)
            start = replace(start, form=replace(start.form, coding=self.in_basis(start.form.coding)))
        cache = prefill_from(
            start, self.model, token_ids, identity=self.identity, numerics=self.numerics, progress=progress,
            document_range=document_range or (0, len(token_ids)), source=source,
        )  # fmt: skip
        return self.coded(cache, start.form)

    def prefill(
        self, prompt: Prompt, *, source: dict[str, Any] | None = None, progress: Progress | None = None
    ) -> ForeignCache:
        span = prompt.document_range
        return self.prefill_from(Start(), prompt.token_ids, document_range=span, source=source, progress=progress)

    def coded(self, cache: ForeignCache, form: Form) -> ForeignCache:
        if form.dropping is not None:
            cache = dropped(self.model, cache, form.dropping)
        return coded(cache, replace(form, coding=self.in_basis(form.coding)))

    def obstacle_to_basis(self) -> str | None:
        return obstacle_to_basis(self.model)

    def in_basis(self, coding: gfcache.Coding) -> gfcache.Coding:
        return replace(coding, basis=basis_of(self.model).digest) if coding.needs_basis else coding

    def obstacle_to_dropping(self, policy: str, token_ids: np.ndarray | None = None) -> str | None:
        return obstacle_to_dropping(self.model, policy, token_ids)

    def chooser(self, cache: ForeignCache, policy: str) -> ForeignChooser:
        check_droppable(self.model, cache, Dropping(policy, 0.5))
        return ForeignChooser(self.model, cache, policy)

    def dropped(self, cache: ForeignCache, dropping: Dropping, chooser: Any = None) -> ForeignCache:
        return dropped(self.model, cache, dropping, chooser)

    def save(self, cache: ForeignCache, path: Path) -> None:
        cache.save(path)

    def open(self, path: Path, *, asking: bool = False) -> ForeignCache:
        with gfcache.read_cache(path) as file:
            return self.read(file, asking=asking)

    def read(self, file: gfcache.CacheFile, *, asking: bool = False) -> ForeignCache:
        stored, own = file.header.compute_dtype, self.identity
        same = file.header.model["model_fingerprint"] == own["model"]["model_fingerprint"]
        if same and stored != self.dtype:  # before the shapes, which name the dtypes of states
            raise CacheMismatch(
                "numerics.compute_dtype", str(stored), self.dtype, hint="leave out --dtype to use that of the cache"
            )
        check_identity(file.header, own)
        offer_kept(self.model, {section.basis for section in file.header.sections})
        return unpack(file, device=torch.device(self.device), tokenizer=self.tokenizer, asking=asking)

    def session(
        self,
        cache: ForeignCache,
        *,
        memory_bytes: int | None = None,
        read: str | Chosen = AUTO,
        read_blocks: int | None = None,
    ) -> ForeignSession:
        return ForeignSession(self.model, cache, read=read, read_blocks=read_blocks)

    def ask_many(
        self,
        session: ForeignSession,
        questions: Sequence[str],
        *,
        raw: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> list[Answer]:
        return ask_many(session, questions, raw=raw, **sampling)

    def answer_together(self, session: ForeignSession, questions: Sequence[Question]) -> Iterator[list[Step]]:
        return in_turns(questions, session.answering)

    def cite(
        self, session: ForeignSession, question: str, answer_ids: Sequence[int], *, raw: bool = False
    ) -> list[Citation]:
        return cite(session, question, answer_ids, raw=raw)

    def replay(self, cache: ForeignCache, *, share: float = 1.0, seed: int | None = None) -> ReplayReport:
        alike = ForeignEngine(replace(self.model, layout=WHOLE if cache.blocks is None else BLOCKS))
        again = alike.prefill_from(start_of(cache), cache.token_ids)
        exact, dropping = self.difference(cache.numerics) is None, Dropping.of(cache.numerics.dropping)
        if cache.kept is not None:
            if exact and dropping is not None:
                where = differing(ForeignChooser(self.model, again, dropping.policy).kept(dropping.keep), cache.kept)
                if where is not None:
                    other = f"kept_positions of {where} are not those that {dropping} keeps"
                    return ReplayReport(cache.length, 1, exact, other)
            again = without(again, cache.kept, dropping or Dropping("unknown", 0.5))
        rounded = (
            replace(again, state=rounded_rows(again, cache.row_parts, cache.numerics.rows_basis))
            if cache.row_parts
            else again
        )
        return compared(again, rounded, cache, exact=exact)
