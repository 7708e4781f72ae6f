"""Documents read ahead of their turn: tokenised while a GPU computes others, and packed with others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from goldfinch.documents import Document

from .console import console
from .documents import read_document
from .sources import Source

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from goldfinch.cache import DocumentCache

    from .prefill_batch import Batch

    Tokens = tuple[Tensor, tuple[int, int]]

# Documents tokenised ahead, and the threads that do it (the tokenizer lets go of the interpreter).
AHEAD = 8
THREADS = 4
# Most characters of documents held while a pack fills up.
HELD_CHARACTERS = 1 << 26


@dataclass
class Task:
    """A document of the run.

    Attributes:
        source: where it is.
        document: as read, when that happened ahead of its turn.
        path: its cache file, once that is decided; None in the library.
        tokens: of a document read ahead that is to be computed: ids (1, T) and the document's own range.
        computed: its cache and the seconds of its share, when it was computed with others.
    """

    source: Source
    document: Document | None = None
    path: Path | None = None
    tokens: Future[Tokens] | None = None
    computed: tuple[DocumentCache, float] | None = None

    @property
    def count(self) -> int:
        """Tokens, 0 when they are unknown: then something is wrong, which its turn will bring to light."""
        if self.tokens is None or self.tokens.exception() is not None:
            return 0
        return self.tokens.result()[0].shape[1]


def in_turn(batch: Batch) -> Iterator[Task]:
    """The documents one by one; on another device than the CPU the next ones are tokenised meanwhile."""
    if not batch.overlaps:
        yield from (Task(source) for source in batch.sources.documents)
        return
    waiting: deque[Task] = deque()
    with ThreadPoolExecutor(THREADS) as threads:
        for source in batch.sources.documents:
            waiting.append(_read(batch, source, threads))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting


def in_packs(batch: Batch, most_tokens: int) -> Iterator[Task]:
    """The documents in order, the short ones among them computed together, up to `most_tokens` at a time."""
    from goldfinch.packing import most_packed_tokens

    longest = min(most_tokens, most_packed_tokens(batch.model))
    pack: list[Task] = []
    tokens = held = 0
    for task in in_turn(batch) if batch.overlaps else _read_all(batch):
        count = task.count if task.count <= longest else 0
        characters = 0 if task.document is None else len(task.document.text)
        if tokens + count > most_tokens or held + characters > HELD_CHARACTERS:
            yield from _computed(batch, pack, longest)
            pack, tokens, held = [], 0, 0
        pack.append(task)
        tokens, held = tokens + count, held + characters
    yield from _computed(batch, pack, longest)


def _read_all(batch: Batch) -> Iterator[Task]:
    with ThreadPoolExecutor(1) as thread:
        for source in batch.sources.documents:
            yield _read(batch, source, thread)


def _read(batch: Batch, source: Source, threads: Executor) -> Task:
    """A task whose tokens are on their way, if there is anything to compute.

    Whatever is wrong with the document is said when its turn comes.
    """
    from goldfinch import document_token_ids

    task = Task(source)
    try:
        document = read_document(source.name)
        if not batch.plan.library:
            task.path = batch.output_path(document, source)
        if not batch.is_fresh(document, task.path):
            task.tokens = threads.submit(document_token_ids, batch.model, document.text)
            task.document = document
    except Exception as error:
        console.detail(f"{source.name}: not read ahead: {error}")
    return task


def _computed(batch: Batch, pack: list[Task], longest: int) -> list[Task]:
    """The tasks of a pack with their caches; one by one in their turns when memory does not suffice for all."""
    from goldfinch.errors import DeviceError
    from goldfinch.packing import Unpacked, prefill_packed

    together = [task for task in pack if 0 < task.count <= longest]
    if len(together) < 2:
        return pack
    units = []
    for task in together:
        assert task.document is not None
        assert task.tokens is not None
        units.append(Unpacked(*task.tokens.result(), task.document.source))
    started = time.perf_counter()
    try:
        caches = prefill_packed(batch.model, units)
    except DeviceError as error:
        console.warn(f"{error}: the {len(units)} documents are computed one by one")
        return pack
    seconds = (time.perf_counter() - started) / sum(cache.length for cache in caches)
    for task, cache in zip(together, caches, strict=True):
        task.computed = cache, seconds * cache.length
    return pack
