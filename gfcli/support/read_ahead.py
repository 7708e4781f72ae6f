"""Documents read ahead of their turn: tokenised while a GPU computes others, and packed with others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from goldfinch.jobs.sources import Source
from goldfinch.text.documents import Document

from .console import console
from .documents import read_document
from .exits import describe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from goldfinch.caching.document_cache import DocumentCache

    from .batch import Batch

    Tokens = tuple[Tensor, tuple[int, int]]

# Documents tokenised ahead, and the threads that do it (the tokenizer lets go of the interpreter).
AHEAD = 8
THREADS = 4
# Most characters of documents held while a pack fills up, and most documents in it, fresh ones included.
HELD_CHARACTERS = 1 << 26
LONGEST_PACK = 1024


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


def in_turn(batch: Batch) -> Generator[Task, None, None]:
    """The documents one by one; on another device than the CPU the next ones are tokenised meanwhile."""
    if not batch.overlaps:
        yield from (Task(source) for source in batch.sources.documents)
        return
    waiting: deque[Task] = deque()
    with _threads(THREADS) as threads:
        for source in batch.sources.documents:
            waiting.append(_read(batch, source, threads))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting


@contextmanager
def _threads(count: int) -> Iterator[Executor]:
    """Threads whose waiting work is dropped when the run ends early."""
    threads = ThreadPoolExecutor(count)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def in_packs(batch: Batch, most_tokens: int) -> Generator[Task, None, None]:
    """The documents in order, the short ones among them computed together, up to `most_tokens` at a time."""
    from goldfinch.engine.packed_prefill import most_packed_tokens

    pack: list[Task] = []
    longest = tokens = held = 0
    with closing(in_turn(batch) if batch.overlaps else _read_all(batch)) as read:
        for task in read:
            if task.tokens is None and not pack:  # nothing to compute, nothing to wait for
                yield task
                continue
            if task.tokens is not None and longest == 0:
                if not batch.can_pack():
                    yield task
                    yield from (replace(left, tokens=None) for left in read)
                    return
                longest = min(most_tokens, most_packed_tokens(batch.model))
            count = task.count if task.count <= longest else 0
            characters = 0 if task.document is None else len(task.document.text)
            if tokens + count > most_tokens or held + characters > HELD_CHARACTERS or len(pack) == LONGEST_PACK:
                yield from _computed(batch, pack, longest)
                pack, tokens, held = [], 0, 0
            pack.append(task)
            tokens, held = tokens + count, held + characters
        yield from _computed(batch, pack, longest)


def _read_all(batch: Batch) -> Generator[Task, None, None]:
    with _threads(1) as thread:
        for source in batch.sources.documents:
            yield _read(batch, source, thread)


def _read(batch: Batch, source: Source, threads: Executor) -> Task:
    """A task whose tokens are on their way, if there is anything to compute.

    Whatever is wrong with the document is said when its turn comes.
    """
    from goldfinch import document_token_ids

    task = Task(source)
    try:
        # Kept whatever follows: standard input cannot be read again.
        task.document = document = read_document(source)
        if not batch.plan.library:
            task.path = batch.output_path(document, source)
        if not batch.is_fresh(document, task.path):
            task.tokens = threads.submit(document_token_ids, batch.model, document.text)
    except Exception as error:
        console.detail(f"{source.name}: not read ahead: {error}")
    return task


def _computed(batch: Batch, pack: list[Task], longest: int) -> list[Task]:
    """The tasks of a pack with their caches; one by one in their turns when memory does not suffice for all."""
    from goldfinch.devices import synchronize
    from goldfinch.engine.packed_prefill import Unpacked, prefill_packed

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
    except Exception as error:  # whatever it is, a document that has the fault fails alone in its turn
        console.warn(f"{describe(error)[0]}: the {len(units)} documents are computed one by one")
        return pack
    synchronize(batch.model.device)
    seconds = (time.perf_counter() - started) / sum(cache.length for cache in caches)
    for task, cache in zip(together, caches, strict=True):
        task.computed = cache, seconds * cache.length
    return pack
