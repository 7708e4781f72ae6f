"""A job: one document on its way from its source to its cache file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
from gfcache import Coding

from goldfinch.caching.journal import EVERY_S, Journal
from goldfinch.caching.numerics import check_parent_dtype
from goldfinch.caching.row_parts import LOSSLESS, PLAIN, Form
from goldfinch.devices import synchronize
from goldfinch.errors import BaseNotRecurrent, BaseTooDeep, BaseTooShort, BaseWithoutPosition, GoldFinchError
from goldfinch.library.changes import Changed, appended, base_of, changed_source, document_token_ids
from goldfinch.library.known import MADE, is_verified, note
from goldfinch.library.making import Made, length_remark, make_cache, where_to_start
from goldfinch.library.opening import Model, engine_of
from goldfinch.measure.choosing import Bounds, check_measurable, measured
from goldfinch.measure.profile import Stopwatch, note_run
from goldfinch.policies.dropping.named import Dropping
from goldfinch.text.documents import Document

from .events import NOTE, WARNING, Progress, Remark, Report, Tell, tell_nobody
from .outputs import check_not_base
from .sources import Source


@dataclass
class Job:
    """One document on its way; each step fills in what it finds out. It pickles as long as no cache is in it.

    Attributes:
        source: where the document is.
        checkpoints: "none", "auto" or a number of tokens (`plan_checkpoints`).
        document: as read; None until then.
        path: its cache file; None until decided, and in a library.
        token_ids: (T,) int64 of the whole document, a base included; None until tokenised.
        document_range: (start, end) of the document's own tokens among them.
        bases: caches whose beginning may be taken over.
        parent: the base cache that the file will refer to in place of storing its part, or None.
        parent_tokens: how much of it.
        coding: the codecs of the file; None where any will do, and nothing is rounded.
        dropping: which rows of it are dropped; None for none.
        bounds: what that and its codecs may cost, which is measured; None where it is not.
        made: the computed cache, until it is written.
        seconds: that computing took; until then, to find out that there is nothing to compute.
    """

    source: Source
    checkpoints: str = "auto"
    document: Document | None = None
    path: Path | None = None
    token_ids: np.ndarray | None = None
    document_range: tuple[int, int] = (0, 0)
    bases: tuple[Any, ...] = ()
    parent: Any | None = None
    parent_tokens: int = 0
    coding: Coding | None = None
    dropping: Dropping | None = None
    bounds: Bounds | None = None
    made: Made | None = field(default=None, repr=False)
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """T, 0 until the document is tokenised."""
        return 0 if self.token_ids is None else len(self.token_ids)

    @property
    def read(self) -> Document:
        """The document, which must have been read."""
        assert self.document is not None
        return self.document


def tokenise(job: Job, model: Model, tell: Tell = tell_nobody) -> None:
    """Fill in the tokens of a document, behind its parent or alone; does nothing where they are known.

    Raises:
        EmptyInput, TokenizerError: see `document_token_ids`.
        CacheMismatch: the parent was computed in another dtype.
        BaseNotRecurrent: the model has prefill layers that no base can be continued with.
    """
    if job.token_ids is not None:
        return
    if job.parent is None:
        job.token_ids, job.document_range = document_token_ids(model, job.read.text)
        return
    engine = engine_of(model)
    if not engine.can_continue():
        raise BaseNotRecurrent(job.parent.path, "a base needs a model that can resume from a state on the way")
    check_parent_dtype(job.parent.numerics, engine.dtype)
    if engine.difference(job.parent.numerics) is not None:
        different = "the base cache was computed with other numerics: not bit for bit the result of a cold run"
        tell(Remark(WARNING, different))
    job.token_ids, job.document_range, _ = appended(model, job.parent, job.read.text)


def compute(
    job: Job, model: Model, *, fresh: bool = False, journal_s: float = EVERY_S, tell: Tell = tell_nobody
) -> None:
    """Compute the cache of a job from what its bases, the file in its place or an interrupted run allow.

    The caller holds the lock of that file.

    Args:
        job: with its path; tokenised here where it is not.
        fresh: take over nothing but from its bases.
        journal_s: least seconds between two notes for a run that may be interrupted.

    Raises:
        BaseError: the parent has no position to resume from, or continues too many others.
        the errors of `tokenise` and `prefill`.
    """
    tokenise(job, model, tell)
    assert job.token_ids is not None
    assert job.path is not None
    label = job.read.label
    long = length_remark(label, job.tokens, model)
    if long is not None:
        tell(Remark(WARNING, long))
    started, watch = time.perf_counter(), Stopwatch(str(model.device).partition(":")[0])
    if job.parent is not None:
        job.parent_tokens = _referred_tokens(job, job.parent, model)
    form = Form(job.coding or LOSSLESS, job.parent, job.parent_tokens, job.dropping)
    if job.bounds is not None:
        check_measurable(engine_of(model).identity_of(job.token_ids)["model"])
    _check_droppable(job, model)
    later = job.bounds is not None or job.dropping is not None  # what it loses, it loses when all is computed
    if job.made is not None:  # together with others
        job.made.cache = _rounded(job, model, job.made.cache, form)
        return
    journal = Journal(job.path, journal_s)

    def progress(done: int, total: int) -> None:
        tell(Progress(label, done, total))

    start = where_to_start(
        model,
        job.token_ids,
        job.path,
        checkpoints="none" if job.dropping is not None else job.checkpoints,
        bases=job.bases,
        form=PLAIN if later else form,
        journal=journal,
        fresh=fresh,
    )
    job.made = make_cache(
        start, model, job.token_ids, document_range=job.document_range, source=job.read.source, progress=progress
    )
    synchronize(engine_of(model).device)
    if later:
        job.made.cache = _rounded(job, model, job.made.cache, form)
    if journal.obstacle is not None:
        tell(Remark(WARNING, f"{journal.obstacle}; if interrupted, this run could not have been resumed"))
    job.seconds = time.perf_counter() - started
    note_run(engine_of(model), job.tokens - job.made.tokens_reused, *watch.seconds())


def _check_droppable(job: Job, model: Model) -> None:
    """Refuse before anything is computed what no rows can be dropped of."""
    policy = job.dropping.policy if job.dropping is not None else None if job.bounds is None else job.bounds.policy
    if policy is None:
        return
    reason = engine_of(model).obstacle_to_dropping(policy, job.token_ids)
    if reason is not None:
        raise GoldFinchError(f"rows cannot be dropped: {reason}", hint="another --drop, or none")


def _rounded(job: Job, model: Model, cache: Any, form: Form) -> Any:
    """A cache, nothing of it rounded, as its file will give it back; measured where that is wanted."""
    bounds, path = job.bounds, job.path
    if bounds is None:
        return engine_of(model).coded(cache, form)
    assert path is not None
    return measured(engine_of(model), cache, form, bounds, lambda rounded: rounded.file_bytes(path))


def save(job: Job) -> Report:
    """Write the computed cache and let go of it. May run in another thread, under a lent lock.

    Raises:
        gfcache.CacheWriteError, gfcache.ParentMissing, gfcache.ParentChanged: see `Any.save`.
    """
    assert job.path is not None
    assert job.made is not None
    path, made, tokens = job.path, job.made, job.made.cache.length
    parent = None if job.parent is None else (job.parent, job.parent_tokens)
    job.made = None
    is_own = made.is_own and (job.parent is None or is_verified(job.parent.digest))
    noted = partial(note, how=MADE) if is_own else None
    header = Journal(path).finish(lambda: made.cache.save(path, parent=parent, noted=noted))
    return Report(
        path,
        tokens,
        made.tokens_reused,
        path.stat().st_size,
        job.seconds,
        made.first_changed_token,
        sum(s.stored_bytes for s in header.sections if s.position not in (None, tokens)),
        round(tokens / job.seconds, 1),
    )


def referable_tokens(base: Any, token_ids: np.ndarray, model: Model) -> int:
    """Tokens of a base that a file of token_ids (T,) can leave to it: fewer than T, for it has some of its own."""
    return engine_of(model).reusable_tokens(base, token_ids[:-1])


def _referred_tokens(job: Job, base: Any, model: Model) -> int:
    assert job.token_ids is not None
    assert base.path is not None
    path, block = base.path, engine_of(model).block_tokens
    shared = referable_tokens(base, job.token_ids, model)
    if shared == 0 and base.length < block:
        raise BaseTooShort(path, f"{path} has {base.length:,} tokens, a base needs {block:,} or more", block)
    if shared == 0:
        raise BaseWithoutPosition(path, f"{path} holds no position to resume from", block)
    most = gfcache.layout.MAX_PARENTS
    if len(gfcache.ancestors(path)) >= most:
        raise BaseTooDeep(path, f"{path} continues {most} others already, the most allowed", block)
    return shared


def job_of_change(
    path: Path,
    model: Model,
    old: Any,
    changed: Changed,
    note: str,
    *,
    checkpoints: str = "auto",
    tell: Tell = tell_nobody,
) -> Job:
    """The job of a document that grew or shrank.

    Args:
        path: its new cache file, perhaps that of the old one.
        old: its cache until now, from a file.
        changed: what `appended`, `truncated_to_token` or `truncated_to_line` give.
        note: what happened to it, for its name.

    Raises:
        NotACache: `path` is a base of the old cache.
    """
    if engine_of(model).difference(old.numerics) is not None:
        different = "the cache was computed with other numerics: the result will not be that of a cold run, bit for bit"
        tell(Remark(WARNING, different))
    codec = old.numerics.coding.state
    if old.numerics.dropping is not None:
        again = f"rows of it were dropped ({old.numerics.dropping}): all of it is computed again, from its token ids"
        tell(Remark(NOTE, again))
    elif old.numerics.coding.is_state_lossy and not old.checkpoints:
        again = f"{codec} has rounded its state: without a checkpoint to resume from, all of it is computed again"
        tell(Remark(NOTE, again))
    elif old.numerics.rows_codec and not engine_of(model).reusable_tokens(old, changed[0]):
        again = f"{old.numerics.rows_codec} has rounded its keys and values: all of it is computed again"
        tell(Remark(NOTE, again))
    token_ids, span, text = changed
    base = base_of(old, model)
    if base is not None and base.path is not None:
        check_not_base(path, base.path)
    return Job(
        Source(str(path)),
        checkpoints,
        Document(path.name, None, text, changed_source(old, text, note)),
        path,
        token_ids,
        span,
        (old,) if base is None else (old, base),
        base if base is not None and referable_tokens(base, token_ids, model) else None,
        coding=old.numerics.coding,
        dropping=Dropping.of(old.numerics.dropping),
    )
