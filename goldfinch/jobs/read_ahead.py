"""Documents read ahead of their turn: tokenised while a GPU computes others, and packed with others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

from goldfinch.devices import synchronize
from goldfinch.library.making import Made
from goldfinch.library.opening import Model, engine_of

from .events import DETAIL, NOTE, WARNING, Remark, Tell
from .job import Job

# Documents tokenised ahead, and the threads that do it (the tokenizer lets go of the interpreter).
AHEAD = 8
THREADS = 4
# Most characters of documents held while a pack fills up, and most documents in it, fresh ones included.
HELD_CHARACTERS = 1 << 26
LONGEST_PACK = 1024


def in_turn(
    jobs: Iterable[Job],
    prepare: Callable[[Job], bool],
    tokenise: Callable[[Job], None],
    tell: Tell,
    ahead: int = AHEAD,
) -> Generator[Job, None, None]:
    """The jobs in order, each read and, if there is anything to compute, tokenised.

    Whatever is wrong with a document comes to light when its turn comes: what has failed here is tried again then.

    Args:
        prepare: reads a document and says whether it is to be computed.
        tokenise: fills in its tokens; called in another thread.
        ahead: documents that may be read before their turn; 0 for none.
    """
    waiting: deque[tuple[Job, Future[None] | None]] = deque()
    with _threads(THREADS if ahead else 1) as threads:
        for job in jobs:
            waiting.append((job, _begin(job, prepare, tokenise, tell, threads)))
            if len(waiting) > ahead:
                yield _ended(*waiting.popleft())
        while waiting:
            yield _ended(*waiting.popleft())


@contextmanager
def _threads(count: int) -> Iterator[Executor]:
    """Threads whose waiting work is dropped when the run ends early."""
    threads = ThreadPoolExecutor(count)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


def _begin(
    job: Job, prepare: Callable[[Job], bool], tokenise: Callable[[Job], None], tell: Tell, threads: Executor
) -> Future[None] | None:
    try:
        return threads.submit(tokenise, job) if prepare(job) else None
    except Exception as error:
        tell(Remark(DETAIL, f"{job.source.name}: not read ahead: {error}"))
        return None


def _ended(job: Job, tokens: Future[None] | None) -> Job:
    if tokens is not None:
        with suppress(Exception):
            tokens.result()
    return job


def in_packs(
    jobs: Iterable[Job], most_tokens: int, model: Callable[[], Model], tell: Tell
) -> Generator[Job, None, None]:
    """The jobs in order, the short ones among them computed together, up to `most_tokens` at a time.

    Args:
        jobs: tokenised where there is anything to compute.
        model: called when the first of them is to be computed.
    """
    pack: list[Job] = []
    longest = tokens = held = 0
    for job in jobs:
        if job.tokens == 0 and not pack:  # nothing to compute, nothing to wait for
            yield job
            continue
        if job.tokens and longest == 0:
            obstacle = engine_of(model()).packing_obstacle
            if obstacle is not None:
                tell(Remark(NOTE, f"documents are not packed: {obstacle}"))
                yield job
                yield from jobs
                return
            longest = min(most_tokens, engine_of(model()).block_tokens)
        count = job.tokens if job.tokens <= longest else 0
        characters = 0 if job.document is None else len(job.document.text)
        if tokens + count > most_tokens or held + characters > HELD_CHARACTERS or len(pack) == LONGEST_PACK:
            yield from _computed(pack, longest, model, tell)
            pack, tokens, held = [], 0, 0
        pack.append(job)
        tokens, held = tokens + count, held + characters
    yield from _computed(pack, longest, model, tell)


def _computed(pack: list[Job], longest: int, model: Callable[[], Model], tell: Tell) -> list[Job]:
    """The jobs of a pack with their caches; one by one in their turns when memory does not suffice for all."""
    together = [job for job in pack if 0 < job.tokens <= longest]
    if len(together) < 2:
        return pack
    from goldfinch.engine import packed_prefill  # torch's; nothing is packed without

    units = []
    for job in together:
        assert job.token_ids is not None
        units.append(packed_prefill.Unpacked.of(job.token_ids, job.document_range, job.read.source))
    started = time.perf_counter()
    try:
        caches = packed_prefill.prefill_packed(model(), units)
    except Exception as error:  # whatever it is, a document that has the fault fails alone in its turn
        tell(Remark(WARNING, f"computing the {len(units)} documents one by one", error))
        return pack
    synchronize(model().device)
    seconds = (time.perf_counter() - started) / sum(cache.length for cache in caches)
    for job, cache in zip(together, caches, strict=True):
        job.made, job.seconds, job.checkpoints = Made(cache, 0, None), seconds * cache.length, "none"
    return pack
