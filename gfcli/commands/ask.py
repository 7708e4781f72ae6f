"""gf ask: answers about a document, from a cache file or through the library."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from gfcache import layout

from gfcli.support.answers import How, answer_question
from gfcli.support.cache_files import are_several, expand
from gfcli.support.console import console
from gfcli.support.documents import STDIN, chosen_files, is_piped, question_of, read_document, reading_of
from gfcli.support.exits import NOT_FOUND, CommandError
from gfcli.support.options import (
    DeviceOption,
    DtypeOption,
    EncodingOption,
    ExcludeOption,
    ExtensionOption,
    IncludeOption,
    ModelOption,
    QuietOption,
    RequireVerifiedOption,
    SkipBlobsOption,
    VerbatimOption,
    VerboseOption,
)
from gfcli.support.outputs import checked_output
from gfcli.support.prompt import prompt
from gfcli.support.scope import MOST_RESULTS, FilterOption, LibraryOption, RecursiveOption, Scope
from gfcli.support.sessions import Models, Options, cache_session, library_session
from gfcli.support.settings import value as setting
from gfcli.support.values import MOST_SEED, checked, checked_blocks, checked_policy, parse_bytes, share


def ask(
    first: Annotated[
        str | None, typer.Argument(metavar="DOCUMENT", help="Text file, - for stdin, or a .gfc file; not with --cache.")
    ] = None,
    second: Annotated[str | None, typer.Argument(metavar="QUESTION", help="The question; by default, stdin.")] = None,
    cache: Annotated[
        list[str] | None,
        typer.Option(
            "--cache",
            metavar="FILE",
            help="Cache file to ask instead of a document, a pattern, folder, or ID of the library; may be repeated.",
        ),
    ] = None,
    recursive: RecursiveOption = False,
    exclude: ExcludeOption = None,
    include: IncludeOption = None,
    extensions: ExtensionOption = None,
    library: LibraryOption = False,
    filters: FilterOption = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, max=MOST_RESULTS, metavar="N", help="Answers from the N best documents; else 1."),
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option("--questions", metavar="FILE|-", help="File of questions, one per line, as text or JSON."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="With --questions: file for the answers; a later run resumes it.",
            callback=checked_output,
        ),
    ] = None,
    encoding: EncodingOption = "auto",
    verbatim: VerbatimOption = False,
    skip_blobs: SkipBlobsOption = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    max_tokens: Annotated[
        int, typer.Option("-n", "--max-tokens", metavar="N", help="Maximum number of tokens in the answer.")
    ] = 128,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="X", help="Sampling temperature; 0 takes the likeliest token.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option("--top-p", metavar="X", help="Sample from the likeliest tokens up to this share.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option("--top-k", metavar="N", help="Sample from the N likeliest tokens; 0 for all.")
    ] = 0,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=MOST_SEED, metavar="N", help="Random seed for sampling.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="Text that ends the answer; may be repeated.")
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            "--memory", metavar="SIZE", help="Memory for expanded keys and values; above it they are rebuilt (slower)."
        ),
    ] = "4g",
    read: Annotated[
        str,
        typer.Option(
            "--read",
            metavar="POLICY",
            help="What of the document is read: auto, all, lexical, hybrid (blocks found by words) or attention.",
        ),
    ] = "auto",
    read_blocks: Annotated[
        int | None,
        typer.Option("--read-blocks", metavar="N", help="Blocks to read; by default what was measured for the model."),
    ] = None,
    least_likelihood: Annotated[
        float | None,
        typer.Option(
            "--least-likelihood",
            metavar="X",
            help='Say "Not stated." instead of an answer less likely than X; by default, what was measured; 0: never.',
            callback=checked("--least-likelihood", share),
        ),
    ] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the answer only when it is complete.")] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Refuse a cache computed with other numerics: device kind, precision, backend or threads."
        ),
    ] = False,
    cite: Annotated[
        bool, typer.Option("--cite", help="Also print the lines the model read most (not proof of the answer).")
    ] = False,
    passage: Annotated[
        bool, typer.Option("--passage", help="As --cite, with the whole passage around each of these lines.")
    ] = False,
    quote: Annotated[
        bool, typer.Option("--quote", help="Answer only with words that stand in the document; print where.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say on stderr what the answer rests on: tokens, fingerprints, source.")
    ] = False,
    require_cached: Annotated[
        bool, typer.Option("--require-cached", help="Exit with code 10 unless the document, as it is now, is cached.")
    ] = False,
    require_verified: RequireVerifiedOption = False,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text, without the question template.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="With --questions: print one JSON object per answer.")] = False,
    usage: Annotated[bool, typer.Option("-u", "--usage", help="Print counts and timings on stderr.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Answer a question about a document.

    The first question reads the document and keeps its cache in the library; later questions use the cache, which is
    brought up to date when the file has changed. --cache names a cache file instead: it is never changed, and its
    model is found by its fingerprint unless -m names one. Without a question, stdin is the question; in a terminal, a
    prompt opens that keeps the model loaded.

    --read says what of a long document is read. "lexical" finds the block (a paragraph or so) that shares most words
    with the question, "hybrid" also the one that is most alike in meaning (with the extra goldfinch-gf[find]), "all"
    reads everything, "attention" the parts that the model itself attends to most, "auto" does what was measured to
    answer best with the model.

    --quote allows no answer but words that stand, in one line, in what was read, or "Not stated.", and prints their
    line and characters.

    -r asks a folder, --library all that is cached there, --cache with several files or a pattern those: the documents
    that fit the question best are found by its words, and the best block of each answers. Documents of a folder that
    are not cached as they are now are pre-filled first. What cannot be asked is named, and the others are (exit code
    3). gf search lists the places alone.

    --questions asks many: each line is a question, or an object with "question" and optionally "id" and "documents"
    (names of those to ask; by default, all). --cache may be repeated, or be a quoted pattern. Each document is loaded
    once, and answers come document by document in the order given. With -o, an interrupted run resumes. A failure does
    not stop the rest (exit code 3).

    Examples:
      gf ask doc.txt "Who signed the treaty?"
      gf ask --cache doc.gfc --cite "Who signed the treaty?"
      echo "When was it signed?" | gf ask doc.txt --json
      gf ask -r kb/ "Who signed the treaty?" --top 3
      gf ask --library --filter tag=law "Who signed the treaty?"
      gf ask --cache 'kb/*.gfc' --questions q.jsonl --jsonl -o answers.jsonl
    """
    console.quiet, console.verbose = quiet, verbose
    sampling: dict[str, Any] = {
        "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed,
        "stop": tuple(stop or ()), **({"quote": True} if quote else {}),
        **({} if least_likelihood is None else {"least_likelihood": least_likelihood}),
    }  # fmt: skip
    if quote and raw:
        raise CommandError("--quote and --raw do not go together", hint="text to continue quotes nothing")
    cite = cite or passage
    how = How(
        sampling, raw, as_json, no_stream, usage, cite, passage, checked_policy(read), checked_blocks(read_blocks),
        float(setting("unsure_below")), bool(setting("log")),
    )  # fmt: skip
    memory_bytes = parse_bytes(memory, "--memory")
    reading = reading_of(encoding, verbatim, skip_blobs)
    options = Options(
        model, Models(device, dtype), memory_bytes, strict, explain, require_cached, require_verified, reading,
        _torch_for(questions, temperature, cite),
    )  # fmt: skip
    only = chosen_files(recursive, exclude, include, extensions)
    scope = Scope(first if recursive else None, library, filters or (), cache or (), reading, only)
    several = recursive or library or are_several(cache or [])
    if several or filters or top is not None:
        _check_several(scope, first, second, recursive, several, questions)
    if questions is not None:
        from .ask_questions import ask_many

        ask_many(first, second, cache or [], questions, output, jsonl or as_json, how, options)
        return
    if output is not None or jsonl:
        raise CommandError("-o and --jsonl belong to --questions", hint="for one answer, use --json, or > FILE")
    if several:
        from .ask_collection import ask_collection

        ask_collection(scope, second if recursive else first, how, options, top or 1)
        return
    place, question = _place_and_question(first, second, cache or [])
    _ask_one(place, question, bool(cache) or place.endswith(layout.SUFFIX), how, options)


def _torch_for(questions: str | None, temperature: float, cite: bool) -> str | None:
    """What of the options torch alone does."""
    if questions is not None:
        return "several answers are computed together"
    if temperature > 0:
        return "tokens are drawn with --temperature"
    return "--cite looks at the model's attention" if cite else None


def _check_several(
    scope: Scope, first: str | None, second: str | None, recursive: bool, several: bool, questions: str | None
) -> None:
    """Refuse options about several documents that cannot be given so."""
    scope.check()
    if questions is not None and (recursive or scope.library):
        raise CommandError(
            "--questions with -r or --library", hint="--cache 'kb/*.gfc' --questions FILE asks many files"
        )
    if not several:
        raise CommandError("--top belongs to several documents", hint="add -r, --library or a pattern with --cache")
    if recursive and not first:
        raise CommandError("-r without a folder", hint='gf ask -r kb/ "QUESTION"')
    if not recursive and second is not None:
        raise CommandError(f"{first!r} and {second!r}: expected one question", hint="quote the question")


def _place_and_question(first: str | None, second: str | None, caches: list[str]) -> tuple[str, str | None]:
    if caches:
        if second is not None:
            raise CommandError(
                f"{first!r} and {second!r} with --cache: expected one question", hint="quote the question"
            )
        return expand(caches)[0], first
    if not first:
        raise CommandError(
            "no document", hint='name one: gf ask doc.txt "QUESTION", or gf ask --cache doc.gfc "QUESTION"'
        )
    is_there = first == STDIN or os.path.exists(first)
    if second is not None and not is_there and os.path.isfile(second):
        hint = f'the document comes first: gf ask {shlex.quote(second)} "{first}"'
        raise CommandError(f"{first!r} is not a file, but {second} is", hint=hint)
    if second is None and not is_there:
        if _reads_as_question(first) and is_piped():
            return STDIN, first
        if _reads_as_question(first):
            raise CommandError(
                f"{first!r}: a question without a document", hint=f'name the document, too: gf ask doc.txt "{first}"'
            )
        raise CommandError(f"{first}: no such file or directory", code=NOT_FOUND)
    if Path(first).is_dir():
        raise CommandError(f"{first} is a folder", hint=f'ask its documents: gf ask -r {first} "QUESTION"')
    if first == STDIN and second is None:
        raise CommandError("stdin is the document, so the question must be an argument", hint='gf ask - "QUESTION"')
    return first, second


def _reads_as_question(text: str) -> bool:
    return " " in text.strip() or text.endswith("?")


def _ask_one(place: str, question: str | None, is_cache: bool, how: How, options: Options) -> None:
    interactive = question is None and sys.stdin.isatty()
    if not interactive:
        question = question_of(question, may_be_empty=how.raw)
    started = time.perf_counter()
    if is_cache:
        session = cache_session(place, how, options)
    else:
        session = library_session(read_document(place, options.reading), how, options)
    how.load_s = time.perf_counter() - started
    if interactive:
        tokens = f"{session.cache.length:,} tokens cached"
        greeting = f"{tokens}. /help shows what can be typed; exit or Ctrl-D ends."
        prompt(lambda text: answer_question(session, text, how), greeting, how.toggle_cite)
        return
    assert question is not None
    answer_question(session, question, how)
