"""gf append: a document that grows, without reading it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import gfcache
import typer

from gfcli.support.console import console
from gfcli.support.documents import read_document
from gfcli.support.options import CheckpointsOption, DeviceOption, ForceOption, ModelOption, QuietOption
from gfcli.support.outputs import check_may_replace, checked_output
from gfcli.support.sessions import Models, open_cache_file
from gfcli.support.writing import Job, referable_tokens, write
from goldfinch.jobs.outputs import check_not_base, real

if TYPE_CHECKING:
    from goldfinch.caching.document_cache import DocumentCache
    from goldfinch.models.language_model import LanguageModel

OutputOption = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write to another file; by default, the cache is replaced.",
        callback=checked_output,
    ),
]


def append(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file.")],
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Text to append, or - for stdin.")],
    output: OutputOption = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    checkpoints: CheckpointsOption = "auto",
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Append text to a cached document.

    Only the part after the last usable checkpoint is recomputed. The tokens are those of the whole text, and the
    result is that of a cold run. The cache is replaced in one step; if it has a base, it keeps it.

    Examples:
      gf append log.gfc today.txt
      tail -n 20 log.txt | gf append log.gfc -
      gf append book.gfc chapter2.txt -o both.gfc
    """
    from goldfinch.library.changes import appended, changed_source

    console.quiet = quiet
    more = read_document(document)
    path = output_of(cache, output, force)
    with gfcache.output_lock(path):
        loaded, old = open_cache_file(cache, model, Models(device))
        token_ids, span, text = appended(loaded, old, more.text)
        source = changed_source(old, text, f"and {more.source['name']}")
        write_changed(path, loaded, old, Job(path.name, token_ids, span, source, checkpoints))


def output_of(cache: str, output: str | None, force: bool) -> Path:
    """Where to write; what else is there is refused before anything is loaded."""
    path = Path(output or cache)
    if real(path) != real(Path(cache)):
        check_may_replace(path, force)
    return path


def write_changed(path: Path, model: LanguageModel, old: DocumentCache, job: Job) -> None:
    """Write the cache of a changed document; it goes on to continue its base if it has one."""
    from goldfinch.caching.numerics import numerics_difference

    if numerics_difference(old.numerics, model) is not None:
        console.warn(
            "the cache was computed with other numerics: the result will not be that of a cold run, bit for bit"
        )
    base = _base_of(old, model)
    if base is not None and base.path is not None:
        check_not_base(path, base.path)
    job = replace(job, bases=(old,) if base is None else (old, base))
    if base is not None and referable_tokens(base, job.token_ids, model):
        job = replace(job, parent=base)
    write(path, model, job)
    print(path)


def _base_of(cache: DocumentCache, model: LanguageModel) -> DocumentCache | None:
    """The base that a cache file continues, and that its next version may continue, too."""
    from goldfinch import open_cache

    assert cache.path is not None
    with gfcache.read_cache(cache.path) as file:
        if file.header.parent is None:
            return None
        with gfcache.open_parent(file) as base:
            place = base.path
    return open_cache(place, model)
