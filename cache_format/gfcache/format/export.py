"""A cache as plain safetensors, and byte for byte copies of cache files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from gfcache import layout
from gfcache.files.replace import replacing_output

from .families.base import Group, named
from .families.registry import family_of
from .lenders import whole_table, without_lenders
from .parents import whole_array
from .reader import CacheFile

# safetensors' own names of dtypes; bf16 travels as 16-bit words until its name is put into the header.
_SAFETENSORS_DTYPES = {
    "f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16", "u8": "U8", "u16": "U16", "u32": "U32",
}  # fmt: skip
_COPY_BYTES = 1 << 20
_TAKEN = (layout.TOKEN_IDS, layout.COMPRESSED_K, "__metadata__")


def export_safetensors(path: Path | str, out: Path | str) -> None:
    """Write the sections of a cache, with those of bases and lenders, as one safetensors file (mode 0600), atomically.

    Per-token kinds are one tensor each (`token_ids`, `compressed_k`; `kv_keys/LAYER` for each group of layers), the
    others keep their section names (an apostrophe behind one that is taken). The header's facts are in the metadata
    under "gfc", as JSON.

    Raises:
        ParentMissing, ParentChanged, DamagedCache, CacheWriteError.
    """
    tensors: dict[str, tuple[np.ndarray, str]] = {}
    with CacheFile(path) as file, whole_table(file) as rows:
        family = family_of(file.header.model)
        for section, array, _ in rows:
            if family.by_name[section.kind].stands.continues:
                name = named(section.kind, Group(section.layer))
                if name not in tensors:
                    tensors[name] = whole_array(file, section.kind, section.layer)
            else:
                name = section.name
                while name in _TAKEN or name in tensors:  # a section may be called what something else is called here
                    name += "'"
                tensors[name] = (array(), section.dtype)
        facts = json.loads(without_lenders(file.header).to_json())
        del facts["sections"]
    table: dict[str, object] = {"__metadata__": {"gfc": json.dumps(facts)}}
    offset = 0
    for name, (values, dtype) in tensors.items():
        row = {"dtype": _SAFETENSORS_DTYPES[dtype], "shape": list(values.shape)}
        table[name] = row | {"data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)

    # Nobody else may read the file: it holds the document's token ids in clear.
    with replacing_output(out) as stream:
        stream.write(len(head).to_bytes(8, "little") + head)
        for values, _ in tensors.values():
            stream.write(np.ascontiguousarray(values).data.cast("B") if values.size else b"")


def copy_cache(path: Path | str, out: Path | str) -> None:
    """Copy a cache file byte for byte (mode 0600), atomically: its digest, and so its identity, stays.

    Raises:
        CacheLocked, CacheWriteError.
    """
    with replacing_output(out) as stream, open(path, "rb") as source:
        shutil.copyfileobj(source, stream, _COPY_BYTES)
