"""What sections must be for a header's configuration: dtypes, shapes, completeness (SPEC rules R11 to R13 and R16).

What a family of models stores follows from its description (`families`); here are the checks.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gfcache import layout
from gfcache.codecs import registry as codecs

from .families.base import Dimensions, Family, Group, Place, SectionKind, Stands, named, one_group
from .families.registry import family_of
from .header import Header, HeaderError, Section, demand


def check_table(header: Header) -> None:
    """Refuse a section table that breaks R11, R12 or R13. Sections that this version does not know are passed over.

    Raises:
        HeaderError: a rule does not hold.
    """
    family, dtype = family_of(header.model), header.compute_dtype
    dimensions = family.dimensions(header.model)
    for section in header.sections:
        if section.is_known:
            _check_storage(section)
            _check_values(header, family, dimensions, dtype, section)
    _check_tokens(header, family, dimensions)
    _check_states(header, family, dimensions)
    _check_kept(header, family, dimensions)


def _check_storage(section: Section) -> None:
    """R11: few dimensions, as many bytes as the shape says, stored plausibly."""
    # As in reading the header, words are made for faults alone.
    stored, raw, shape = section.stored_bytes, section.raw_bytes, section.shape
    if len(shape) > layout.MAX_DIMENSIONS:
        raise _fault("R11", section, f" of shape {shape!r:.60}", f"at most {layout.MAX_DIMENSIONS} dimensions")
    # numpy multiplies the axes that are not empty, and refuses what overflows.
    if math.prod(n or 1 for n in shape) >= 1 << 60:
        raise _fault("R11", section, f" of shape {shape!r:.60}", "below 2^60 values")
    expected = math.prod(shape) * layout.DTYPES[section.dtype]
    if raw != expected:
        raise _fault("R11", section, f" of {raw} bytes", f"{expected} from the shape")
    if section.codec == codecs.RAW.name:
        if stored != raw:
            raise _fault("R11", section, f" of {stored} bytes stored raw", raw)
    elif stored <= 0:
        raise _fault("R11", section, " compressed to nothing", "1 byte or more")
    limit = layout.MAX_EXPANSION * stored + layout.EXPANSION_SLACK_BYTES
    if raw > limit:
        raise _fault("R11", section, f" of {raw} bytes", f"at most {limit}")


def _check_values(
    header: Header, family: Family, dimensions: Dimensions, compute_dtype: str | None, section: Section
) -> None:
    """R12: dtype, shape, position and dependence of a section are those of its kind."""
    kind = family.by_name.get(section.kind)
    if kind is None:
        raise _fault("R12", section, f" of kind {section.kind}", f"one of {family.name} models")
    place = _place(header, section)
    dtypes = kind.dtypes(dimensions, compute_dtype, place)
    if section.dtype not in dtypes:
        raise _fault("R12", section, f" in {section.dtype}", " or ".join(dtypes))
    if kind.stands in (Stands.STATE, Stands.END):
        at = section.position
        if at is None or not 0 < at <= header.tokens:
            raise _fault("R12", section, f" at token {at}", f"1 to {header.tokens}")
    expected = None if kind.shape is None else kind.shape(dimensions, place)
    if expected not in (None, section.shape):
        raise _fault("R12", section, f" of shape {section.shape}", expected)
    depends_on = kind.depends_on(dimensions)
    if section.depends_on != depends_on:
        raise _fault("R12", section, f" that depends on {section.depends_on}", depends_on)
    if kind.required and not section.required:
        raise _fault("R12", section, " that is not required", "required")
    if section.codec in codecs.LOSSY and (
        section.codec not in codecs.serving(section.kind) or section.dtype not in layout.FLOAT_DTYPES
    ):
        raise _fault("R12", section, f" in codec {section.codec}", "one that may serve its kind")
    if (section.codec in codecs.BASED) != (section.basis is not None):
        raise _fault("R12", section, f" in codec {section.codec} with basis {section.basis!r:.20}", "both or neither")
    if section.basis is not None and header.kept_rows is not None:
        raise _fault("R12", section, f" in codec {section.codec} beside {layout.KEPT_POSITIONS}", "another")
    if section.rotated != kind.rotated:
        raise _fault("R12", section, f" with rotated {section.rotated}", kind.rotated)
    if section.kind == layout.ROW_DIGESTS:
        own = header.tokens - header.first_token if header.kept_rows is None else header.kept_rows
        expected = (-(-own // layout.DIGEST_ROWS), layout.DIGEST_BYTES)
        if section.shape != expected:
            raise _fault("R12", section, f" of shape {section.shape}", expected)
        demand(len(header.of_kind(section.kind)) == 1, "R12", f"several sections of kind {section.kind}", 1)


def _fault(rule: str, section: Section, found: str, expected: object) -> HeaderError:
    return HeaderError(rule, f"section {section.name!r}{found}", expected)


def _place(header: Header, section: Section) -> Place:
    at = section.position, section.token_start, section.layer, section.role
    return Place(header.tokens, header.first_token, *at, kept=header.kept_rows)


def expected_shape(header: Header, section: Section) -> tuple[int, ...] | None:
    """The shape that the configuration implies for a section (SPEC 3), None for kinds it does not fix."""
    family = family_of(header.model)
    kind = family.by_name.get(section.kind)
    if kind is None or kind.shape is None:
        return None
    return kind.shape(family.dimensions(header.model), _place(header, section))


def _check_tokens(header: Header, family: Family, dimensions: Dimensions) -> None:
    """R13: token ids are there once; chunks, if the model has them, cover the file's own part without gaps."""
    first, end = header.first_token, header.tokens if header.kept_rows is None else header.kept_rows
    for kind in family.standing(Stands.OWN_TOKENS, dimensions):
        found = header.of_kind(kind.kind)
        demand(len(found) == 1, "R13", f"{len(found)} {kind.kind} sections", 1)
        start = found[0].token_start
        demand((start or 0) == first, "R13", f"{kind.kind} from token {start}", first)
    for kind in (kind for kind in family.kinds if kind.stands is Stands.CHUNKS):
        by_group = defaultdict(list)
        for chunk in sorted(header.of_kind(kind.kind), key=lambda s: s.token_start or 0):
            by_group[_group(kind, chunk)].append(chunk)
        wanted = set(kind.groups(dimensions)) if kind.present(dimensions) else set()
        for group in {*by_group, *wanted}:
            covered, name = first, named(kind.kind, group)
            for chunk in by_group[group]:
                demand((chunk.token_start or 0) == covered, "R13", f"{name} from token {chunk.token_start}", covered)
                covered += chunk.shape[kind.row_axis]
            expected = end if group in wanted else first
            demand(covered == expected, "R13", f"{name} up to token {covered}", expected)
    for kind in (kind for kind in family.kinds if kind.stands is Stands.BLOCKS):
        _check_blocks(header, kind, dimensions)


def _check_kept(header: Header, family: Family, dimensions: Dimensions) -> None:
    """R12, R13: what was dropped is said once, in a file that stands alone, with nothing to resume from in it."""
    found, kind = header.of_kind(layout.KEPT_POSITIONS), family.by_name[layout.KEPT_POSITIONS]
    if not found:
        return
    names = sorted(named(kind.kind, _group(kind, section)) for section in found)
    expected = sorted(named(kind.kind, group) for group in kind.groups(dimensions))
    holds = kind.present(dimensions) and names == expected
    demand(holds, "R13", f"{len(found)} {kind.kind} sections", f"{len(expected)}, one for each group that has rows")
    shape, rows = found[0].shape, header.kept_rows or 0
    if expected_shape(header, found[0]) is not None:
        demand(0 < rows <= header.tokens, "R12", f"{rows} rows of each head", f"1 to {header.tokens}")
    else:
        holds = len(shape) == 2 and shape[1] == 2 and 0 < shape[0] <= rows <= header.tokens
        demand(holds, "R12", f"{kind.kind} of shape {shape!r:.60} beside {rows} rows", "(n, 2), n up to that")
    demand(header.parent is None, "R13", f"a parent beside {layout.KEPT_POSITIONS}", "none")
    at = {s.position for s in header.sections if s.is_known and s.position is not None}
    demand(at <= {header.tokens}, "R13", f"checkpoints beside {layout.KEPT_POSITIONS}", "none")


def _check_blocks(header: Header, kind: SectionKind, dimensions: Dimensions) -> None:
    """R13: each block of each group is there once, but for those that are lent, and no parent is."""
    found = sorted((named(kind.kind, _group(kind, s)), s.token_start or 0) for s in header.of_kind(kind.kind))
    starts = kind.starts(dimensions) if kind.present(dimensions) else ()
    groups = kind.groups(dimensions)
    wanted = len(starts) * len(groups)
    what = f"{len(found)} {kind.kind} sections"
    demand(len(found) == wanted, "R13", what, wanted)
    expected = sorted((named(kind.kind, group), start) for group in groups for start in starts)
    demand(found == expected, "R13", f"{kind.kind} of other blocks", "those of model.blocks")
    blocks, lent = header.model.get("blocks") or (), header.model.get("lent") or ()
    if blocks and kind.present(dimensions):
        demand(header.parent is None, "R13", f"a parent beside {kind.kind}", "none")
        prompt = header.template["document_start"]
        holds = prompt in (0, blocks[0]) or len(blocks) == 1
        demand(holds, "R13", f"a first block of {blocks[0]} rows", f"{prompt}, those before the document")
        demand(not (prompt and any(lent[:1])), "R13", "a lender of the rows before the document", "none")


def _check_states(header: Header, family: Family, dimensions: Dimensions) -> None:
    """R13: wherever a state stands, all of it stands there, once; and one stands at the end, if any does."""
    T = header.tokens
    found: dict[int, list[str]] = defaultdict(list)
    for section in header.sections:
        if section.is_known and family.by_name[section.kind].stands in (Stands.STATE, Stands.END):
            kind = family.by_name[section.kind]
            found[section.position or 0].append(named(section.kind, _group(kind, section)))
    by_layer = [kind for kind in family.kinds if kind.stands is Stands.LAYERS]
    has_layers = any(header.of_kind(kind.kind) for kind in by_layer)
    if not found and not has_layers:
        return  # a file to look at, as the example of SPEC 11: see CacheFile.check_complete
    needed = _names(family, Stands.STATE, dimensions)
    at_end = needed + _names(family, Stands.END, dimensions)
    for position in {*found, T}:
        kinds, expected = sorted(found[position]), sorted(at_end if position == T else needed)
        what = f"{', '.join(kinds) or 'no state':.200} at token {position}"
        demand(kinds == expected, "R13", what, ", ".join(expected))
    for kind in by_layer:
        # The configuration may claim 2^31 layers: their number is compared before their list is made.
        assert kind.layers is not None
        layers, wanted = sorted(s.layer or 0 for s in header.of_kind(kind.kind)), kind.layers(dimensions)
        holds = len(layers) == len(wanted) and layers == list(wanted)
        what = f"{len(wanted)} layers from {wanted.start} on"
        demand(holds, "R13", f"{kind.kind} of layers {layers!s:.100}", what)
        alone = len(found) == 1 and header.parent is None
        demand(alone or not layers, "R13", f"checkpoints or a parent beside {kind.kind}", "neither")


def _group(kind: SectionKind, section: Section) -> Group:
    """Of which layers a section is, where its kind tells them apart."""
    return Group() if kind.groups is one_group else Group(section.layer, section.role)


def _names(family: Family, stands: Stands, dimensions: Dimensions) -> list[str]:
    standing = family.standing(stands, dimensions)
    return [named(kind.kind, group) for kind in standing for group in kind.groups(dimensions)]


def row_digests(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """SHA-256 of each layout.DIGEST_ROWS rows of the chunks of compressed_k, (n, 32) uint8.

    Args:
        arrays: the chunks in order, as they are stored; all but the last hold a multiple of that many.
    """
    digests = [
        hashlib.sha256(np.ascontiguousarray(array[at : at + layout.DIGEST_ROWS]).data.cast("B")).digest()
        for array in arrays
        for at in range(0, len(array), layout.DIGEST_ROWS)
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, layout.DIGEST_BYTES)


def all_finite(array: np.ndarray, dtype: str) -> bool:
    """Whether an array holds no NaN or infinity (R16); bf16 as 16-bit words."""
    if dtype == "bf16":  # the exponent bits of NaN and infinity are all ones
        return not bool(((array & 0x7F80) == 0x7F80).any())
    return dtype not in layout.FLOAT_DTYPES or bool(np.isfinite(array).all())
