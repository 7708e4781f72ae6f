"""What each codec makes of documents: bytes against error."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gfcache import Coding, layout
from gfcache.codecs import registry
from torch import Tensor

from goldfinch.caching.coding import coded
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.row_parts import Form
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.engine.prefill import prefill
from goldfinch.models.language_model import LanguageModel

from .choosing import LADDER
from .conditions import conditions
from .divergence import Yardstick

RAW = registry.RAW.name
# Keys alone, states alone, and what is offered together.
CODINGS = (
    *(Coding(name, RAW) for name in registry.serving(layout.COMPRESSED_K)),
    *(Coding(RAW, name) for name in registry.serving(layout.WKV_STATE)),
    *(coding for coding in LADDER if RAW not in (coding.rows, coding.state)),
)
# A document: its name, token ids (1, T), the (start, end) of its own.
Document = tuple[str, Tensor, tuple[int, int]]


def measure_codecs(
    model: LanguageModel,
    documents: Sequence[Document],
    codings: Sequence[Coding] = CODINGS,
    report: Callable[[dict[str, Any]], object] = lambda row: None,
) -> dict[str, Any]:
    """The record of `gf bench codecs`: a row per coding, its figures means over the documents.

    Args:
        report: gets what is known of each document as it is done.
    """
    if not documents:
        raise ValueError("no documents")
    found: dict[Coding, list[dict[str, float]]] = {coding: [] for coding in codings}
    for name, token_ids, own in documents:
        computed = prefill(model, token_ids, document_range=own)
        yardstick, raw_bytes = Yardstick(GoldFinchEngine(model), computed), _file_bytes(computed)
        for coding in codings:
            found[coding].append(_measured(yardstick, computed, coding, raw_bytes))
        report({"name": name, "tokens": computed.length, "raw_bytes": raw_bytes})
    rows = [_row(coding, figures) for coding, figures in found.items()]
    tokens = [token_ids.shape[1] for _, token_ids, _ in documents]
    head = {"schema_version": 1, "what": "codecs", "repeats": 1, "conditions": conditions(model)}
    return head | {"documents": len(documents), "tokens": tokens, "rows": rows}


def _file_bytes(cache: DocumentCache) -> int:
    return cache.file_bytes(Path("document.gfc"))


def _measured(yardstick: Yardstick, computed: DocumentCache, coding: Coding, raw_bytes: int) -> dict[str, float]:
    rounded = coded(computed, Form(coding))
    receipt, sizes = yardstick.receipt(rounded), _sizes(rounded)
    values = 0 if computed.compressed_k is None else computed.compressed_k.numel()
    return sizes | {
        "bits_per_value": 8 * sizes.pop("keys") / max(values, 1),
        "id_bits": 8 * sizes.pop("ids") / computed.length,
        "file_share": _file_bytes(rounded) / raw_bytes,
        "document_kl": receipt.document.mean_kl,
        "document_max_kl": receipt.document.max_kl,
        "document_flips": receipt.document.flips / receipt.document.positions,
        "questions_kl": receipt.questions.mean_kl,
        "channel_error": float(np.mean(receipt.channel_errors)) if receipt.channel_errors else 0.0,
    }


def _sizes(cache: DocumentCache) -> dict[str, float]:
    """Stored bytes of keys and ids, the share of the state's that are left, and the speeds of the keys' codec."""
    keys = ids = state = state_raw = 0
    encode_s = decode_s = 0.0
    raw_keys = 0
    for section in cache.packed():
        array = np.ascontiguousarray(section.array, layout.NUMPY_DTYPES[section.dtype])
        started = time.process_time()
        codec, stored = registry.encode(array, section.dtype, section.codec)
        encoded = time.process_time()
        if section.kind == layout.COMPRESSED_K:
            registry.decode(codec, bytes(stored), section.dtype, array.shape)
            encode_s, decode_s = encode_s + encoded - started, decode_s + time.process_time() - encoded
            keys, raw_keys = keys + len(stored), raw_keys + array.size
        elif section.kind == layout.TOKEN_IDS:
            ids += len(stored)
        elif section.position is not None:
            state, state_raw = state + len(stored), state_raw + array.nbytes
    speeds = {"encode_s": encode_s, "decode_s": decode_s, "keys_mb": 2e-6 * raw_keys}
    return {"keys": keys, "ids": ids, "state_share": state / max(state_raw, 1)} | speeds


def _row(coding: Coding, figures: list[dict[str, float]]) -> dict[str, Any]:
    """Means over the documents; speeds over all bytes; the worst of what has a worst."""
    total = {name: sum(one[name] for one in figures) for name in ("encode_s", "decode_s", "keys_mb")}
    row: dict[str, Any] = {"name": f"{coding.rows}, {coding.state}", "codec": coding.rows, "state_codec": coding.state}
    for name in figures[0]:
        if name not in total:
            take = max if name == "document_max_kl" else statistics.fmean
            row[name] = round(take(one[name] for one in figures), 6)
    for name in ("encode", "decode"):
        row[f"{name}_mb_s"] = round(total["keys_mb"] / max(total[f"{name}_s"], 1e-9), 1)
    return row
