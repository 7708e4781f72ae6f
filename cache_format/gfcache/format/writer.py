"""Writing a cache file: all of it, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gfcache import layout
from gfcache.codecs import registry as codecs
from gfcache.errors import UnwritableCache
from gfcache.files.replace import replacing_output

from .families.base import Described
from .families.registry import where_of
from .header import Header, HeaderError, Section, demand, parse_header
from .rules import all_finite, row_digests


@dataclass(frozen=True)
class SectionData:
    """An array to store.

    Attributes:
        name, kind, dtype, depends_on, required, position, token_start, layer, role, rotated, basis: as in
            `header.Section`.
        array: the values; bf16 as 16-bit words.
        codec: to try; the values are stored exactly as they are, raw where it does not win.
    """

    name: str
    kind: str
    dtype: str
    array: np.ndarray
    depends_on: str = "prefill"
    required: bool = True
    position: int | None = None
    token_start: int | None = None
    layer: int | None = None
    codec: str = codecs.RAW.name
    role: str | None = None
    rotated: bool | None = None
    basis: str | None = None

    @classmethod
    def of(cls, section: Described | Section, array: np.ndarray) -> SectionData:
        """A section as the family describes it, or as a file has it, with its values."""
        facts = (section.depends_on, section.required, section.position, section.token_start, section.layer)
        basis = section.basis if isinstance(section, Section) else None
        more = section.codec, section.role, section.rotated, basis
        return cls(section.name, section.kind, section.dtype, array, *facts, *more)


def digests_of(data: Sequence[SectionData]) -> list[SectionData]:
    """The row_digests section of a file of these sections; none where it holds no compressed_k, or not raw."""
    rows = [item for item in data if item.kind == layout.COMPRESSED_K]
    if not rows or any(item.codec != codecs.RAW.name for item in rows):
        return []
    digests = row_digests([np.ascontiguousarray(item.array, layout.NUMPY_DTYPES[item.dtype]) for item in rows])
    return [SectionData(layout.ROW_DIGESTS, layout.ROW_DIGESTS, "u8", digests, required=False)]


def build_file(header: Header, data: Sequence[SectionData]) -> tuple[Header, list[bytes | memoryview]]:
    """Lay the file out: the finished header and the pieces to write, in order (SPEC 2).

    Raises:
        HeaderError: a header that no reader accepts (R4, R6 to R10), values that are not finite (R16).
    """
    sections: list[Section] = []
    stored_parts: list[bytes | memoryview] = []
    offset, dropped = 0, any(item.kind == layout.KEPT_POSITIONS for item in data)
    for item in data:
        array = np.ascontiguousarray(item.array, dtype=layout.NUMPY_DTYPES[item.dtype])
        demand(all_finite(array, item.dtype), "R16", f"NaN or infinity in {item.name!r}", "finite values")
        where = where_of(header.model, item, dropped=dropped, basis=item.basis)
        if item.codec in codecs.BASED:
            demand(where.basis is not None, "R12", f"{item.name!r} in codec {item.codec}", "a basis that is known here")
        codec, stored = codecs.encode(array, item.dtype, item.codec, where)
        sections.append(
            Section(
                name=item.name,
                kind=item.kind,
                dtype=item.dtype,
                shape=tuple(array.shape),
                codec=codec,
                depends_on=item.depends_on,
                required=item.required,
                offset=offset,
                raw_bytes=array.nbytes,
                stored_bytes=len(stored),
                sha256=hashlib.sha256(stored).hexdigest(),
                position=item.position,
                token_start=item.token_start,
                layer=item.layer,
                role=item.role,
                rotated=item.rotated,
                basis=item.basis if codec in codecs.BASED else None,
            )
        )
        padding = layout.align(len(stored)) - len(stored)
        stored_parts += [stored, bytes(padding)]
        offset += len(stored) + padding
    header = replace(header, sections=tuple(sections))
    try:
        body = header.to_json()
    except UnicodeEncodeError as error:  # the name of a file whose bytes are not UTF-8
        found = f"text {error.object[max(error.start - 20, 0) : error.end]!r}"
        raise HeaderError("R7", found, "Unicode characters") from error
    except RecursionError as error:
        raise HeaderError("R6", "deeper nesting", f"at most {layout.MAX_NESTING} levels") from error
    except ValueError as error:  # NaN, infinity
        raise HeaderError("R6", str(error), "finite numbers") from error
    limit = layout.MAX_HEADER_BYTES
    demand(len(body) <= limit, "R4", f"a header of {len(body):,} bytes", f"{limit:,}")
    payload_start = layout.align(layout.HEADER_OFFSET + len(body))
    prefix = layout.PREFIX.pack(
        layout.MAGIC, layout.FORMAT_MAJOR, layout.FORMAT_MINOR, len(body), payload_start + offset, 0
    )
    digest = hashlib.sha256(prefix + body).digest()
    parse_header(body, header.format_version, digest.hex())  # what it refuses, nobody could read
    padding = payload_start - layout.HEADER_OFFSET - len(body)
    parts: list[bytes | memoryview] = [prefix, digest, body, bytes(padding), *stored_parts]
    return replace(header, digest=digest.hex()), parts


def write_cache(
    path: Path | str,
    header: Header,
    data: Sequence[SectionData],
    *,
    follow: bool = True,
    noted: Callable[[str], None] | None = None,
) -> Header:
    """Write a cache file (mode 0600) atomically: lock, temporary file, fsync, rename.

    Args:
        follow: write a link where it leads; else the file takes its place.
        noted: gets the digest before the file is in its place, so that a file that is there was noted, whenever its
            writer is killed.

    Returns:
        the header as written, with its section table and digest.

    Raises:
        UnwritableCache: what no reader would accept; nothing is written.
        CacheLocked: another process writes this file now.
        CacheWriteError: the folder is missing or not writable, the disk is full, ...; an existing file is
            untouched and no temporary file stays behind.
    """
    path = Path(path)
    try:
        header, parts = build_file(header, data)
    except HeaderError as error:
        raise UnwritableCache(path, error.rule, error.found, error.expected) from error
    with replacing_output(path, follow=follow, needed_bytes=sum(map(len, parts))) as stream:
        for part in parts:
            stream.write(part)
        if noted is not None:
            noted(header.digest)
    return header
