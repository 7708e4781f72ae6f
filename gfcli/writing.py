"""Computing a cache and writing it: the part that prefill, refresh, append and truncate share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfinch.documents import Document

from .console import console
from .exits import CommandError
from .options import show_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.cache import DocumentCache
    from goldfinch.model import LanguageModel


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
        CommandError: the base cache has no position to go on from.
    """
    from goldfinch import document_token_ids
    from goldfinch.cache import numerics_difference
    from goldfinch.changing import appended

    if parent is None:
        token_ids, span = document_token_ids(model, document.text)
    else:
        if model.config.n_prefill != model.config.n_finch:
            raise CommandError("--base needs a model whose prefill layers are all recurrent", hint="gf model show")
        if numerics_difference(parent.numerics, model) is not None:
            console.warn("the base cache was computed with other numerics: not bit for bit the result of a cold run")
        token_ids, span, _ = appended(model, parent, document.text)
    bases = () if parent is None else (parent,)
    return Job(document.label, token_ids, span, document.source, checkpoints, bases, parent)


def write(
    path: Path,
    model: LanguageModel,
    job: Job,
    *,
    fresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compute the job and write the cache, from what its bases, the file at `path` or an interrupted run allow.

    The caller holds the lock of `path`.

    Args:
        fresh: compute everything.
        progress: called with (tokens done, T) in place of a bar for this document.

    Returns:
        status, output, tokens, tokens_reused, first_changed_token (against the cache that it went on from; None when
        all of that is shared), checkpoint_bytes, bytes, tok_s (docs/schemas/prefill.json).
    """
    from goldfinch.journal import Journal
    from goldfinch.making import Made, make_cache

    tokens = job.token_ids.shape[1]
    trained = model.config.context_length
    if tokens > trained:
        console.warn(f"{job.label} has {tokens:,} tokens, this model was trained on {trained:,}: answers may suffer")
    started = time.perf_counter()
    journal = Journal(path, journal_seconds())
    parent = _parent(job, model)
    if job.computed is not None:
        cache, elapsed = job.computed
        made = Made(cache, 0, None)
    else:
        with console.progress(job.label) if progress is None else nullcontext(progress) as told:
            made = make_cache(
                model,
                job.token_ids,
                path,
                document_range=job.document_range,
                source=job.source,
                checkpoints=job.checkpoints,
                bases=job.bases,
                journal=journal,
                fresh=fresh,
                progress=told,
            )
        elapsed = time.perf_counter() - started
    cache, reused, changed = made.cache, made.tokens_reused, made.first_changed_token
    header = cache.save(path, parent=parent)
    journal.remove()
    size = path.stat().st_size
    cost = sum(s.stored_bytes for s in header.sections if s.position not in (None, tokens))
    remarks = [f"{tokens:,} tokens"]
    if changed is not None and reused:
        remarks.append(f"changed from token {changed:,} on, {reused:,} of them taken over")
    elif reused:
        remarks.append(f"{reused:,} of them taken over")
    remarks.append(show_bytes(size) + (f" ({show_bytes(cost)} of it checkpoints)" if cost else ""))
    remarks.append(f"{tokens / elapsed:,.0f} tok/s")
    console.say(f"{path}: {', '.join(remarks)}")
    return {
        "status": "ok",
        "output": str(path),
        "tokens": tokens,
        "tokens_reused": reused,
        "first_changed_token": changed,
        "checkpoint_bytes": cost,
        "bytes": size,
        "tok_s": round(tokens / elapsed, 1),
    }


def _parent(job: Job, model: LanguageModel) -> tuple[Path, int] | None:
    """(base cache file, tokens of it) that the file will refer to."""
    from goldfinch.prefilling import block_tokens_of, reusable_tokens

    if job.parent is None:
        return None
    assert job.parent.path is not None
    shared = reusable_tokens(job.parent, job.token_ids, block_tokens_of(model))
    if shared == 0:
        raise CommandError(
            f"{job.parent.path} holds no position to go on from",
            hint="pre-fill the base with checkpoints: gf prefill BASE --checkpoints 512 --force",
        )
    return job.parent.path, shared


def check_not_parent(path: Path, parent: Path) -> None:
    """Refuse to replace a base cache by its own child.

    Raises:
        CommandError: exit 2.
    """
    if path.exists() and path.samefile(parent):
        raise CommandError(f"{path} is the base cache itself", hint="choose another output with -o")


def journal_seconds() -> float:
    """Seconds between two notes of the journal; GF_JOURNAL_SECONDS changes it."""
    text = os.environ.get("GF_JOURNAL_SECONDS", "10")
    try:
        return float(text)
    except ValueError as error:
        raise CommandError(f"GF_JOURNAL_SECONDS is {text!r}, expected a number of seconds") from error
