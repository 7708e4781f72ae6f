"""What stands behind a command: an engine takes a document in, leaves a cache, and answers from the cache.

Notation: T tokens.

Our models answer to this protocol (`goldfinch.py`), and models of others can. What crosses it are numpy arrays, plain
values and records of them; what a cache holds is the engine's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from goldfinch.caching.numerics import Numerics
from goldfinch.policies.base import Chosen
from goldfinch.policies.named import AUTO

from .answer import Answer, Usage

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


class Asking(Protocol):
    """Questions to one cached document."""

    last_usage: Usage

    def ask(self, question: str, *, raw: bool = False, **sampling: Any) -> Answer:
        """The whole answer.

        Args:
            question: with `raw`, text to continue, without the prompt template.
            **sampling: fields of `Sampling`.
        """

    def stream(self, question: str, *, raw: bool = False, **sampling: Any) -> Iterator[str]:
        """The answer in pieces of text, as they become certain."""


class Engine(Protocol[Cache]):
    """A model that pre-fills documents and answers from their caches."""

    @property
    def identity(self) -> dict[str, Any]:
        """What its caches belong to: fingerprints of model, tokenizer and template, as headers hold them."""

    @property
    def numerics(self) -> Numerics:
        """How it computes here and now."""

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

    def save(self, cache: Cache, path: Path) -> None:
        """Write a cache to a file, whole or not at all."""

    def open(self, path: Path) -> Cache:
        """Read a cache; refuses one that is damaged (gfcache's errors) or belongs elsewhere (CacheMismatch)."""

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
