"""Documents that change: the tokens of a grown or shortened document, from what its cache holds.

The text of a cached document is decoded from its token ids, so the source file is not needed. The new text is tokenised
whole: its tokens are by construction those of a cold run, and `prefill(..., base=cache)` computes only what differs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import gfcache
import numpy as np

from goldfinch.errors import EmptyInput, GoldFinchError, TokenizerError

from .opening import Model, engine_of

# What an earlier change has added to the name.
_NOTE = re.compile(r" \((and .*|first \d+ (tokens|lines))\)$", re.DOTALL)

# Tokens (T,), document range and text of a document that grew or shrank.
Changed = tuple[np.ndarray, tuple[int, int], str]

# UTF-8 has at most four bytes of a character, and a token is at least one.
_MOST_TOKENS_OF_A_CHARACTER = 4


def document_token_ids(model: Model, text: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Tokens (T,) of a document as prefill takes them, and the (start, end) of its own (`Engine.document`)."""
    prompt = engine_of(model).document(text)
    return prompt.token_ids, prompt.document_range


def document_text(model: Model, cache: Any) -> str:
    """The text of a cached document.

    Raises:
        TokenizerError: the model has no tokenizer, or it does not give these tokens back (a cache of bare token ids).
    """
    tokenizer = engine_of(model).tokenizer
    if tokenizer is None:
        raise TokenizerError("this model has no tokenizer, so it cannot read the cached document")
    start, end = cache.document_range
    ids = cache.token_ids[start:end].tolist()
    text: str = tokenizer.decode(ids)
    if tokenizer.encode(text) != ids:
        raise TokenizerError("the cached tokens are not those of a text, so the document cannot be changed")
    return text


def appended(model: Model, cache: Any, more: str) -> Changed:
    """Tokens (T,), document range and text of the cached document with `more` behind it.

    Raises:
        EmptyInput: nothing to append.
    """
    if not more:
        raise EmptyInput("there is nothing to append")
    text = document_text(model, cache) + more
    return *document_token_ids(model, text), text


def truncated_to_token(model: Model, cache: Any, count: int) -> Changed:
    """Tokens (T,), document range and text of the first `count` tokens of the document.

    Where a character needs more tokens than one, and the last of these tokens is not its last one, it is left out:
    fewer tokens are kept.

    Raises:
        GoldFinchError: `count` is not between 1 and the tokens of the document.
    """
    start, end = cache.document_range
    if not 1 <= count <= end - start:
        raise GoldFinchError(f"cannot keep {count:,} tokens, allowed: 1 to {end - start:,}")
    tokenizer, ids = engine_of(model).tokenizer, cache.token_ids[start:end].tolist()
    whole, kept = tokenizer.decode(ids), count
    # Of a tokenizer that changes what comes before when more follows, no shorter beginning would do either.
    for fewer in range(count, max(count - _MOST_TOKENS_OF_A_CHARACTER, 0), -1):
        if whole.startswith(tokenizer.decode(ids[:fewer])):
            kept = fewer
            break
    end = start + kept
    return cache.token_ids[:end], (start, end), tokenizer.decode(ids[:kept])


def truncated_to_line(model: Model, cache: Any, count: int) -> Changed:
    """Tokens (T,), document range and text of the first `count` lines of the document.

    Raises:
        GoldFinchError: `count` is not between 1 and the lines of the document.
    """
    # Of the ends of lines that Unicode knows, files of text have one: what `head` and --cite count.
    lines = re.findall(r"[^\n]*\n|[^\n]+", document_text(model, cache))
    if not 1 <= count <= len(lines):
        raise GoldFinchError(f"cannot keep {count} lines, allowed: 1 to {len(lines)}")
    text = "".join(lines[:count])
    return *document_token_ids(model, text), text


def changed_source(cache: Any, text: str, note: str) -> dict[str, Any]:
    """Provenance of a document that no longer equals its source file: named after it, without its place."""
    data = text.encode()
    name = _NOTE.sub("", (cache.source or {}).get("name", "unknown"))
    return {
        "name": f"{name} ({note})",
        "path": None,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "modified_at": None,
    }


def is_truncated(source: Mapping[str, Any]) -> bool:
    """Whether a cache notes that the last change of its document left a beginning of it."""
    found = _NOTE.search(str(source.get("name", "")))
    return found is not None and found[1].startswith("first ")


def base_of(cache: Any, model: Model) -> Any:
    """The base that a cache file continues, and that its next version may continue, too; None for one that has none.

    Raises:
        gfcache.ParentMissing, gfcache.ParentChanged: it is gone, or another one now.
    """
    assert cache.path is not None
    with gfcache.read_cache(cache.path) as file:
        if file.header.parent is None:
            return None
        with gfcache.open_parent(file) as base:
            place = base.path
    return engine_of(model).open(place)
