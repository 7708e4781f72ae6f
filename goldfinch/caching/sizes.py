"""What a prefill will take before it runs: bytes of the file from the arithmetic of the format, seconds from a profile.

Notation: T tokens, C d_model, R = C / compression_ratio. The sections are those of `cache_sections.pack`; everything
but the token ids is stored at a fixed rate, and those are compressed here to see their size.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
from gfcache import Header, Section, layout
from gfcache.codecs import registry as codecs

from goldfinch.models.config import ModelConfig

# A time stamp, a digest and a version as long as any: only their lengths count.
_CREATED_AT, _WRITER = "2026-01-01T00:00:00+00:00", "goldfinch-gf 0.0.0"


def planned_bytes(
    identity: dict[str, Any],
    numerics: dict[str, Any],
    source: dict[str, Any] | None,
    token_ids: np.ndarray,
    checkpoints: Sequence[int] = (),
    *,
    compress_ids: bool = True,
) -> int:
    """Bytes of the cache file of a document.

    Args:
        identity, numerics, source: as the header will hold them (`cache.identity_of`, `cache.numerics_of`).
        token_ids: (T,) integers, the prompt prefix included.
        checkpoints: positions.
        compress_ids: find the size of the token ids by compressing them; else an upper bound of the file results.
    """
    config, tokens = ModelConfig.from_dict(identity["model"]["config"]), len(token_ids)
    dtype = str(numerics["compute_dtype"])
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
        tokens, identity["model"], identity["tokenizer"], template, numerics, _CREATED_AT, _WRITER, source,
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


@dataclass(frozen=True)
class MachineProfile:
    """How fast this machine pre-fills with one model in one precision.

    Attributes:
        tok_s: tokens per second of long documents.
        document_s: seconds that every document takes besides.
    """

    tok_s: float
    document_s: float

    def seconds(self, tokens: int) -> float:
        """Predicted time of one document."""
        return tokens / self.tok_s + self.document_s


def profile_key(model_fingerprint: str, numerics: dict[str, Any], processor: str) -> str:
    """What a measured speed holds for."""
    parts = [model_fingerprint[:16], *(str(numerics.get(n)) for n in ("device", "compute_dtype", "backend", "threads"))]
    return " / ".join([processor, *parts])


def profile_path() -> Path:
    """Where the profiles of this machine are kept."""
    return gfcache.default_root() / "machine-profile.json"


def read_profile(key: str) -> MachineProfile | None:
    """The stored profile; None when there is none, or the file is damaged."""
    try:
        values = json.loads(profile_path().read_text())[key]
        profile = MachineProfile(float(values["tok_s"]), float(values["document_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return profile if profile.tok_s > 0 and profile.document_s >= 0 else None


def write_profile(key: str, profile: MachineProfile) -> None:
    """Store a profile beside those of other models; OSError as the system says."""
    path = profile_path()
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    known[key] = {"tok_s": profile.tok_s, "document_s": profile.document_s}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with gfcache.temporary_beside(path) as (handle, temporary):
        with os.fdopen(handle, "w") as stream:
            json.dump(known, stream, indent=1)
        os.replace(temporary, path)
