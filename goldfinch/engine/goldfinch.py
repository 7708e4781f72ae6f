"""Our models as an engine; torch is loaded by those of its methods that need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import gfcache
import numpy as np

from goldfinch.caching.document_cache import DocumentCache, cache_in, open_cache
from goldfinch.caching.identity import identity_of
from goldfinch.caching.kept import check_droppable, dropped, formed, obstacle_to_dropping
from goldfinch.caching.numerics import Numerics, file_dtype, numerics_difference, numerics_of
from goldfinch.caching.row_parts import Form
from goldfinch.errors import ModelRefused
from goldfinch.policies.base import Chosen
from goldfinch.policies.dropping.named import Dropping
from goldfinch.policies.named import AUTO
from goldfinch.text.prompt import check_reads_text, document_prompt, question_token_ids, template_of

from .answer import Answer, Question, Step
from .base import Progress, Prompt, ReplayReport, Start
from .checkpoints import library_checkpoints, plan_checkpoints, reusable_tokens
from .prefill import prefill_from
from .sampling import SamplingOptions
from .session import DEFAULT_MEMORY_BYTES, Session

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel
    from goldfinch.policies.dropping.choosing import Chooser

    from .cite import Citation


class GoldFinchEngine:
    """A model of ours behind the protocol; contract of each method in `base.Engine`.

    Args:
        model: with its executor.
    """

    most_tokens = None

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    @property
    def card(self) -> Any:
        return self.model.card

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def device(self) -> str:
        return str(self.model.device)

    @property
    def dtype(self) -> str:
        return file_dtype(self.model.dtype)

    @property
    def block_tokens(self) -> int:
        return self.model.executor.block_tokens

    @property
    def trained_tokens(self) -> int | None:
        return self.model.config.context_length

    @property
    def packing_obstacle(self) -> str | None:
        return self.model.executor.packing_obstacle

    @property
    def is_linear(self) -> bool:
        return self.model.config.n_prefill == self.model.config.n_finch

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of(self.model)

    def identity_of(self, token_ids: np.ndarray) -> dict[str, Any]:
        return self.identity

    @property
    def numerics(self) -> Numerics:
        return numerics_of(self.model)

    def difference(self, numerics: Numerics, *, packing: bool = True) -> tuple[str, str, str] | None:
        return numerics_difference(numerics, self.model, packing=packing)

    def plan_checkpoints(self, tokens: int, wanted: str | None) -> list[int]:
        config, element_bytes = self.model.config, self.model.element_bytes
        if wanted is None:
            return library_checkpoints(config, tokens, element_bytes, self.block_tokens)
        return plan_checkpoints(config, tokens, wanted, element_bytes, self.block_tokens)

    def can_continue(self) -> bool:
        return self.is_linear  # a layer that attends to all rows has no state

    def reusable_tokens(
        self, base: DocumentCache | None, token_ids: np.ndarray, lenders: Sequence[DocumentCache] = ()
    ) -> int:
        return 0 if base is None else reusable_tokens(base, token_ids, self.block_tokens)

    def block_keys(self, token_ids: np.ndarray) -> list[bytes]:
        return []

    def document(self, text: str) -> Prompt:
        check_reads_text(self.model)
        ids, own = document_prompt(self.model.tokenizer, template_of(self.model), text)
        return Prompt(np.array(ids, np.int64), own)

    def question(self, text: str, *, raw: bool = False) -> list[int]:
        return question_token_ids(self.model, text, raw=raw)

    def prefill(
        self, prompt: Prompt, *, source: dict[str, Any] | None = None, progress: Progress | None = None
    ) -> DocumentCache:
        span = prompt.document_range
        return self.prefill_from(Start(), prompt.token_ids, document_range=span, source=source, progress=progress)

    def prefill_from(
        self,
        start: Start,
        token_ids: np.ndarray,
        *,
        document_range: tuple[int, int] | None = None,
        source: dict[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> DocumentCache:
        ids = self.model.row_of(token_ids)
        return prefill_from(start, self.model, ids, document_range=document_range, source=source, progress=progress)

    def coded(self, cache: DocumentCache, form: Form) -> DocumentCache:
        return formed(self.model, cache, form)

    def obstacle_to_basis(self) -> str | None:
        return "only models of others have one"

    def in_basis(self, coding: gfcache.Coding) -> gfcache.Coding:
        if coding.needs_basis:
            raise ModelRefused(f"{coding.rows} needs a basis: {self.obstacle_to_basis()}", hint="choose step3, or int8")
        return coding

    def obstacle_to_dropping(self, policy: str, token_ids: np.ndarray | None = None) -> str | None:
        return obstacle_to_dropping(self.model, policy)

    def chooser(self, cache: DocumentCache, policy: str) -> Chooser:
        from goldfinch.policies.dropping.choosing import Chooser

        check_droppable(self.model, cache, Dropping(policy, 0.5))
        return Chooser(self.model, cache.ids_on(self.model.device), policy)

    def dropped(self, cache: DocumentCache, dropping: Dropping, chooser: Any = None) -> DocumentCache:
        return dropped(self.model, cache, dropping, chooser)

    def save(self, cache: DocumentCache, path: Path) -> None:
        cache.save(path)

    def open(self, path: Path, *, asking: bool = False) -> DocumentCache:
        return open_cache(path, self.model, asking=asking)

    def read(self, file: gfcache.CacheFile, *, asking: bool = False) -> DocumentCache:
        return cache_in(file, self.model, asking=asking)

    def session(
        self,
        cache: DocumentCache,
        *,
        memory_bytes: int | None = None,
        read: str | Chosen = AUTO,
        read_blocks: int | None = None,
    ) -> Session:
        most = DEFAULT_MEMORY_BYTES if memory_bytes is None else memory_bytes
        return Session(self.model, cache, memory_bytes=most, read=read, read_blocks=read_blocks)

    def ask_many(
        self, session: Session, questions: Sequence[str], *, raw: bool = False, **sampling: Unpack[SamplingOptions]
    ) -> list[Answer]:
        from .batch_decode import ask_many

        return ask_many(session, questions, raw=raw, **sampling)

    def answer_together(self, session: Session, questions: Sequence[Question]) -> Iterator[list[Step]]:
        from .batch_decode import answer_together

        return answer_together(session, questions)

    def cite(self, session: Session, question: str, answer_ids: Sequence[int], *, raw: bool = False) -> list[Citation]:
        from .cite import cite

        return cite(session, question, answer_ids, raw=raw)

    def replay(self, cache: DocumentCache, *, share: float = 1.0, seed: int | None = None) -> ReplayReport:
        from .replay import replay_cache

        return replay_cache(self.model, cache, share=share, seed=seed)
