"""Blocks that a file leaves to others which hold the same: the files are found, checked, and their sections joined.

A block is what its tokens are behind the same beginning, wherever it stands (SPEC, "Documents in blocks"). So a file
names the files that hold some of its blocks, its lenders, and finds each there by its token ids. A lender holds what it
lends itself: there are no chains.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from gfcache import layout
from gfcache.errors import CacheFormatError, DamagedCache, LenderMissing
from gfcache.files.places import seen_from

from .families.base import Group, Stands, named
from .families.registry import family_of
from .header import Header, Section
from .reader import CacheFile

Tokens = tuple[int, ...]
KEY_BYTES = 16


def lender_reference(lender: Path, digest: str, child: Path) -> dict[str, Any]:
    """What the header of a file at `child` says of one at `lender` that holds some of its blocks."""
    path = seen_from(child.parent, os.path.realpath(lender))
    return {"digest": digest, "name": lender.name, "path": path}


def kept_place(folder: Path, digest: str) -> Path:
    """Where a store, in `folder`, keeps a lender that another file took the place of."""
    return folder / digest[:2] / f"{digest[:40]}{layout.SUFFIX}"


def check_fits(file: CacheFile, other: CacheFile) -> None:
    """Refuse a base, or a lender, of another model, tokenizer, beginning or dtype (R13); it is closed then.

    Raises:
        DamagedCache.
    """
    own, theirs = file.header, other.header
    same = (
        own.model["prefill_fingerprint"] == theirs.model["prefill_fingerprint"]
        and own.tokenizer.get("fingerprint") == theirs.tokenizer.get("fingerprint")
        and own.template["prefix_fingerprint"] == theirs.template["prefix_fingerprint"]
        and own.model["config"] == theirs.model["config"]
        and own.model.get("layers") == theirs.model.get("layers")
        and own.compute_dtype == theirs.compute_dtype
        and own.first_token <= theirs.tokens
        and theirs.kept_rows is None
    )
    if not same:
        other.close()
        raise DamagedCache(file.path, "R13", f"{other.path.name} of another model or dtype", "this one's")


def block_tokens(file: CacheFile) -> tuple[Tokens, list[Tokens]]:
    """The tokens before the document, and those of each of its blocks, of a file in blocks."""
    ids = file.array(file.header.of_kind(layout.BLOCK_TOKEN_IDS)[0]).tolist()
    ends = [*accumulate(file.header.model["blocks"])]
    parts = [tuple(ids[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    return (parts[0], parts[1:]) if file.header.template["document_start"] else ((), parts)


def own_blocks(file: CacheFile) -> dict[Tokens, int]:
    """Where the rows of each block begin that a file in blocks holds itself, by its tokens."""
    _, blocks = block_tokens(file)
    rows = family_of(file.header.model).dimensions(file.header.model)
    own = set(rows.own_starts)
    starts = [*rows.rows_at][len(rows.blocks) - len(blocks) :]
    return {tokens: start for tokens, start in zip(blocks, starts, strict=True) if start in own}


def block_keys(prompt: Sequence[int], blocks: Sequence[Tokens]) -> list[bytes]:
    """What identifies each block among the caches of one model: SHA-256, shortened, of its tokens and those before."""
    before = hashlib.sha256(np.array([len(prompt), *prompt], "<u4").tobytes())
    keys = []
    for tokens in blocks:
        digest = before.copy()
        digest.update(np.array(tokens, "<u4").tobytes())
        keys.append(digest.digest()[:KEY_BYTES])
    return keys


@contextlib.contextmanager
def open_lenders(file: CacheFile) -> Iterator[list[CacheFile]]:
    """The lenders of a file, in their order: at the noted place seen from the file, beside it by name, or kept.

    Raises:
        LenderMissing: naming one.
        DamagedCache: one is damaged, of another model, or not in blocks (R13).
        NotACacheFile, UnsupportedVersion, UnsupportedSection: what lies there cannot be read.
    """
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(_open(file, noted)) for noted in file.header.lenders]
        for lender in found:
            check_fits(file, lender)
            if not lender.header.model.get("blocks"):
                raise DamagedCache(file.path, "R13", f"{lender.path.name} that is not in blocks", "one that is")
        yield found


def _open(file: CacheFile, noted: Mapping[str, Any]) -> CacheFile:
    folder, name, digest = file.path.parent, Path(noted["name"]).name, noted["digest"]
    places = (folder / noted["path"], folder / name, kept_place(folder.parent, digest))
    problem: CacheFormatError = LenderMissing(file.path, noted["path"], digest)
    for place in dict.fromkeys(places):
        try:
            lender = CacheFile(place)
        except OSError:
            continue
        except CacheFormatError as error:
            problem = error
            continue
        if lender.header.digest == digest:
            return lender
        lender.close()
    raise problem


def lent_blocks(file: CacheFile, lenders: Sequence[CacheFile]) -> dict[int, tuple[CacheFile, int]]:
    """Who holds each block that is lent to a file, and where its rows begin there, by where they begin here.

    Args:
        lenders: from `open_lenders`.

    Raises:
        DamagedCache: a lender does not hold a block that it is to lend, behind the same beginning (R13).
    """
    found: dict[int, tuple[CacheFile, int]] = {}
    if not lenders:
        return found
    prompt, blocks = block_tokens(file)
    for lender in lenders:
        if block_tokens(lender)[0] != prompt:
            raise DamagedCache(file.path, "R13", f"{lender.path.name} with another beginning", "the same tokens")
    held = [own_blocks(lender) for lender in lenders]
    rows = family_of(file.header.model).dimensions(file.header.model)
    first = len(rows.blocks) - len(blocks)
    for number, start, tokens in zip(rows.lent[first:], [*rows.rows_at][first:], blocks, strict=True):
        if number:
            there, name = held[number - 1].get(tokens), lenders[number - 1].path.name
            if there is None:
                raise DamagedCache(file.path, "R13", f"{name} without the block at row {start}", "that block")
            found[start] = (lenders[number - 1], there)
    return found


@contextlib.contextmanager
def whole_table(file: CacheFile) -> Iterator[list[tuple[Section, Callable[[], np.ndarray], bool]]]:
    """The sections that this version knows, as a file without lenders has them: each with what reads its values, and
    whether it is lent.

    Raises:
        as of `open_lenders` and `lent_blocks`.
    """
    header, family = file.header, family_of(file.header.model)
    own = {s.name: (s, partial(file.array, s), False) for s in header.sections if s.is_known}
    if not header.lenders:
        yield [*own.values()]
        return
    with open_lenders(file) as lenders:
        lent, rows = lent_blocks(file, lenders), list[tuple[Section, Callable[[], np.ndarray], bool]]()
        for described in family.sections(without_lenders(header).model, header.tokens, str(header.compute_dtype)):
            if described.name in own:
                rows.append(own.pop(described.name))
            elif family.by_name[described.kind].stands is Stands.BLOCKS:
                lender, there = lent[described.token_start or 0]
                section = lender.section(f"{named(described.kind, Group(described.layer, described.role))}/{there}")
                here = dataclasses.replace(section, name=described.name, token_start=described.token_start)
                rows.append((here, partial(lender.array, section), True))
        yield [*rows, *own.values()]


def without_lenders(header: Header) -> Header:
    """The header of a file that holds all of its blocks."""
    model = {name: value for name, value in header.model.items() if name != "lent"}
    return dataclasses.replace(header, model=model, lenders=())
