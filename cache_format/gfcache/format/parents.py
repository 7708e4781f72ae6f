"""Caches that continue a base cache: the parent is found, checked by its digest, and its part joined (SPEC 7)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from gfcache import layout
from gfcache.codecs.registry import LOSSY, RAW
from gfcache.errors import CacheFormatError, DamagedCache, ParentChanged, ParentMissing
from gfcache.files.places import seen_from

from .families.registry import family_of
from .header import Header, Section
from .lenders import check_fits, whole_table, without_lenders
from .reader import CacheFile
from .rules import row_digests
from .writer import SectionData, digests_of, write_cache

# Noted in numerics: the rounding that a file's own compressed_k has passed, and where in them it began anew.
ROWS_CODEC, ROWS_PARTS = "rows_codec", "rows_parts"


def parent_reference(base: CacheFile, tokens: int, child: Path) -> dict[str, Any]:
    """The header field of a file at `child` that continues the first `tokens` tokens of `base`."""
    path = seen_from(child.parent, os.path.realpath(base.path))
    return {"digest": base.header.digest, "tokens": tokens, "name": base.path.name, "path": path}


def open_parent(file: CacheFile) -> CacheFile:
    """The base cache of a file that has one: at the noted place seen from the file, else beside it by name.

    Raises:
        ParentMissing, ParentChanged: naming it.
        DamagedCache: it is damaged, or it is a cache of another model (R13).
        NotACacheFile, UnsupportedVersion, UnsupportedSection: what lies there cannot be read.
    """
    note = file.header.parent
    assert note is not None
    found: CacheFile | None = None
    problem: CacheFormatError | None = None
    for place in dict.fromkeys((file.path.parent / note["path"], file.path.parent / Path(note["name"]).name)):
        try:
            candidate = CacheFile(place)
        except OSError:
            continue
        except CacheFormatError as error:  # a foreign file at the noted place does not hide the base beside the child
            problem = problem or error
            continue
        if candidate.header.digest == note["digest"]:
            if found is not None:
                found.close()
            check_fits(file, candidate)
            return candidate
        if found is None:
            found = candidate
        else:
            candidate.close()
    if found is None:
        raise problem or ParentMissing(file.path, note["path"], note["digest"])
    digest = found.header.digest
    found.close()
    raise ParentChanged(file.path, note["path"], digest, note["digest"])


def ancestors(path: Path | str) -> list[Path]:
    """The base that a file continues, the base of that, and so on.

    Raises:
        those of `open_parent`.
        DamagedCache: more than layout.MAX_PARENTS (R13).
    """
    found: list[Path] = []
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(CacheFile(path))
        while file.header.parent is not None:
            if len(found) == layout.MAX_PARENTS:
                raise DamagedCache(path, "R13", f"more than {layout.MAX_PARENTS} parents", "fewer")
            file = stack.enter_context(open_parent(file))
            found.append(file.path)
    return found


def whole_array(file: CacheFile, kind: str, layer: int | None = None) -> tuple[np.ndarray, str]:
    """A per-token kind over all tokens of the document, the parents' part included, and its dtype name.

    Args:
        kind: one that a parent holds the beginning of: layout.TOKEN_IDS (1 axis), layout.COMPRESSED_K (rows), ...
        layer: of a kind that stacks layers in several groups: the first of the group.

    Raises:
        ParentMissing, ParentChanged, DamagedCache: see `ancestors`.
    """
    if file.header.parent is not None:
        ancestors(file.path)  # a chain that is too long is refused before any of it is read
    return _whole_array(file, kind, layer)


def _whole_array(file: CacheFile, kind: str, layer: int | None) -> tuple[np.ndarray, str]:
    sections = sorted(continuing(file.header, kind, layer), key=lambda s: s.token_start or 0)
    if not sections:
        raise DamagedCache(file.path, "R13", f"no {kind} section", "every section that the model needs")
    dtype = sections[0].dtype
    if any(section.dtype != dtype for section in sections):
        raise DamagedCache(file.path, "R13", f"{kind} in several dtypes", "one dtype")
    parts, axis = [file.array(section) for section in sections], _row_axis(file.header, kind)
    if file.header.parent is not None:
        with open_parent(file) as parent:
            inherited, parent_dtype = _whole_array(parent, kind, layer)
            if parent_dtype != dtype:
                raise DamagedCache(file.path, "R13", f"{kind} in {dtype}, its parent's in {parent_dtype}", "one dtype")
            parts.insert(0, rows_of(inherited, axis, 0, file.header.first_token))
    return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis)), dtype


def row_parts(file: CacheFile) -> list[tuple[int, str]]:
    """How the rows of a cache were rounded, its bases' included: (first token, codec) of each part.

    Each part was rounded for itself; "raw" is none. The parts are in the order of their tokens, without gaps.

    Raises:
        ParentMissing, ParentChanged, DamagedCache: see `ancestors`.
    """
    own = own_row_parts(file.header)
    if file.header.parent is None:
        return own
    with open_parent(file) as parent:
        return [(start, codec) for start, codec in row_parts(parent) if start < file.header.first_token] + own


def own_row_parts(header: Header) -> list[tuple[int, str]]:
    """Those of the rows that a file itself holds."""
    noted = header.numerics.get(ROWS_PARTS)
    if noted:
        return [(start, codec) for start, codec in noted]
    codec = header.numerics.get(ROWS_CODEC) or RAW.name
    rows = header.of_kind(layout.COMPRESSED_K) or header.of_kind(layout.KV_KEYS)
    return [(start, codec) for start in sorted({section.token_start or 0 for section in rows})]


def rows_of(array: np.ndarray, axis: int, start: int, end: int) -> np.ndarray:
    """Rows `start` to `end` of an axis, as a view."""
    return array[(slice(None),) * axis + (slice(start, end),)]


def continuing(header: Header, kind: str, layer: int | None = None) -> list[Section]:
    """The sections of a per-token kind, of one group of layers where it stacks several."""
    return [s for s in header.of_kind(kind) if layer is None or s.layer == layer]


def _row_axis(header: Header, kind: str) -> int:
    found = family_of(header.model).by_name.get(kind)
    return 0 if found is None else found.row_axis


def verify_cache(path: Path | str, *, complete: bool = False) -> Header:
    """Read every section of a file and of the parents that it needs, and the blocks that are lent to it, with all
    checks, and return its header.

    Args:
        complete: also refuse a file from which no model can go on (`CacheFile.check_complete`).
    """
    with CacheFile(path) as cache:
        if complete:
            cache.check_complete()
        _verify(cache)
        if cache.header.parent is not None:
            ancestors(path)  # a chain that is too long is refused before any of it is read
            with open_parent(cache) as parent:
                _verify_chain(parent)
        return cache.header


def _verify_chain(cache: CacheFile) -> None:
    _verify(cache)
    if cache.header.parent is not None:
        with open_parent(cache) as parent:
            _verify_chain(parent)


def _verify(cache: CacheFile) -> None:
    for section in cache.header.sections:
        if section.is_known:
            cache.array(section)
        else:  # optional and unknown: the checksum is all that can be checked
            cache.stored(section)
    with whole_table(cache) as rows:
        for _, array, is_lent in rows:
            if is_lent:
                array()
    for section in cache.header.of_kind(layout.ROW_DIGESTS):
        if not np.array_equal(cache.array(section), row_digests(cache.arrays_of_kind(layout.COMPRESSED_K))):
            raise DamagedCache(cache.path, "R18", f"{section.name!r} that are not of its rows", "digests of its rows")


def flatten_cache(cache: CacheFile | Path | str, out: Path | str) -> Header:
    """Write a file that stands alone from one that continues a base cache; its source is then no file that there is.

    Blocks that are lent to a file are written into it; its source stays.

    Args:
        cache: the file, or its path.

    Raises:
        ParentMissing, ParentChanged, DamagedCache, CacheWriteError.
    """
    with contextlib.ExitStack() as stack:
        file = cache if isinstance(cache, CacheFile) else stack.enter_context(CacheFile(cache))
        family, data = family_of(file.header.model), list[SectionData]()
        joined: set[tuple[str, int | None]] = set()
        rows = stack.enter_context(
            whole_table(file)
        )  # without what is of a later version: it may not fit what is joined
        for section, array, _ in rows:
            if section.kind == layout.ROW_DIGESTS:
                continue  # of the file's own rows: made anew for all of them
            if not family.by_name[section.kind].stands.continues:
                data.append(SectionData.of(section, array()))
            elif (section.kind, section.layer) not in joined:
                joined.add((section.kind, section.layer))
                data += _joined(file, section.kind, section.layer)
        if file.header.of_kind(layout.ROW_DIGESTS):
            data += digests_of(data)
        header = without_lenders(file.header)
        header = dataclasses.replace(header, source=_joined_source(file.header), parent=None, sections=())
        parts = row_parts(file) if file.header.parent is not None else []
        if any(codec in LOSSY for _, codec in parts):  # the sections no longer tell where a rounding began
            header = dataclasses.replace(header, numerics=header.numerics | {ROWS_PARTS: [list(p) for p in parts]})
        return write_cache(out, header, data)


def _joined_source(header: Header) -> dict[str, Any] | None:
    """Provenance of base and document together: under the document's own, questions about it alone would find this."""
    if header.parent is None:
        return header.source
    name = (header.source or {}).get("name") or "unknown"
    return {"name": f"{name} behind {header.parent['name']}"} | dict.fromkeys(
        ("path", "sha256", "bytes", "modified_at")
    )


def _joined(file: CacheFile, kind: str, layer: int | None) -> list[SectionData]:
    array, _ = whole_array(file, kind, layer)
    header, axis = file.header, _row_axis(file.header, kind)
    described = family_of(header.model).sections(
        header.model, header.tokens, str(header.compute_dtype), kept=header.kept_rows
    )
    data = []
    first = continuing(header, kind, layer)[0]
    own = first.codec  # the others may be stored raw, where that wins
    for section in (section for section in described if section.kind == kind and section.layer == layer):
        start, codec = section.token_start or 0, own if own in LOSSY else section.codec
        values = rows_of(array, axis, start, start + section.shape[axis])
        data.append(dataclasses.replace(SectionData.of(section, values), codec=codec, basis=first.basis))
    return data
