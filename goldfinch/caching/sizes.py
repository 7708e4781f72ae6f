"""How large a cache file will be, before anything is computed.

The sections are those of the family's description (gfcache.format.families); everything but the token ids is stored at
a fixed rate. Those, and the index of the document, are compressed here to see their size. What codecs make of computed
values follows from a cache of the document's first tokens (`Rates`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gfcache import Coding, Header, Section, SectionData, layout
from gfcache.codecs import registry as codecs
from gfcache.format.convert import is_lossy
from gfcache.format.families.base import Described
from gfcache.format.families.registry import family_of, where_of

from goldfinch.policies.index import most_packed_bytes

from .numerics import Numerics
from .row_parts import LOSSLESS

# A time stamp, a digest and a version as long as any: only their lengths count.
_CREATED_AT, _WRITER, _SHA256 = "2026-01-01T00:00:00+00:00", "goldfinch-gf 0.0.0", "0" * 64


@dataclass(frozen=True)
class Rates:
    """What codecs make of the values of a document, measured on its beginning.

    Attributes:
        coding: the codecs.
        stored: by kind of section: stored bytes for each raw one.
    """

    coding: Coding
    stored: dict[str, float]

    @classmethod
    def of(cls, sections: Sequence[SectionData], coding: Coding, model: Mapping[str, Any]) -> Rates:
        """From the sections of a cache of these codecs, as they would be written; `model` as its header has it."""
        raw, stored = Counter[str](), Counter[str]()
        for section in sections:
            if coding.codec_of(section.kind, codecs.RAW.name) in codecs.LOSSY:
                raw[section.kind] += section.array.nbytes
                where = where_of(model, section, basis=section.basis)
                stored[section.kind] += len(codecs.encode(section.array, section.dtype, section.codec, where)[1])
        return cls(coding, {kind: stored[kind] / raw[kind] for kind in raw if raw[kind]})


def planned_bytes(
    identity: dict[str, Any],
    numerics: Numerics,
    source: dict[str, Any] | None,
    token_ids: np.ndarray,
    checkpoints: Sequence[int] = (),
    *,
    index: np.ndarray | None = None,
    document_range: tuple[int, int] | None = None,
    exactly: bool = True,
    rates: Rates | None = None,
) -> int:
    """Bytes of the cache file of a document.

    Args:
        identity, numerics, source: as the header will hold them (`identity_of`, `numerics_of`).
        token_ids: (T,) integers, the prompt prefix included.
        checkpoints: positions.
        index: the document's index as the file will hold it, or None.
        document_range: (start, end) of the document's own tokens; as many digits as there can be where it is not known.
        rates: of the codecs, where values are rounded.
        exactly: compress token ids and index to find their sizes; else an upper bound results, whatever the index.
    """
    tokens, offset = len(token_ids), 0
    model = identity["model"]
    if rates is not None:
        numerics = replace(numerics, rows_codec=rates.coding.rows, state_codec=rates.coding.state)
        numerics = replace(numerics, rows_basis=rates.coding.basis)
    described = family_of(model).sections(model, tokens, str(numerics.compute_dtype), checkpoints=checkpoints)
    coding = LOSSLESS if rates is None else rates.coding
    if any(row.kind == layout.COMPRESSED_K for row in described) and not is_lossy(coding.rows):
        described.append(_optional(layout.ROW_DIGESTS, (-(-tokens // layout.DIGEST_ROWS), layout.DIGEST_BYTES)))
    if index is not None or not exactly:
        index_bytes = most_packed_bytes(tokens) if index is None else len(index)
        described.append(_optional(layout.DOCUMENT_INDEX, (index_bytes,), codecs.ZSTD.name))
    sections: list[Section] = []
    for row in described:
        raw_bytes = math.prod(row.shape) * layout.DTYPES[row.dtype]
        codec, stored_bytes = coding.codec_of(row.kind, row.codec, at_end=row.position in (None, tokens)), raw_bytes
        if codec in (codecs.ZSTD.name, codecs.IDS.name) and exactly:
            values = index if row.kind == layout.DOCUMENT_INDEX else token_ids
            array = np.ascontiguousarray(values, dtype=layout.NUMPY_DTYPES[row.dtype])
            codec, stored = codecs.encode(array, row.dtype, codec)
            stored_bytes = len(stored)
        elif codec in codecs.LOSSY and rates is not None:
            stored_bytes = round(raw_bytes * rates.stored.get(row.kind, 1.0))
        facts = (row.name, row.kind, row.dtype, row.shape, codec, row.depends_on, row.required)
        places = (row.position, row.token_start, row.layer, row.role, row.rotated, coding.basis_for(codec))
        sections.append(Section(*facts, offset, raw_bytes, stored_bytes, _SHA256, *places))
        offset += layout.align(stored_bytes)
    start, end = document_range or (tokens, tokens)
    template = identity["template"] | {"document_start": start, "document_end": end}
    header = Header(
        tokens, identity["model"], identity["tokenizer"], template, numerics.to_dict(), _CREATED_AT, _WRITER, source,
        sections=tuple(sections),
    )  # fmt: skip
    return layout.align(layout.HEADER_OFFSET + len(header.to_json())) + offset


def _optional(kind: str, shape: tuple[int, ...], codec: str = codecs.RAW.name) -> Described:
    return Described(kind, kind, "u8", shape, "prefill", False, codec, None, None, None)
