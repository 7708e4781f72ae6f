"""Sessions on caches and answers from them: what gf ask and the batches of questions share."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import gfcache

from . import citing
from .console import console, printable
from .documents import clean_text
from .explain import counted
from .options import load

if TYPE_CHECKING:
    from goldfinch.caching.document_cache import DocumentCache
    from goldfinch.engine.session import Session, Usage
    from goldfinch.models.language_model import LanguageModel

SCHEMA_VERSION = 1


def open_cache_with_model(
    cache: str,
    model: str | None,
    device: str,
    dtype: str | None,
    strict: bool,
    loaded: dict[tuple[str, ...], LanguageModel] | None = None,
    checkpoints: bool = True,
) -> tuple[LanguageModel, DocumentCache]:
    """Check the file, find and load its model, and read it.

    Args:
        cache: the file.
        model, device, dtype: as the options say.
        strict: refuse other numerics instead of reporting them.
        loaded: models that were loaded before, and where this one is noted.
        checkpoints: read them, too: not needed for questions.

    Raises:
        FileNotFoundError, gfcache.CacheFormatError, CacheMismatch, ModelNotFound, ...: see exits.py.
    """
    with gfcache.read_cache(cache) as file:  # refuses a foreign or damaged file before torch is even imported
        header = file.header
    place, cache_dtype = model or find_model_of(header), header.compute_dtype
    models = {} if loaded is None else loaded
    key = (place, device, dtype or str(cache_dtype))
    if key not in models:
        models[key] = load(place, device, dtype, cache_dtype)
    return models[key], _opened(cache, header, models[key], strict, checkpoints)


def _opened(
    cache: str, header: gfcache.Header, loaded: LanguageModel, strict: bool, checkpoints: bool
) -> DocumentCache:
    from goldfinch import open_cache

    opened = open_cache(cache, loaded, checkpoints=checkpoints)
    if header.model["model_fingerprint"] != loaded.card.model_fingerprint:
        console.warn("this model shares only the prefill layers with the one that wrote the cache")
    check_numerics(opened, loaded, strict)
    return opened


def check_numerics(cache: DocumentCache, model: LanguageModel, strict: bool) -> None:
    """Say that a cache was computed with other numerics than the model's.

    Raises:
        CacheMismatch: `strict`, which is to refuse it.
    """
    from goldfinch.caching.numerics import numerics_difference
    from goldfinch.errors import CacheMismatch

    difference = numerics_difference(cache.numerics, model, packing=False)
    if difference is not None:
        field, found, expected = difference
        if strict:
            raise CacheMismatch(f"numerics.{field}", found, expected, hint="leave out --strict to accept rounding")
        console.warn(
            f"the cache was computed with {field} {found}, this run uses {expected}: answers may differ slightly"
        )


def find_model_of(header: gfcache.Header, *, exact: bool = False) -> str:
    """The directory of the model that wrote a cache.

    Args:
        exact: not one that shares only the layers of prefill with it, which may answer but not renew the cache.

    Raises:
        ModelNotFound: none here has its fingerprint.
    """
    from goldfinch.errors import ModelNotFound
    from goldfinch.weights.directory import find_model_by_fingerprint

    card = find_model_by_fingerprint(header.model["prefill_fingerprint"], header.model["model_fingerprint"])
    if card is None or (exact and card.model_fingerprint != header.model["model_fingerprint"]):
        raise ModelNotFound(
            f"no model here made this cache: it was written by {header.model.get('name')!r} "
            f"({header.model['model_fingerprint' if exact else 'prefill_fingerprint'][:16]})",
            hint="put its directory under GF_MODELS_DIR" + ("" if exact else ", or name it with -m"),
        )
    return str(card.path)


@dataclass
class How:
    """How to answer, and what is known before the first question.

    Attributes:
        sampling: fields of `goldfinch.sampling.Sampling`.
        raw: no question template.
        as_json, no_stream, usage, cite: as the options say.
        load_s: seconds until the session was ready.
        computed: document tokens that had to be computed for it.
        explanation: the object of --explain, or None.
        library: state and path in the library, or None for a cache that was named.
    """

    sampling: dict[str, Any]
    raw: bool = False
    as_json: bool = False
    no_stream: bool = False
    usage: bool = False
    cite: bool = False
    load_s: float = 0.0
    computed: int = 0
    explanation: dict[str, Any] | None = None
    library: dict[str, Any] | None = None


def answer_question(session: Session, question: str, how: How) -> None:
    """Answer one question on stdout."""
    ids: list[int] = []
    if how.as_json or how.no_stream or how.cite:
        answer = session.ask(question, raw=how.raw, **how.sampling)
        ids = answer.token_ids
        cited = _cited(session, question, ids, how) if how.cite else None
        if how.as_json:
            print(json.dumps(_json(answer.text, session.last_usage, how, cited)), flush=True)
        else:
            print(answer.text, flush=True)
            for row in cited or []:
                print(f"  [{citing.shown_lines(row)}] {printable(row['text'])}", flush=True)
    else:
        for piece in session.stream(question, raw=how.raw, **how.sampling):
            print(piece, end="", flush=True)
        print(flush=True)
    if how.usage:
        _show_usage(session.last_usage, how)
    how.computed = 0  # the next question finds all of it cached


def _cited(session: Session, question: str, ids: list[int], how: How) -> list[dict[str, Any]]:
    return citing.citations(session, question, ids, how.raw)


def _json(text: str, usage: Usage, how: How, cited: list[dict[str, Any]] | None) -> dict[str, Any]:
    values = answer_json(text, usage, how.load_s, how.computed)
    if how.explanation is not None:
        values["explain"] = counted(how.explanation, how.computed)
    if how.library is not None:
        values["library"] = how.library
    if cited is not None:
        values["citations"] = cited
    return values


def answer_json(text: str, usage: Usage, load_s: float, computed: int = 0) -> dict[str, Any]:
    """The object of `gf ask --json`; JSON Schema: docs/schemas/ask.json."""
    values = asdict(usage)
    values["document_tokens_cached"] -= computed
    values["document_tokens_computed"] = computed
    timings = {"load": load_s} | (values.pop("timings_s") or {})
    return {
        "schema_version": SCHEMA_VERSION,
        "answer": text,
        **values,
        "timings_s": {name: round(seconds, 6) for name, seconds in timings.items()},
    }


def _show_usage(usage: Usage, how: How) -> None:
    timings = usage.timings_s or {}
    decode_s = timings.get("decode", 0.0)
    rate = (
        f", {(usage.generated_tokens - 1) / decode_s:,.0f} tok/s" if decode_s > 0 and usage.generated_tokens > 1 else ""
    )
    print(
        f"{usage.document_tokens_cached - how.computed:,} document tokens from the cache, {how.computed} computed, "
        f"{usage.tail_tokens_replayed} replayed; {usage.question_tokens} question tokens in "
        f"{timings.get('question', 0.0):.3f} s; {usage.generated_tokens} generated in {decode_s:.3f} s{rate}; "
        f"load {how.load_s:.2f} s",
        file=sys.stderr,
    )


def prompt(session: Session, how: How) -> None:
    """Questions one after the other with the model loaded; an empty line or Ctrl-D ends."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  line editing and history for input()

    console.say(f"{session.cache.length:,} tokens cached. An empty line or Ctrl-D ends.")
    while True:
        try:
            if not sys.stdout.isatty():  # where input() would put it: that is for answers
                print("? ", end="", file=sys.stderr, flush=True)
            question = clean_text(input("? " if sys.stdout.isatty() else "").strip())
        except (EOFError, KeyboardInterrupt) as error:
            print(file=sys.stderr)
            if isinstance(error, EOFError):
                return
            raise
        if not question:
            return
        try:
            answer_question(session, question, how)
        except KeyboardInterrupt:
            print("\n(stopped)", file=sys.stderr)
        except BrokenPipeError:
            raise
        except Exception as error:  # of one question: the next one may do
            console.error(error)


def say_path(session: Session) -> None:
    """With -v: how the document is attended to, and what runs the layers."""
    console.detail(f"{session.chosen_path}; layers run on {session.model.layer_backend()}")
