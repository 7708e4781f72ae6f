"""Many documents with one loaded model: each fresh, written, kept or failed; overall progress and a summary."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gfcache

from goldfinch.jobs.outputs import check_not_base, check_replaceable, is_folder, output_path, real
from goldfinch.jobs.sources import Source, Sources
from goldfinch.library.library import HIT
from goldfinch.text.documents import Document

from . import settings
from .console import console
from .documents import read_document
from .exits import MEMORY_DEVICE_DISK, CommandError
from .hints import HINTS
from .options import load, numerics
from .outputs import check_folder
from .progress import BatchProgress
from .read_ahead import Task, in_packs, in_turn
from .sessions import Models, open_cache_file
from .tally import Tally
from .values import FILE_DTYPES
from .writing import (
    Computed,
    Job,
    compute,
    document_job,
    journal_seconds,
    save,
    say_written,
    warn_of_length,
)

if TYPE_CHECKING:
    from goldfinch.caching.document_cache import DocumentCache
    from goldfinch.library.library import Found, Library
    from goldfinch.models.language_model import LanguageModel
    from goldfinch.weights.directory import ModelCard

# Computed caches that may wait to be written, and threads that write them: a disk that waits for itself takes several.
UNWRITTEN = 4
# A document that took longer on the processor is written before the next one is begun: nothing is gained there, and its
# report would wait.
DEFER_S = 0.5


@dataclass(frozen=True)
class Plan:
    """What the options of gf prefill say; `many` means that one failure does not end the run."""

    output: str | None
    library: bool
    model: str | None
    device: str
    dtype: str | None
    checkpoints: str
    base: str | None
    force: bool
    many: bool
    batch_tokens: int | None = None


@dataclass
class _Begun:
    """A document that is computed, or was found fresh or failing, whose file may still be under way.

    Attributes:
        outcome: a report, an error, or the report to come.
    """

    source: Source
    outcome: dict[str, Any] | Exception | Future[dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        return not isinstance(self.outcome, Future) or self.outcome.done()


def _save(computed: Computed, lock: ExitStack) -> dict[str, Any]:
    """Write the file and give up its lock, in a writer's thread."""
    with lock, gfcache.lent_lock(computed.path):
        return save(computed)


class Batch:
    """A run over documents.

    Args:
        plan: what to do.
        sources: the documents.

    Attributes:
        tally: what became of them.
    """

    def __init__(self, plan: Plan, sources: Sources) -> None:
        if plan.library and (plan.output is not None or plan.base is not None):
            raise CommandError(
                "--library with -o or --base", hint="caches of the library have no place or base to name"
            )
        if plan.many and plan.output is not None and not is_folder(plan.output):
            raise CommandError(
                f"one output file {plan.output} for several documents", hint=f"name a folder: -o {plan.output}/"
            )
        if plan.batch_tokens is not None and plan.base is not None:
            raise CommandError("--batch-tokens with --base", hint="documents that continue a base are not packed")
        self.plan, self.sources = plan, sources
        self.tally = Tally(sources)
        self._taken: set[Path] = set()
        self._loaded: LanguageModel | None = None
        self._parent: DocumentCache | None = None
        self._library: Library | None = None
        self._in_library: dict[Path, tuple[Source, str]] = {}
        self._evicted: deque[tuple[Source, Exception]] = deque()
        self._stack = ExitStack()
        if plan.base is not None:
            self._loaded, self._parent = open_cache_file(plan.base, plan.model, Models(plan.device, plan.dtype))
            self._card: ModelCard = self._loaded.card
            self._dtype = plan.dtype or ""
        else:
            from goldfinch.weights.directory import find_model

            self._card = find_model(plan.model or settings.value("model"))
            self._device, self._dtype = numerics(plan.device, plan.dtype)
        self._overall = BatchProgress(sources) if plan.many else None

    def __enter__(self) -> Batch:
        if self.plan.library:
            from goldfinch.library.library import Library

            from .store import open_store, say_index

            self._library = self._stack.enter_context(Library(open_store(keep_cap=True), journal_s=journal_seconds()))
            self._stack.callback(say_index, self._library.store)
        if self._overall is not None:
            self._stack.enter_context(self._overall)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if self.plan.many and kind is None:
            self.tally.show()

    @property
    def model(self) -> LanguageModel:
        """The model, loaded when the first document needs it."""
        if self._loaded is None:
            self._loaded = load(str(self._card.path), self._device, self._dtype)
        return self._loaded

    def tasks(self) -> Generator[Task, None, None]:
        """The documents in order, some of them read ahead (`prefill_ahead`)."""
        return in_turn(self) if self.plan.batch_tokens is None else in_packs(self, self.plan.batch_tokens)

    def can_pack(self) -> bool:
        """Whether documents can be computed together here; says so when they cannot."""
        obstacle = self.model.executor.packing_obstacle
        if obstacle is not None:
            console.say(f"--batch-tokens has no effect here: {obstacle}")
        return obstacle is None

    @property
    def overlaps(self) -> bool:
        """Whether tokenising the next documents costs the present one nothing: another device computes it."""
        return self.plan.base is None and self._device != "cpu"

    def output_path(self, document: Document, source: Source) -> Path:
        """The cache file of a document; asked once for each, for no two of them may have the same."""
        path = output_path(document, self.plan.output, self._taken, source.folder)
        self._taken.add(real(path))
        return path

    def is_fresh(self, document: Document, path: Path | None) -> bool:
        """Whether there is nothing to compute, the library deciding where no path is given."""
        if self.plan.force:
            return False
        if path is None:
            found = self._find(document)
            return found.state == HIT and self._suits(found.path)
        return path.exists() and self._fresh(path, document) is not None

    def reports(self) -> Generator[tuple[Source, dict[str, Any] | Exception], None, None]:
        """What became of each document, in order: its report (docs/schemas/prefill.json), or the error.

        Where there are many, a file is written while the next documents are computed.
        """
        begun: deque[_Begun] = deque()
        # Leaving the executor waits: what is computed gets written, whatever ends this run.
        with ThreadPoolExecutor(UNWRITTEN) as writer, closing(self.tasks()) as tasks:
            for task in tasks:
                begun.append(self._begin(task, writer))
                at_once = begun[-1].seconds > DEFER_S and not self.overlaps
                while begun and (at_once or len(begun) > UNWRITTEN or begun[0].is_done):
                    yield self._end(begun.popleft())
                while self._evicted:
                    yield self._evicted.popleft()
            while begun:
                yield self._end(begun.popleft())

    def _begin(self, task: Task, writer: Executor) -> _Begun:
        """Compute the cache of a document, or find that there is nothing to do."""
        if self._overall is not None:
            self._overall.begin(task.source)
        started = time.perf_counter()
        begun = _Begun(task.source)
        try:
            document = task.document or read_document(task.source)
            if self._library is not None:
                begun.outcome = self._into_library(document, task)
            else:
                begun.outcome = self._into_file(document, task, writer)
        except Exception as error:
            begun.outcome = error
        shared = task.computed[1] if task.computed is not None else 0.0
        begun.seconds = shared + time.perf_counter() - started
        return begun

    def _end(self, begun: _Begun) -> tuple[Source, dict[str, Any] | Exception]:
        """Wait until the file is written."""
        started = time.perf_counter()
        try:
            report = begun.outcome.result() if isinstance(begun.outcome, Future) else begun.outcome
        except Exception as error:
            report = error
        if isinstance(report, Exception):
            return begun.source, report
        if isinstance(begun.outcome, Future):
            say_written(report)
        self.tally.note(report)
        seconds = begun.seconds + time.perf_counter() - started
        return begun.source, {"source": begun.source.name} | report | {"seconds": round(seconds, 4)}

    def _progress(self) -> Callable[[int, int], None] | None:
        return None if self._overall is None else self._overall.within

    def _into_file(self, document: Document, task: Task, writer: Executor) -> dict[str, Any] | Future[dict[str, Any]]:
        from goldfinch.caching.journal import Journal

        plan, parent = self.plan, self._parent
        path = task.path or self.output_path(document, task.source)
        check_folder(path)
        if parent is not None and parent.path is not None:
            check_not_base(path, parent.path)
        with ExitStack() as lock:
            lock.enter_context(gfcache.output_lock(path))
            fresh = self._fresh(path, document) if path.exists() and not plan.force else None
            if fresh is not None:
                console.detail(f"{path}: fresh")
                with suppress(gfcache.CacheFormatError):
                    Journal(path).remove()  # of a run that was killed when all but that was done
                return fresh
            check_replaceable(path, document.source, self._card.prefill_fingerprint, plan.force)
            if task.tokens is not None:
                checkpoints = plan.checkpoints if task.computed is None else "none"
                tokens = task.tokens.result()
                job = Job(document.label, *tokens, document.source, checkpoints, computed=task.computed)
            else:
                job = document_job(document, self.model, plan.checkpoints, parent)
            computed = compute(path, self.model, job, fresh=plan.force, progress=self._progress())
            return writer.submit(_save, computed, lock.pop_all())

    def _fresh(self, path: Path, document: Document) -> dict[str, Any] | None:
        """The report of a cache that is what this run would make, None when it is not."""
        from goldfinch.library.library import card_identity

        try:
            with gfcache.read_cache(path) as file:
                header, size = file.header, file.file_bytes
        except gfcache.CacheFormatError:
            return None
        parent = None if self._parent is None else self._parent.path
        if parent is not None:
            with gfcache.read_cache(parent) as base:
                expected: str | None = base.header.digest
            dtype = str(self._parent.numerics.compute_dtype) if self._parent is not None else ""
        else:
            expected, dtype = None, FILE_DTYPES[self._dtype]
        source = header.source or {}
        same = (
            source.get("sha256") == document.source["sha256"]
            and source.get("path") == document.source["path"]
            and gfcache.header_identity(header) == card_identity(self._card, dtype)
            and (header.parent or {}).get("digest") == expected
        )
        if not same or not self._has_checkpoints(path, header):
            return None
        try:
            gfcache.verify_cache(path, complete=True)
        except gfcache.CacheFormatError as error:
            console.warn(f"{error}; it is pre-filled again")
            return None
        return {
            "status": "fresh",
            "output": str(path),
            "tokens": header.tokens,
            "tokens_reused": header.tokens,
            "first_changed_token": None,
            "checkpoint_bytes": gfcache.inspect_cache(path)["checkpoint_bytes"],
            "bytes": size,
        }

    def _has_checkpoints(self, path: Path, header: gfcache.Header) -> bool:
        """Whether a cache has the positions that this run would give it."""
        from goldfinch.caching.numerics import Numerics
        from goldfinch.engine.checkpoints import block_tokens_by, plan_checkpoints

        element_bytes = gfcache.layout.DTYPES[str(header.compute_dtype)]
        block = block_tokens_by(Numerics.from_dict(header.numerics))
        planned = plan_checkpoints(self._card.config, header.tokens, self.plan.checkpoints, element_bytes, block)
        found: list[int] = gfcache.inspect_cache(path)["checkpoints"]
        wanted = [p for p in planned if p > header.first_token]
        if self.plan.checkpoints == "auto":  # few are wanted; those of an earlier version may stand elsewhere
            return len(found) <= len(wanted)
        return found == wanted

    def _find(self, document: Document) -> Found:
        assert self._library is not None
        return self._library.find(document, self._card, FILE_DTYPES[self._dtype], verified=True)

    def _suits(self, path: Path) -> bool:
        """Whether a cache of the library has the positions asked for; without a wish of the user, any will do."""
        with gfcache.read_cache(path) as file:
            return self.plan.checkpoints == "auto" or self._has_checkpoints(path, file.header)

    def _into_library(self, document: Document, task: Task) -> dict[str, Any]:
        from goldfinch import document_token_ids

        assert self._library is not None
        found = self._find(document)
        if found.state == HIT and not self.plan.force and self._suits(found.path):
            with gfcache.read_cache(found.path) as file:
                tokens, size = file.header.tokens, file.file_bytes
            place = {"output": str(found.path), "bytes": size}
            self._in_library[found.path] = task.source, "fresh"
            return {"status": "fresh", "tokens": tokens, "tokens_reused": tokens} | place
        checkpoints = None if self.plan.checkpoints == "auto" else self.plan.checkpoints
        read = document_token_ids(self.model, document.text) if task.tokens is None else task.tokens.result()
        warn_of_length(document.label, read[0].shape[1], self.model)
        # A hit that lacks the positions asked for is none for this run.
        kept = self._library.get(
            self.model, document, checkpoints=checkpoints, progress=self._progress(),
            fresh=self.plan.force, unsuited=found.state == HIT,
            computed=None if task.computed is None else task.computed[0], tokens=read,
        )  # fmt: skip
        for removal in kept.removals:
            self._note_removed(removal)
        if kept.path is None:
            assert kept.obstacle is not None
            raise kept.obstacle
        self._in_library[kept.path] = task.source, "ok"
        tokens = kept.cache.length
        console.say(f"{document.label}: {tokens:,} tokens, {kept.tokens_computed:,} computed")
        reused = tokens - kept.tokens_computed
        place = {"output": str(kept.path), "bytes": kept.path.stat().st_size}
        return {"status": "ok", "tokens": tokens, "tokens_reused": reused} | place

    def _note_removed(self, removal: gfcache.Removal) -> None:
        """Say what made room; what this run itself has put there has failed after all."""
        from .store import say_removed

        assert self._library is not None
        store = self._library.store
        say_removed(store, removal)
        for entry in removal.removed:
            source, status = self._in_library.pop(store.path(entry), (None, ""))
            if source is not None:
                self.tally.counts[status] -= 1
                message = f"{source.name}: its cache was removed again, to make room for another document of this call"
                error = CommandError(message, code=MEMORY_DEVICE_DISK, hint=HINTS[gfcache.NoRoom])
                self._evicted.append((source, error))
