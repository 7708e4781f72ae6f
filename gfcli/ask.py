"""gf ask: answers from a cache file."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import gfcache
import typer

from .console import console
from .exits import CommandError
from .options import DeviceOption, DtypeOption, ModelOption, load, parse_bytes

if TYPE_CHECKING:
    from goldfinch.cache import DocumentCache
    from goldfinch.model import LanguageModel
    from goldfinch.session import Session, Usage

SCHEMA_VERSION = 1


def ask(
    question: Annotated[str | None, typer.Argument(help="The question; stdin when absent.")] = None,
    cache: Annotated[str, typer.Option("--cache", metavar="FILE", help="Cache file written by gf prefill.")] = ...,  # type: ignore[assignment]
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    max_tokens: Annotated[int, typer.Option("-n", "--max-tokens", help="Most tokens of the answer.")] = 128,
    temperature: Annotated[float, typer.Option("--temperature", help="0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Sample from the likeliest tokens up to this share.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Sample from the K likeliest tokens; 0 for all.")] = 0,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the sampling.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="Text that ends the answer; may be repeated.")
    ] = None,
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="Keys and values up to this size are held expanded.")
    ] = "4g",
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is complete.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a cache computed on another device kind or in another precision.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what the answer rests on: tokens, fingerprints, source; on stderr.")
    ] = False,
    require_cached: Annotated[
        bool, typer.Option("--require-cached", help="Exit 10 when the source has changed since it was pre-filled.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="No question template: continue the text.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    usage: Annotated[bool, typer.Option("-u", "--usage", help="Counts and timings on stderr.")] = False,
) -> None:
    """Answer a question from a cache file; the document is not read again.

    Without a question, stdin is the question; in a terminal, a prompt opens that keeps the model loaded. The file is
    never changed. The model is found by the cache's fingerprint unless -m names one.

    Examples:

      gf ask --cache doc.gfc "Who signed the treaty?"

      echo "When was it signed?" | gf ask --cache doc.gfc --json

      gf ask --cache doc.gfc

      gf ask --cache doc.gfc --explain --require-cached "Who signed?"
    """
    sampling: dict[str, Any] = {
        "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed,
        "stop": tuple(stop or ()),
    }  # fmt: skip
    from goldfinch.errors import EmptyInput

    interactive = question is None and sys.stdin.isatty()
    if question is None and not interactive:
        question = sys.stdin.read().strip()
    if not interactive and not (question or raw):
        raise EmptyInput("the question is empty")
    started = time.perf_counter()
    memory_bytes = parse_bytes(memory)
    if explain or require_cached:
        _before(cache, model, explain and not as_json, require_cached)
    session = open_session(cache, model, device, dtype, memory_bytes, strict)
    load_s = time.perf_counter() - started
    found = _explanation(session, cache, as_json) if explain else None
    if interactive:
        _prompt(session, raw, sampling, usage)
        return
    assert question is not None
    _answer(session, question, raw, sampling, as_json, no_stream, usage, load_s, found)


def _before(cache: str, model: str | None, show: bool, require_cached: bool) -> None:
    """What --explain and --require-cached say before anything is loaded."""
    from goldfinch.model_directory import find_model

    from . import explain as explaining

    header = explaining.read_header(cache)
    if show:
        explaining.show_identity(header, find_model(model or find_model_of(header)))
    if require_cached:
        explaining.require_cached(cache, header)


def _explanation(session: Session, cache: str, as_json: bool) -> dict[str, Any]:
    from . import explain as explaining

    found = explaining.explain(session, explaining.read_header(cache))
    if not as_json:
        explaining.show(found)
    return found


def open_session(
    cache: str, model: str | None, device: str, dtype: str | None, memory_bytes: int, strict: bool
) -> Session:
    """A session on a cache file; see `open_cache_with_model`."""
    loaded, opened = open_cache_with_model(cache, model, device, dtype, strict)
    from goldfinch import Session

    return Session(loaded, opened, memory_bytes=memory_bytes)


def open_cache_with_model(
    cache: str, model: str | None, device: str, dtype: str | None, strict: bool
) -> tuple[LanguageModel, DocumentCache]:
    """Check the file, find and load its model, and read it.

    Args:
        cache: the file.
        model, device, dtype: as the options say.
        strict: refuse other numerics instead of reporting them.

    Raises:
        FileNotFoundError, gfcache.CacheFormatError, CacheMismatch, ModelNotFound, ...: see exits.py.
    """
    with gfcache.read_cache(cache) as file:  # refuses a foreign or damaged file before torch is even imported
        header = file.header
    loaded = load(model or find_model_of(header), device, dtype, header.numerics.get("compute_dtype"))

    from goldfinch import open_cache
    from goldfinch.cache import numerics_difference
    from goldfinch.errors import CacheMismatch

    opened = open_cache(cache, loaded)
    if header.model["model_fingerprint"] != loaded.card.model_fingerprint:
        console.warn("this model shares only the prefill layers with the one that wrote the cache")
    difference = numerics_difference(opened.numerics, loaded)
    if difference is not None:
        field, found, expected = difference
        if strict:
            raise CacheMismatch(f"numerics.{field}", found, expected, hint="leave out --strict to accept rounding")
        console.warn(
            f"the cache was computed with {field} {found}, this run uses {expected}: answers may differ slightly"
        )
    return loaded, opened


def find_model_of(header: gfcache.Header) -> str:
    """The directory of the model that wrote a cache.

    Raises:
        ModelNotFound: none here has its fingerprint.
    """
    from goldfinch.errors import ModelNotFound
    from goldfinch.model_directory import find_model_by_fingerprint

    card = find_model_by_fingerprint(header.model["prefill_fingerprint"], header.model["model_fingerprint"])
    if card is None:
        raise ModelNotFound(
            f"no model here made this cache: it was written by {header.model.get('name')!r} "
            f"({header.model['prefill_fingerprint'][:16]})",
            hint="name the model directory with -m, or put it under GF_MODELS_DIR",
        )
    return str(card.path)


def _answer(
    session: Session,
    question: str,
    raw: bool,
    sampling: dict[str, Any],
    as_json: bool,
    no_stream: bool,
    show_usage: bool,
    load_s: float,
    explanation: dict[str, Any] | None = None,
) -> None:
    if as_json or no_stream:
        answer = session.ask(question, raw=raw, **sampling)
        values = answer_json(answer.text, answer.usage, load_s)
        if explanation is not None:
            values["explain"] = explanation
        print(json.dumps(values) if as_json else answer.text, flush=True)
    else:
        for piece in session.stream(question, raw=raw, **sampling):
            print(piece, end="", flush=True)
        print(flush=True)
    if show_usage:
        _show_usage(session.last_usage, load_s)


def answer_json(text: str, usage: Usage, load_s: float) -> dict[str, Any]:
    """The object of `gf ask --json`; JSON Schema: docs/schemas/ask.json."""
    values = asdict(usage)
    timings = {"load": load_s} | (values.pop("timings_s") or {})
    return {
        "schema_version": SCHEMA_VERSION,
        "answer": text,
        **values,
        "timings_s": {name: round(seconds, 6) for name, seconds in timings.items()},
    }


def _show_usage(usage: Usage, load_s: float) -> None:
    timings = usage.timings_s or {}
    decode_s = timings.get("decode", 0.0)
    rate = (
        f", {(usage.generated_tokens - 1) / decode_s:,.0f} tok/s" if decode_s > 0 and usage.generated_tokens > 1 else ""
    )
    print(
        f"{usage.document_tokens_cached:,} document tokens from the cache, {usage.document_tokens_computed} computed, "
        f"{usage.tail_tokens_replayed} replayed; {usage.question_tokens} question tokens in "
        f"{timings.get('question', 0.0):.3f} s; {usage.generated_tokens} generated in {decode_s:.3f} s{rate}; "
        f"load {load_s:.2f} s",
        file=sys.stderr,
    )


def _prompt(session: Session, raw: bool, sampling: dict[str, Any], show_usage: bool) -> None:
    """Questions one after the other with the model loaded; an empty line or Ctrl-D ends."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  line editing and history for input()

    console.say(f"{session.cache.length:,} tokens cached. An empty line or Ctrl-D ends.")
    while True:
        try:
            question = input("? ").strip()
        except EOFError:
            print(file=sys.stderr)
            return
        if not question:
            return
        try:
            _answer(session, question, raw, sampling, False, False, show_usage, 0.0)
        except KeyboardInterrupt:
            print("\n(stopped)", file=sys.stderr)
        except CommandError as error:
            console.error(error)
