"""Cache files as somebody else could have written them: other fields or arrays, every checksum right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
from gfcache import SectionData, layout
from gfcache.format.writer import digests_of


def sections_of(path: Path) -> tuple[gfcache.Header, list[SectionData]]:
    """Header and sections of a file, as a writer takes them."""
    with gfcache.read_cache(path) as file:
        rows = [SectionData.of(section, file.array(section)) for section in file.header.sections]
        return file.header, rows


def craft(
    path: Path,
    out: Path,
    *,
    config: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    **fields: Any,
) -> Path:
    """Write `path` again at `out`.

    Args:
        config: fields of model.config to replace.
        arrays: values by section name.
        fields: fields of the header to replace.
    """
    header, rows = sections_of(path)
    model = header.model | {"config": header.model["config"] | dict(config or {})}
    arrays = arrays or {}
    rows = [replace(row, array=arrays.get(row.name, row.array)) for row in rows]
    if layout.ROW_DIGESTS not in arrays:
        digests = {item.kind: item.array for item in digests_of(rows)}
        rows = [replace(row, array=digests.get(row.kind, row.array)) for row in rows]
    gfcache.write_cache(out, replace(header, **({"model": model, "sections": ()} | fields)), rows)
    return out


def assemble(body: bytes, payload: bytes) -> bytes:
    start = layout.align(layout.HEADER_OFFSET + len(body))
    prefix = layout.PREFIX.pack(layout.MAGIC, 1, 0, len(body), start + len(payload), 0)
    padding = bytes(start - layout.HEADER_OFFSET - len(body))
    return prefix + hashlib.sha256(prefix + body).digest() + body + padding + payload
