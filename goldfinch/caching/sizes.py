"""How large a cache file will be, before anything is computed.

Notation: T tokens, C d_model, R = C / compression_ratio. The sections are those of `sections.pack`; everything
but the token ids is stored at a fixed rate, and those are compressed here to see their size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gfcache import Header, Section, layout
from gfcache.codecs import registry as codecs

from goldfinch.models.config import ModelConfig

from .numerics import Numerics

# A time stamp, a digest and a version as long as any: only their lengths count.
_CREATED_AT, _WRITER = "2026-01-01T00:00:00+00:00", "goldfinch-gf 0.0.0"


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
    config, tokens = ModelConfig.from_dict(identity["model"]["config"]), len(token_ids)
    dtype = str(numerics.compute_dtype)
    rows = _rows(config, tokens, dtype, checkpoints)
    id_dtype = "u16" if config.vocab_size <= 1 << 16 else "u32"
    ids = np.ascontiguousarray(token_ids, dtype=layout.NUMPY_DTYPES[id_dtype])
    codec, stored_bytes = "zstd", ids.nbytes
    if compress_ids and tokens:
        codec, stored = codecs.encode(ids.data.cast("B"), True)
        stored_bytes = len(stored)
    sections = [_section(layout.TOKEN_IDS, layout.TOKEN_IDS, id_dtype, (tokens,), 0, codec, stored_bytes)]
    offset = layout.align(stored_bytes)
    for name, kind, row_dtype, shape in rows:
        section = _section(name, kind, row_dtype, shape, offset)
        sections.append(section)
        offset += layout.align(section.stored_bytes)
    template = identity["template"] | {"document_start": tokens, "document_end": tokens}
    header = Header(
        tokens, identity["model"], identity["tokenizer"], template, numerics.to_dict(), _CREATED_AT, _WRITER, source,
        sections=tuple(sections),
    )  # fmt: skip
    return layout.align(layout.HEADER_OFFSET + len(header.to_json())) + offset


def _rows(
    config: ModelConfig, tokens: int, dtype: str, checkpoints: Sequence[int]
) -> list[tuple[str, str, str, tuple[int, ...]]]:
    """(name, kind, dtype, shape) of every section but the token ids."""
    C, state_dtype = config.d_model, "f64" if dtype == "f64" else "f32"
    rows: list[tuple[str, str, str, tuple[int, ...]]] = []
    if config.n_gold:
        for start in range(0, tokens, layout.CHUNK_TOKENS):
            shape = (min(layout.CHUNK_TOKENS, tokens - start), config.d_compressed)
            rows.append((f"{layout.COMPRESSED_K}/{start}", layout.COMPRESSED_K, dtype, shape))
    attention = config.n_prefill - config.n_finch
    for position in (tokens, *checkpoints):
        suffix = "" if position == tokens else f"@{position}"
        if config.n_finch:
            state = (config.n_finch, C // config.head_dim, config.head_dim, config.head_dim)
            rows.append((layout.WKV_STATE + suffix, layout.WKV_STATE, state_dtype, state))
            for kind in (layout.TIME_SHIFT_STATE, layout.CHANNEL_SHIFT_STATE):
                rows.append((kind + suffix, kind, dtype, (config.n_finch, C)))
        tail = (min(config.tail_length, position), C)
        rows.append((layout.TAIL_HIDDEN + suffix, layout.TAIL_HIDDEN, dtype, tail))
    for layer in range(config.n_finch, config.n_prefill):
        rows.append((f"{layout.ATTENTION_KV}/{layer}", layout.ATTENTION_KV, dtype, (2, tokens, C)))
    if attention and config.time_mix != "llama":
        for kind in (layout.ATTENTION_TIME_SHIFT_STATE, layout.ATTENTION_CHANNEL_SHIFT_STATE):
            rows.append((kind, kind, dtype, (attention, C)))
    return rows


def _section(
    name: str,
    kind: str,
    dtype: str,
    shape: tuple[int, ...],
    offset: int,
    codec: str = "raw",
    stored_bytes: int | None = None,
) -> Section:
    raw = math.prod(shape) * layout.DTYPES[dtype]
    stored = raw if stored_bytes is None else stored_bytes
    place = {"token_start": 0} if kind in layout.PER_TOKEN_KINDS else {"position": 0}
    return Section(name, kind, dtype, shape, codec, "prefill", True, offset, raw, stored, "0" * 64, **place)
