"""What a shell completes behind an option or in place of an argument: told by what stands in its place in the help."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from .support import values

# A word, and what to know of it where a shell shows that.
Words = Iterator[tuple[str, str]]


def words_of(param: Any, incomplete: str) -> list[tuple[str, str]]:
    """The words that may stand for a parameter and begin so; none where files are meant, which the shell knows."""
    found: list[tuple[str, str]] = []
    with contextlib.suppress(Exception):  # a library or a model folder that is broken completes nothing
        found += [word for word in _all(param, incomplete) if word[0].startswith(incomplete)]
    return found


def _all(param: Any, incomplete: str) -> Words:
    metavar, name = str(param.metavar), (param.opts or [""])[-1]
    plain = {
        "DEVICE": ("auto", "cpu", "cuda", "cuda:0"),
        "DTYPE": values.DTYPES,
        "POLICY": values.POLICIES,
        "SHELL": ("bash", "zsh", "fish"),
        "CONDITION": ("size>", "tokens>", "hits=0", "used>", "created<", "name=", "model=", "tag=", "pinned=yes"),
        "P%": ("100%", "10%"),
    }
    if metavar in plain:
        yield from ((word, "") for word in plain[metavar])
    elif metavar == "DIR|NAME":
        yield from _models()
    elif metavar == "CODEC":
        yield from ((word, "") for word in _codecs(name))
    elif metavar.startswith("KEY["):
        from .support.filters import SORT_KEYS

        yield from ((f"{key}{end}", "") for key in SORT_KEYS for end in ("", ":asc", ":desc"))
    elif metavar == "TARGET..." or (metavar.startswith("CACHE") and incomplete):
        yield from _entries()
    elif name == "--task":
        from .commands.eval import TASKS

        yield from ((word, "") for word in TASKS)
    elif name == "--encoding":
        yield from ((word, "") for word in ("auto", "utf-8", "cp1251", "cp1252", "gb18030", "shift_jis", "utf-16"))
    elif "|" in metavar:
        yield from ((word, "") for word in metavar.split("|") if word.islower())


def _models() -> Words:
    from goldfinch.weights.directory import list_models

    return ((card.name, str(card.path)) for card in list_models())


def _codecs(option: str) -> Iterator[str]:
    from gfcache.codecs import registry

    yield registry.RAW.name
    yield from registry.serving("wkv_state") if option == "--state-codec" else registry.LOSSY


def _entries() -> Words:
    from .support.store import open_store

    with open_store() as store:
        for entry in store.entries():
            yield entry.id, entry.source_path or entry.source_name or ""
            if entry.source_name:
                yield entry.source_name, entry.id
