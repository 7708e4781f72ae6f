"""How large a cache file will be, before anything is computed.

The sections are those of the family's description (gfcache.format.families); everything but the token ids is stored at
a fixed rate. Those, and the index of the document, are compressed here to see their size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gfcache import Header, Section, layout
from gfcache.codecs import registry as codecs
from gfcache.format.families.base import Described
from gfcache.format.families.registry import family_of

from goldfinch.policies.index import most_packed_bytes

from .numerics import Numerics

# A time stamp, a digest and a version as long as any: only their lengths count.
_CREATED_AT, _WRITER, _SHA256 = "2026-01-01T00:00:00+00:00", "goldfinch-gf 0.0.0", "0" * 64


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
) -> int:
    """Bytes of the cache file of a document.

    Args:
        identity, numerics, source: as the header will hold them (`identity_of`, `numerics_of`).
        token_ids: (T,) integers, the prompt prefix included.
        checkpoints: positions.
        index: the document's index as the file will hold it, or None.
        document_range: (start, end) of the document's own tokens; as many digits as there can be where it is not known.
        exactly: compress token ids and index to find their sizes; else an upper bound results, whatever the index.
    """
    tokens, offset = len(token_ids), 0
    model = identity["model"]
    described = family_of(model).sections(model, tokens, str(numerics.compute_dtype), checkpoints=checkpoints)
    if any(row.kind == layout.COMPRESSED_K for row in described):
        described.append(_optional(layout.ROW_DIGESTS, (-(-tokens // layout.DIGEST_ROWS), layout.DIGEST_BYTES)))
    if index is not None or not exactly:
        index_bytes = most_packed_bytes(tokens) if index is None else len(index)
        described.append(_optional(layout.DOCUMENT_INDEX, (index_bytes,), codecs.ZSTD.name))
    sections: list[Section] = []
    for row in described:
        raw_bytes = math.prod(row.shape) * layout.DTYPES[row.dtype]
        codec, stored_bytes = row.codec, raw_bytes
        if row.codec == codecs.ZSTD.name and exactly:
            values = index if row.kind == layout.DOCUMENT_INDEX else token_ids
            array = np.ascontiguousarray(values, dtype=layout.NUMPY_DTYPES[row.dtype])
            codec, stored = codecs.encode(array, row.dtype, row.codec)
            stored_bytes = len(stored)
        facts = (row.name, row.kind, row.dtype, row.shape, codec, row.depends_on, row.required)
        places = (row.position, row.token_start, row.layer, row.role, row.rotated)
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
