"""Computing a cache and writing it: the part that prefill, refresh, append and truncate share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gfcache

from goldfinch.text.documents import Document

from .console import console
from .exits import CommandError
from .values import show_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.caching.document_cache import DocumentCache
    from goldfinch.caching.journal import Journal
    from goldfinch.library.making import Made
    from goldfinch.models.language_model import LanguageModel


@dataclass
class Job:
    """What to compute.

    Attributes:
        label: what to call the document in progress and messages.
        token_ids, document_range: of the whole document, base included.
        source: provenance for the file.
        checkpoints: "none", "auto" or a number, as the option says.
        bases: caches whose beginning may be taken over.
        parent: the base cache whose part is not to be stored again, or None.
        computed: the cache, when it was computed together with others, and the seconds of its share; else None.
    """

    label: str
    token_ids: Tensor
    document_range: tuple[int, int]
    source: dict[str, Any]
    checkpoints: str
    bases: Sequence[DocumentCache] = ()
    parent: DocumentCache | None = None
    computed: tuple[DocumentCache, float] | None = None


def document_job(document: Document, model: LanguageModel, checkpoints: str, parent: DocumentCache | None) -> Job:
    """The job of a document, behind a base cache or alone.

    Raises:
        EmptyInput, TokenizerError: see `goldfinch.document_token_ids`.
        CacheMismatch: the base cache was computed in another dtype.
        CommandError: the model has prefill layers that no base can be continued with.
    """
    from goldfinch import document_token_ids
    from goldfinch.caching.numerics import check_parent_dtype, file_dtype, numerics_difference
    from goldfinch.library.changes import appended

    if parent is None:
        token_ids, span = document_token_ids(model, document.text)
    else:
        if model.config.n_prefill != model.config.n_finch:
            raise CommandError("--base needs a model whose prefill layers are all recurrent", hint="gf model show")
        check_parent_dtype(parent.numerics, file_dtype(model.dtype))
        if numerics_difference(parent.numerics, model) is not None:
            console.warn("the base cache was computed with other numerics: not bit for bit the result of a cold run")
        token_ids, span, _ = appended(model, parent, document.text)
    bases = () if parent is None else (parent,)
    return Job(document.label, token_ids, span, document.source, checkpoints, bases, parent)


@dataclass
class Computed:
    """A cache that is still to be written.

    Attributes:
        path: where.
        made: the cache, and what of it was taken over.
        parent: (base cache, tokens of it) that the file will refer to, or None.
        seconds: that it took.
    """

    path: Path
    made: Made
    parent: tuple[DocumentCache, int] | None
    journal: Journal
    seconds: float


def compute(
    path: Path,
    model: LanguageModel,
    job: Job,
    *,
    fresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Computed:
    """Compute the job from what its bases, the file at `path` or an interrupted run allow.

    The caller holds the lock of `path`.

    Args:
        fresh: compute everything.
        progress: called with (tokens done, T) in place of a bar for this document.

    Raises:
        CommandError: the base cache has no position to go on from, or continues too many others.
    """
    from goldfinch.caching.journal import Journal
    from goldfinch.devices import synchronize
    from goldfinch.library.making import Made, make_cache

    warn_of_length(job.label, job.token_ids.shape[1], model)
    started = time.perf_counter()
    journal = Journal(path, journal_seconds())
    parent = _parent(job, model)
    if job.computed is not None:
        return Computed(path, Made(job.computed[0], 0, None), parent, journal, job.computed[1])
    with console.progress(job.label) if progress is None else nullcontext(progress) as told:
        made = make_cache(
            model,
            job.token_ids,
            path,
            document_range=job.document_range,
            source=job.source,
            checkpoints=job.checkpoints,
            bases=job.bases,
            parent_tokens=0 if parent is None else parent[1],
            journal=journal,
            fresh=fresh,
            progress=told,
        )
    synchronize(model.device)
    if journal.obstacle is not None:
        console.warn(f"{journal.obstacle}; cut short, this run would have begun anew")
    return Computed(path, made, parent, journal, time.perf_counter() - started)


def warn_of_length(label: str, tokens: int, model: LanguageModel) -> None:
    """Say that a document is longer than those that the model was trained on."""
    trained = model.config.context_length
    if tokens > trained:
        console.warn(f"{label} has {tokens:,} tokens, this model was trained on {trained:,}: answers may suffer")


def save(computed: Computed) -> dict[str, Any]:
    """Write the file; its report. Says nothing, and may run in another thread under a lent lock.

    Returns:
        status, output, tokens, tokens_reused, first_changed_token (against the cache that it went on from; None when
        all of that is shared), checkpoint_bytes, bytes, tok_s (docs/schemas/prefill.json).
    """
    path, made = computed.path, computed.made
    tokens = made.cache.length
    header = computed.journal.finish(lambda: made.cache.save(path, parent=computed.parent))
    return {
        "status": "ok",
        "output": str(path),
        "tokens": tokens,
        "tokens_reused": made.tokens_reused,
        "first_changed_token": made.first_changed_token,
        "checkpoint_bytes": sum(s.stored_bytes for s in header.sections if s.position not in (None, tokens)),
        "bytes": path.stat().st_size,
        "tok_s": round(tokens / computed.seconds, 1),
    }


def say_written(report: dict[str, Any]) -> None:
    """One line about a written cache."""
    remarks, cost = [f"{report['tokens']:,} tokens"], report["checkpoint_bytes"]
    reused, changed = report["tokens_reused"], report["first_changed_token"]
    if changed is not None and reused:
        remarks.append(f"changed from token {changed:,} on, {reused:,} of them taken over")
    elif reused:
        remarks.append(f"{reused:,} of them taken over")
    remarks.append(show_bytes(report["bytes"]) + (f" ({show_bytes(cost)} of it checkpoints)" if cost else ""))
    remarks.append(f"{report['tok_s']:,.0f} tok/s")
    console.say(f"{report['output']}: {', '.join(remarks)}")


def write(path: Path, model: LanguageModel, job: Job) -> dict[str, Any]:
    """Compute, save and say so; arguments as of `compute`, the report of `save`."""
    report = save(compute(path, model, job))
    say_written(report)
    return report


def referable_tokens(base: DocumentCache, token_ids: Tensor, model: LanguageModel) -> int:
    """Tokens of a base that a file of token_ids (1, T) can leave to it: fewer than T, for it has some of its own."""
    from goldfinch.engine.checkpoints import reusable_tokens

    return reusable_tokens(base, token_ids[:, :-1], model.executor.block_tokens)


def _parent(job: Job, model: LanguageModel) -> tuple[DocumentCache, int] | None:
    """(base cache, tokens of it) that the file will refer to."""
    base = job.parent
    if base is None:
        return None
    assert base.path is not None
    shared, block = referable_tokens(base, job.token_ids, model), model.executor.block_tokens
    if shared == 0 and base.length < block:
        raise CommandError(
            f"{base.path} has {base.length} tokens, a base needs {block} or more",
            hint="put both texts into one document",
        )
    if shared == 0:
        raise CommandError(
            f"{base.path} holds no position to go on from",
            hint=f"pre-fill the base with checkpoints: gf prefill BASE --checkpoints {block} --force",
        )
    if len(gfcache.ancestors(base.path)) >= gfcache.layout.MAX_PARENTS:
        raise CommandError(
            f"{base.path} continues {gfcache.layout.MAX_PARENTS} others already, the most allowed",
            hint="gf flatten makes a base that stands alone",
        )
    return base, shared


def journal_seconds() -> float:
    """Seconds between two notes of the journal; GF_JOURNAL_SECONDS changes it."""
    text = os.environ.get("GF_JOURNAL_SECONDS", "10")
    try:
        return float(text)
    except ValueError as error:
        raise CommandError(f"GF_JOURNAL_SECONDS is {text!r}, expected a number of seconds") from error
