"""How large a cache file will be, before anything is computed.

The sections are those of the family's description (gfcache.format.families); everything but the token ids is stored at
a fixed rate, and those are compressed here to see their size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gfcache import Header, Section, layout
from gfcache.codecs import registry as codecs
from gfcache.format.families.registry import family_of

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
    compress_ids: bool = True,
) -> int:
    """Bytes of the cache file of a document.

    Args:
        identity, numerics, source: as the header will hold them (`identity_of`, `numerics_of`).
        token_ids: (T,) integers, the prompt prefix included.
        checkpoints: positions.
        compress_ids: find the size of the token ids by compressing them; else an upper bound of the file results.
    """
    tokens, offset = len(token_ids), 0
    model = identity["model"]
    described = family_of(model).sections(model, tokens, str(numerics.compute_dtype), checkpoints=checkpoints)
    sections: list[Section] = []
    for row in described:
        raw_bytes = math.prod(row.shape) * layout.DTYPES[row.dtype]
        codec, stored_bytes = row.codec, raw_bytes
        if row.kind == layout.TOKEN_IDS and compress_ids:
            ids = np.ascontiguousarray(token_ids, dtype=layout.NUMPY_DTYPES[row.dtype])
            codec, stored = codecs.encode(ids.data.cast("B") if tokens else b"", row.codec)
            stored_bytes = len(stored)
        facts = (row.name, row.kind, row.dtype, row.shape, codec, row.depends_on, row.required)
        places = (row.position, row.token_start, row.layer, row.role, row.rotated)
        sections.append(Section(*facts, offset, raw_bytes, stored_bytes, _SHA256, *places))
        offset += layout.align(stored_bytes)
    template = identity["template"] | {"document_start": tokens, "document_end": tokens}
    header = Header(
        tokens, identity["model"], identity["tokenizer"], template, numerics.to_dict(), _CREATED_AT, _WRITER, source,
        sections=tuple(sections),
    )  # fmt: skip
    return layout.align(layout.HEADER_OFFSET + len(header.to_json())) + offset
