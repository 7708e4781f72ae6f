"""What `gf inspect` shows of a cache file; JSON Schema: docs/schemas/inspect.json."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

from gfcache import layout
from gfcache.errors import DamagedCache

from .families.registry import PER_TOKEN_KINDS
from .header import Header, Section
from .reader import CacheFile
from .receipt import receipt_in
from .stored_rows import kept_in

SCHEMA_VERSION = 1


def inspect_cache(path: Path | str) -> dict[str, Any]:
    """Sizes, identity and sections of a file, from its header, its receipt and the list of rows that it keeps."""
    with CacheFile(path) as cache:
        try:
            receipt = receipt_in(cache)
        except DamagedCache:  # gf verify says so
            receipt = None
        try:
            kept = _kept(cache)
        except DamagedCache:
            kept = None
        found = _summary(cache.header, cache.file_bytes) | {"kept": kept}
        return found | {"path": str(path), "error_receipt": None if receipt is None else receipt.to_dict()}


def _kept(cache: CacheFile) -> dict[str, Any] | None:
    """Which rows a file keeps, where others were dropped."""
    runs, stored = kept_in(cache), cache.header.kept_rows
    if stored is None:
        return None
    sections = cache.header.of_kind(layout.KEPT_POSITIONS)
    sets = 1 if runs is not None else sum(section.shape[0] * section.shape[1] for section in sections)
    rows = stored if runs is None else sum(end - start for start, end in runs)
    who = cache.header.numerics.get("dropping")
    number = None if runs is None else len(runs)
    return {"policy": who, "rows": rows, "sets": sets, "runs": number, "stored_rows": stored}


def _summary(header: Header, bytes_total: int) -> dict[str, Any]:
    per_token = sum(s.stored_bytes for s in header.sections if s.kind in PER_TOKEN_KINDS)
    llama = llama_bytes_per_token(header.model["config"])
    own = (header.tokens - header.first_token) * _share_held(header)  # base and lenders hold the others
    # The index of a file with a parent is of the whole document.
    index = sum(s.stored_bytes for s in header.of_kind(layout.DOCUMENT_INDEX))
    bytes_per_token = (per_token - index) / own + index / header.tokens
    earlier = [s for s in header.sections if s.position is not None and s.position != header.tokens]
    return {
        "schema_version": SCHEMA_VERSION,
        "format_version": "{}.{}".format(*header.format_version),
        "tokens": header.tokens,
        "blocks": len(header.model.get("blocks") or ()) or None,
        "blocks_lent": sum(map(bool, header.model.get("lent") or ())),
        "bytes_total": bytes_total,
        "bytes_per_token": round(bytes_per_token, 3),
        "fixed_bytes": bytes_total - per_token,
        "checkpoints": sorted({s.position for s in earlier if s.position is not None}),
        "checkpoint_bytes": sum(s.stored_bytes for s in earlier),
        "llama_bytes_per_token": llama,
        "ratio_per_token": round(llama / bytes_per_token, 1),
        "ratio_total": round(llama * own / bytes_total, 1),
        "model": {k: header.model.get(k) for k in ("name", "model_type", "prefill_fingerprint", "model_fingerprint")}
        | {"config": header.model["config"]},
        "tokenizer": header.tokenizer,
        "template": header.template,
        "codecs": {s.kind: s.codec for s in header.sections},
        "numerics": header.numerics,
        "source": header.source,
        "parent": header.parent,
        "lenders": list(header.lenders),
        "created_at": header.created_at,
        "writer": header.writer,
        "digest": header.digest,
        "sections": [_row(section) for section in header.sections],
    }


def _share_held(header: Header) -> float:
    """Of the rows of a document in blocks, the share that is in the file; 1 where all is."""
    blocks, lent = header.model.get("blocks") or [1], header.model.get("lent") or [0]
    return max(sum(n for n, lender in zip_longest(blocks, lent, fillvalue=0) if not lender) / sum(blocks), 1e-9)


def _row(section: Section) -> dict[str, Any]:
    names = ("name", "kind", "dtype", "codec", "depends_on", "required", "raw_bytes", "stored_bytes")
    return {name: getattr(section, name) for name in names} | {"shape": list(section.shape)}


def llama_bytes_per_token(config: dict[str, Any]) -> int:
    """Bytes per token of a 16-bit key-value cache of a Llama of the same shape: 2 (K, V) x layers x width x 2."""
    return 4 * int(config["n_layer"]) * int(config["d_model"])
