"""Choosing caches of the library: names, filters, order. The words are those of `hf cache`."""

from __future__ import annotations

import fnmatch
import operator
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from gfcache import Entry, Store

from .exits import CommandError
from .targets import entries_named, not_in_library
from .values import parse_age, parse_bytes, parse_count

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge, "<=": operator.le, "!=": operator.ne, ">": operator.gt, "<": operator.lt, "=": operator.eq,
}  # fmt: skip
# Sort keys: value, and whether large comes first unless the user says otherwise.
SORT_KEYS: dict[str, tuple[Callable[[Entry], Any], bool]] = {
    "used": (lambda e: e.last_used, True),
    "created": (lambda e: e.created_at, True),
    "size": (lambda e: e.bytes, True),
    "tokens": (lambda e: e.tokens or 0, True),
    "hits": (lambda e: e.hits, True),
    "name": (lambda e: e.source_name or "", False),
}
FILTER_HELP = "size>1g, tokens<=500, hits=0, used>7d, created<2h, name=*.md, model=gf-mini-4, tag=kb, pinned=yes"


def parse_filter(text: str) -> Callable[[Entry], bool]:
    """A condition such as `size>1g`.

    Raises:
        CommandError: it cannot be understood.
    """
    match = re.fullmatch(r"\s*([a-z]+)\s*(>=|<=|!=|>|<|=)\s*(.+?)\s*", text)
    if match is None:
        raise CommandError(f"--filter is {text!r}, expected a condition", hint=f"for instance {FILTER_HELP}")
    key, sign, value = match.groups()
    compare, now = _COMPARE[sign], time.time()
    if key == "size":
        size = parse_bytes(value, f"--filter {key}")
        return lambda e: compare(e.bytes, size)
    if key in ("tokens", "hits"):
        number = parse_count(value, f"--filter {key}")
        return lambda e: compare((e.tokens or 0) if key == "tokens" else e.hits, number)
    if key in ("used", "created"):
        age = parse_age(value, f"--filter {key}")
        return lambda e: compare(now - (e.last_used if key == "used" else e.created_at), age)
    if sign not in ("=", "!="):
        raise CommandError(f"--filter is {text!r}: {key} takes = or !=", hint=f"for instance {FILTER_HELP}")
    equal = sign == "="
    if key == "pinned":
        if value not in ("yes", "no"):
            raise CommandError(f"--filter is {text!r}, expected pinned=yes or pinned=no")
        return lambda e: (e.pinned == (value == "yes")) == equal
    if key == "tag":
        return lambda e: (value in e.tags) == equal
    if key in ("name", "model"):
        return lambda e: fnmatch.fnmatchcase((e.source_name if key == "name" else e.model) or "", value) == equal
    raise CommandError(f"--filter has an unknown key {key!r}", hint=f"for instance {FILTER_HELP}")


def filtered(entries: Sequence[Entry], filters: Sequence[str]) -> list[Entry]:
    """The entries that meet all conditions."""
    conditions = [parse_filter(text) for text in filters]
    return [entry for entry in entries if all(holds(entry) for holds in conditions)]


def in_order(entries: Sequence[Entry], order: str) -> list[Entry]:
    """Entries sorted by `KEY`, `KEY:asc` or `KEY:desc`.

    Raises:
        CommandError: an unknown order.
    """
    key, _, direction = order.partition(":")
    if key not in SORT_KEYS or direction not in ("", "asc", "desc"):
        raise CommandError(f"--sort is {order!r}, allowed: {', '.join(SORT_KEYS)}, each with :asc or :desc")
    value, large_first = SORT_KEYS[key]
    return sorted(entries, key=value, reverse=large_first if not direction else direction == "desc")


def chosen(store: Store, entries: Sequence[Entry], targets: Sequence[str], filters: Sequence[str]) -> list[Entry]:
    """The entries that targets name, or that meet the filters when there are no targets.

    Targets are those of `entries_named`.

    Raises:
        CommandError: nothing given, a target that names none (exit 4) or several documents.
    """
    if not targets and not filters:
        raise CommandError(
            "no cache named", hint="name IDs or documents (gf cache ls shows them), or choose with --filter"
        )
    named: dict[str, Entry] = {}
    for target in targets:
        found = entries_named(store, entries, target)
        if not found:
            raise not_in_library(target)
        named |= {entry.name: entry for entry in found}
    return filtered(list(named.values()) if targets else entries, filters)
