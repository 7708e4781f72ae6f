"""gf append and gf truncate: documents that grow or shrink, without reading them again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .ask import open_cache_with_model
from .console import console
from .documents import read_document
from .exits import CommandError
from .options import DeviceOption, ModelOption, QuietOption, show_bytes

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.cache import DocumentCache
    from goldfinch.model import LanguageModel

Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FILE", help="Another file; by default the cache is replaced.")
]
CheckpointsOption = Annotated[str, typer.Option("--checkpoints", metavar="none|auto|N", help="As in gf prefill.")]


def append(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file.")],
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Text to put behind it, or - for stdin.")],
    output: Output = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    checkpoints: CheckpointsOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Put text behind a cached document; only what follows the last usable checkpoint is computed.

    The tokens are those of the whole text, and the result is that of a cold run. The cache is replaced in one step.

    Examples:

      gf append log.gfc today.txt

      tail -n 20 log.txt | gf append log.gfc -

      gf append book.gfc chapter2.txt -o both.gfc
    """
    from goldfinch.changing import appended, changed_source

    console.quiet = quiet
    more = read_document(document)
    loaded, old = open_cache_with_model(cache, model, device, None, strict=False)
    token_ids, span, text = appended(loaded, old, more.text)
    source = changed_source(old, text, f"and {more.label}")
    _write(Path(output or cache), loaded, old, token_ids, span, source, checkpoints)


def truncate(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file.")],
    to_token: Annotated[int | None, typer.Option("--to-token", metavar="N", help="Keep the first N tokens.")] = None,
    to_line: Annotated[int | None, typer.Option("--to-line", metavar="N", help="Keep the first N lines.")] = None,
    output: Output = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    checkpoints: CheckpointsOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Keep the beginning of a cached document; computed from the last checkpoint inside it.

    Examples:

      gf truncate doc.gfc --to-line 100

      gf truncate doc.gfc --to-token 4096 -o beginning.gfc

      gf truncate doc.gfc --to-token 512 --checkpoints none
    """
    from goldfinch.changing import changed_source, truncated_to_line, truncated_to_token

    console.quiet = quiet
    if (to_token is None) == (to_line is None):
        raise CommandError("name one of --to-token and --to-line")
    loaded, old = open_cache_with_model(cache, model, device, None, strict=False)
    if to_token is not None:
        token_ids, span, text = truncated_to_token(loaded, old, to_token)
        note = f"first {to_token} tokens"
    else:
        assert to_line is not None
        token_ids, span, text = truncated_to_line(loaded, old, to_line)
        note = f"first {to_line} lines"
    _write(Path(output or cache), loaded, old, token_ids, span, changed_source(old, text, note), checkpoints)


def _write(
    path: Path,
    model: LanguageModel,
    old: DocumentCache,
    token_ids: Tensor,
    span: tuple[int, int],
    source: dict[str, object],
    checkpoints: str,
) -> None:
    from goldfinch import prefill
    from goldfinch.cache import numerics_difference
    from goldfinch.prefilling import plan_checkpoints, reusable_tokens

    if path.exists() and old.path is not None and not path.samefile(old.path):
        raise CommandError(f"{path} exists", hint="choose another output with -o")
    tokens = token_ids.shape[1]
    if numerics_difference(old.numerics, model) is not None:
        console.warn(
            "the cache was computed with other numerics: the result will not be that of a cold run, bit for bit"
        )
    reused = reusable_tokens(old, token_ids)
    started = time.perf_counter()
    with console.progress(path.name) as progress:
        cache = prefill(
            model,
            token_ids,
            progress=progress,
            document_range=span,
            source=source,
            checkpoints=plan_checkpoints(model.config, tokens, checkpoints, model.emb.weight.element_size()),
            base=old,
        )
    elapsed = time.perf_counter() - started
    cache.save(path)
    size = show_bytes(path.stat().st_size)
    console.say(f"{path}: {tokens:,} tokens, {reused:,} of them taken over, {size}, {elapsed:.2f} s")
    print(path)
