"""What a command stands on: an engine takes a document in, leaves a cache, and answers from the cache.

Notation: T tokens.

Our models answer to this protocol (`goldfinch.py`), and models of others (`goldfinch.foreign.running.engine`). What
crosses it are numpy arrays and plain values: nothing here knows torch. What a cache holds besides is the engine's own;
`library.opening.engine_of` gives the engine of a loaded model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

import gfcache
import numpy as np

from goldfinch.caching.numerics import Numerics
from goldfinch.caching.row_parts import PLAIN, Form
from goldfinch.policies.dropping.named import Dropping
from goldfinch.policies.named import AUTO

if TYPE_CHECKING:
    from goldfinch.caching.journal import Journal
    from goldfinch.policies.base import Chosen

    from .answer import Answer, Question, Step, Usage
    from .sampling import SamplingOptions

# Called with (tokens done, T).
Progress = Callable[[int, int], None]
# What an engine keeps of a document.
Cache = TypeVar("Cache")


@dataclass(frozen=True, eq=False)
class Prompt:
    """A document as an engine reads it.

    Attributes:
        token_ids: (T,) int64, with what the prompt template puts before the document.
        document_range: (start, end) of the document's own tokens.
    """

    token_ids: np.ndarray
    document_range: tuple[int, int]


@dataclass(frozen=True)
class Start:
    """Where a prefill starts and what it leaves on its way.

    Attributes:
        base: a cache of the engine that computes, whose document begins alike: what its checkpoints allow is taken over
            instead of recomputed; None for nothing.
        base_tokens: most tokens to take over from it; all that both share by default.
        checkpoints: positions, whole blocks below T, to keep a checkpoint at.
        journal: notes the way, so that a killed run can go on.
        form: that of its file: the cache passes the rounding at the end.
        lenders: other caches of the engine, whose blocks are taken over wherever they stand.
    """

    base: Any = None
    base_tokens: int | None = None
    checkpoints: tuple[int, ...] = ()
    journal: Journal | None = None
    form: Form = PLAIN
    lenders: tuple[Any, ...] = ()


class Asking(Protocol):
    """Questions to one cached document."""

    last_usage: Usage

    @property
    def expanded_bytes(self) -> int:
        """What it holds now besides the cache, to answer faster."""

    @property
    def question_bytes(self) -> int:
        """What a question under way takes, estimated."""

    def ask(self, question: str, *, raw: bool = False, **sampling: Unpack[SamplingOptions]) -> Answer:
        """The whole answer.

        Args:
            question: with `raw`, text to continue, without the prompt template.
            **sampling: fields of `Sampling`.
        """

    def stream(self, question: str, *, raw: bool = False, **sampling: Unpack[SamplingOptions]) -> Iterator[str]:
        """The answer in pieces of text, as they become certain."""


class Engine(Protocol[Cache]):
    """A model that pre-fills documents and answers from their caches.

    Attributes:
        model: as it was loaded.
        trained_tokens: the longest documents that it was trained on; None where longer ones are refused.
        most_tokens: the longest that it takes; None where it takes any.
        packing_obstacle: why it cannot compute several documents together, or None.
        is_linear: whether the time of a prefill grows with the document's length; else with the square of it, in the
            end, for every token is compared with all before it.
    """

    model: Any

    @property
    def trained_tokens(self) -> int | None: ...

    @property
    def most_tokens(self) -> int | None: ...

    @property
    def packing_obstacle(self) -> str | None: ...

    @property
    def is_linear(self) -> bool: ...

    @property
    def card(self) -> Any:
        """The `ModelCard` of its directory; None for a model without one."""

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, or None."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda", "cuda:N"."""

    @property
    def dtype(self) -> str:
        """Compute dtype: "f32", "bf16", "f64"."""

    @property
    def block_tokens(self) -> int:
        """What one step of a prefill holds: positions to resume from are multiples of it."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its caches belong to: fingerprints of model, tokenizer and template, as headers hold them."""

    def identity_of(self, token_ids: np.ndarray) -> dict[str, Any]:
        """The identity as the header of a document (T,) will hold it: it may say in which parts it is kept."""

    @property
    def numerics(self) -> Numerics:
        """How it computes here and now."""

    def difference(self, numerics: Numerics, *, packing: bool = True) -> tuple[str, str, str] | None:
        """(field, value of a cache, value here) of the first numerics that change the bits, None if none does.

        Args:
            packing: count being packed with other documents as a difference.
        """

    def plan_checkpoints(self, tokens: int, wanted: str | None) -> list[int]:
        """Positions of checkpoints for a document.

        Args:
            tokens: T.
            wanted: "none", "auto", or a number of tokens; None for a document of the library.

        Raises:
            GoldFinchError: not one of these, or too many.
        """

    def can_continue(self) -> bool:
        """Whether a document can be computed after another one's cache (`--base`)."""

    def reusable_tokens(self, base: Cache | None, token_ids: np.ndarray, lenders: Sequence[Cache] = ()) -> int:
        """Tokens that a prefill of token_ids (T,) would take over from `base`, or its lenders, instead of computing."""

    def block_keys(self, token_ids: np.ndarray) -> list[bytes]:
        """What identifies each block of a document (T,) that is kept in blocks (`gfcache.format.lenders`); none of a
        whole one."""

    def document(self, text: str) -> Prompt:
        """The tokens of a document; TokenizerError without a tokenizer, EmptyInput for an empty text."""

    def question(self, text: str, *, raw: bool = False) -> list[int]:
        """The tokens of a question in the prompt template, as it is when `raw`."""

    def prefill(
        self, prompt: Prompt, *, source: dict[str, Any] | None = None, progress: Progress | None = None
    ) -> Cache:
        """The cache of a document.

        Args:
            prompt: from `document`.
            source: provenance for the file.
        """

    def prefill_from(
        self,
        start: Start,
        token_ids: np.ndarray,
        *,
        document_range: tuple[int, int] | None = None,
        source: dict[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Cache:
        """The cache of a document from what there is already.

        Args:
            token_ids: (T,) int64.
            document_range: (start, end) of the document's own tokens; all of them by default.
        """

    def coded(self, cache: Cache, form: Form) -> Cache:
        """A cache as a file of that form will give it back, rows dropped and values rounded.

        Raises:
            ModelRefused: the values of this model's caches are not to be rounded, or its rows dropped.
            GoldFinchError: rows of this cache cannot be dropped.
        """

    def obstacle_to_basis(self) -> str | None:
        """Why no codec of keys and values has a basis of this model, None where one can."""

    def in_basis(self, coding: gfcache.Coding) -> gfcache.Coding:
        """The same with the model's basis named, where its codec needs one, which is made where there is none.

        Raises:
            ModelRefused: the model can have none.
            ModelDamaged: a file in its place that is none.
        """

    def obstacle_to_dropping(self, policy: str, token_ids: np.ndarray | None = None) -> str | None:
        """Why a policy (`policies.dropping.named`) drops no rows of caches of this model, None where it can.

        Args:
            token_ids: (T,) of the document, where it is known.
        """

    def chooser(self, cache: Cache, policy: str) -> Any:
        """Who chooses rows of a document, for several shares to keep: what the policy sees of it is computed once.

        Raises:
            GoldFinchError: rows of this cache cannot be dropped.
        """

    def dropped(self, cache: Cache, dropping: Dropping, chooser: Any = None) -> Cache:
        """A cache without the rows that a policy drops, nothing rounded; the cache itself where it keeps all.

        Args:
            cache: as computed, all rows.
            chooser: of this document and policy, where there is one already.

        Raises:
            GoldFinchError: rows of this cache cannot be dropped.
        """

    def save(self, cache: Cache, path: Path) -> None:
        """Write a cache to a file, whole or not at all."""

    def open(self, path: Path, *, asking: bool = False) -> Cache:
        """Read a cache; refuses one that is damaged (gfcache's errors) or belongs elsewhere (CacheMismatch).

        Args:
            asking: for questions alone: checkpoints, and what no question asks for, may stay in the file.
        """

    def read(self, file: gfcache.CacheFile, *, asking: bool = False) -> Cache:
        """The cache in an open file; as `open`."""

    def session(
        self,
        cache: Cache,
        *,
        memory_bytes: int | None = None,
        read: str | Chosen = AUTO,
        read_blocks: int | None = None,
    ) -> Asking:
        """Ask a cache.

        Args:
            memory_bytes: what may be held besides, to answer faster; the engine's own default by default.
            read: the reading policy (`policies.named.POLICIES`), or blocks that are chosen already.
            read_blocks: how many blocks the policy reads.
        """

    def ask_many(
        self, session: Any, questions: Sequence[str], *, raw: bool = False, **sampling: Unpack[SamplingOptions]
    ) -> list[Answer]:
        """Answers to several questions about one document, in their order.

        Args:
            session: of `session`.
            questions, raw, **sampling: as `Asking.ask` takes them.
        """

    def answer_together(self, session: Any, questions: Sequence[Question]) -> Iterator[list[Step]]:
        """Answers to several questions about one document, step by step, each a token further.

        Args:
            session: of `session`.
            questions: few enough to be held at once (`batch_decode.MOST_ROWS`). What one of them fails at stands in
                its step.
        """

    def cite(self, session: Any, question: str, answer_ids: Sequence[int], *, raw: bool = False) -> list[Any]:
        """The lines that were read most for an answer, as `cite.cite` gives them.

        Raises:
            GoldFinchError: this model cannot tell.
        """

    def replay(self, cache: Cache, *, share: float = 1.0, seed: int | None = None) -> ReplayReport:
        """Compute tokens again and compare; arguments as of `replay.replay_cache`."""


@dataclass(frozen=True)
class ReplayReport:
    """What a replay found.

    Attributes:
        tokens, windows: how much was recomputed.
        exact: equality was demanded bit for bit.
        difference: the first difference in words, or None.
    """

    tokens: int
    windows: int
    exact: bool
    difference: str | None
