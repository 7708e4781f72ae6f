"""Reading a cache file without torch. Every length is checked against the file before anything is allocated."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import numpy as np

from gfcache import layout
from gfcache.codecs import registry as codecs
from gfcache.errors import BasisMissing, DamagedCache, NotACacheFile, UnsupportedSection, UnsupportedVersion
from gfcache.files.regular import NotRegular, open_regular

from .families.base import Stands
from .families.registry import KINDS, family_of, where_of
from .header import Header, HeaderError, Section, parse_header
from .kept import wrong_positions, wrong_runs
from .rules import all_finite, check_table


class CacheFile:
    """An open cache file: its header at once, its sections when asked for.

    Args:
        path: the file.

    Raises:
        FileNotFoundError, PermissionError: as the system says.
        NotACacheFile, DamagedCache, UnsupportedVersion, UnsupportedSection: see SPEC 5.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._stream = os.fdopen(open_regular(self.path, follow=True), "rb")  # a pipe or device may never end
        except NotRegular as error:
            raise NotACacheFile(self.path, b"") from error
        try:
            self.header, self._payload_start, self.file_bytes = self._read_header()
            self._check_sections()
        except HeaderError as error:
            self.close()
            raise DamagedCache(self.path, error.rule, error.found, error.expected) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> CacheFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _damaged(self, rule: str, found: object, expected: object) -> DamagedCache:
        return DamagedCache(self.path, rule, found, expected)

    def _read_header(self) -> tuple[Header, int, int]:
        size = os.fstat(self._stream.fileno()).st_size
        prefix = self._stream.read(layout.PREFIX.size)
        if prefix[: len(layout.MAGIC)] != layout.MAGIC:
            raise NotACacheFile(self.path, prefix)
        if size < layout.HEADER_OFFSET:
            raise self._damaged("R2", f"{size} bytes", f"at least {layout.HEADER_OFFSET}")
        _, major, minor, header_bytes, file_bytes, reserved = layout.PREFIX.unpack(prefix)
        if major > layout.FORMAT_MAJOR:
            raise UnsupportedVersion(self.path, major, layout.FORMAT_MAJOR)
        if major < 1 or reserved != 0:
            raise self._damaged("R2", f"version {major}, reserved {reserved}", "version 1 and 0")
        if file_bytes != size:
            raise self._damaged("R3", f"{size} bytes", f"{file_bytes} as the file declares")
        if header_bytes > layout.MAX_HEADER_BYTES or layout.HEADER_OFFSET + header_bytes > size:
            raise self._damaged(
                "R4", f"a header of {header_bytes} bytes", f"at most {layout.MAX_HEADER_BYTES}, inside the file"
            )
        stored_digest = self._stream.read(layout.DIGEST_BYTES)
        body = self._stream.read(header_bytes)
        digest = hashlib.sha256(prefix + body).digest()
        if digest != stored_digest:
            raise self._damaged("R5", f"header checksum {digest.hex()[:16]}", stored_digest.hex()[:16])
        payload_start = layout.align(layout.HEADER_OFFSET + header_bytes)
        padding = self._stream.read(min(payload_start, size) - layout.HEADER_OFFSET - header_bytes)
        if any(padding):
            raise self._damaged("R5", "bytes between header and payload", "zeros")
        return parse_header(body, (major, minor), digest.hex()), payload_start, size

    def _check_sections(self) -> None:
        end = 0
        for section in sorted(self.header.sections, key=lambda s: s.offset):
            if section.offset != end:
                raise self._damaged("R10", f"section {section.name!r} at {section.offset}", f"{end}, no gap or overlap")
            end = section.offset + layout.align(section.stored_bytes)
            if section.required and not section.is_known:
                self._refuse(section)
        if self._payload_start + end != self.file_bytes:
            raise self._damaged("R10", f"a payload of {self.file_bytes - self._payload_start} bytes", end)
        check_table(self.header)

    def _refuse(self, section: Section) -> NoReturn:
        known = (("kind", KINDS), ("dtype", tuple(layout.DTYPES)), ("codec", codecs.NAMES))
        field, supported = next((f, names) for f, names in known if getattr(section, f) not in names)
        raise UnsupportedSection(self.path, section.name, field, getattr(section, field), supported)

    def check_complete(self) -> None:
        """Refuse a file without any state (R13): it can be looked at, but no model can resume from it."""
        family = family_of(self.header.model)
        needed = family.standing(Stands.STATE, family.dimensions(self.header.model))
        if needed and not self.header.of_kind(needed[-1].kind):
            raise self._damaged("R13", f"no state and no {needed[-1].kind}", "those behind the last token")

    def section(self, name: str) -> Section:
        """The table row of that name; KeyError when absent."""
        for section in self.header.sections:
            if section.name == name:
                return section
        raise KeyError(name)

    def stored(self, section: Section) -> bytes:
        """The stored bytes, checksum verified (R14)."""
        self._stream.seek(self._payload_start + section.offset)
        data = self._stream.read(section.stored_bytes)
        digest = hashlib.sha256(data).hexdigest()
        if digest != section.sha256:
            raise self._damaged("R14", f"checksum of {section.name!r} {digest[:16]}", section.sha256[:16])
        if any(self._stream.read(layout.align(section.stored_bytes) - section.stored_bytes)):
            raise self._damaged("R14", f"bytes after section {section.name!r}", "zeros")
        return data

    def array(self, section: Section) -> np.ndarray:
        """The decoded values, read-only, in `section.shape`; bf16 as 16-bit words (R14 to R17, R19).

        Raises:
            BasisMissing: it was coded in a basis that nobody has offered (`offer_basis`).
        """
        stored = self.stored(section)
        try:
            dropped = self.header.kept_rows is not None
            where = where_of(self.header.model, section, dropped=dropped, basis=section.basis)
            if section.basis is not None and where.basis is None:
                raise BasisMissing(self.path, section.name, section.basis)
            raw = codecs.decode(section.codec, stored, section.dtype, section.shape, where)
        except ValueError as error:
            raise self._damaged(
                "R15", f"section {section.name!r}: {error}", "exactly the bytes of the table"
            ) from error
        array = np.frombuffer(raw, layout.NUMPY_DTYPES[section.dtype]).reshape(section.shape)
        if not all_finite(array, section.dtype):
            raise self._damaged("R16", f"NaN or infinity in {section.name!r}", "finite values")
        if section.kind == layout.KEPT_POSITIONS:
            problem = self._wrong_kept(array)
            if problem is not None:
                raise self._damaged("R19", *problem)
        vocab_size = self.header.tokenizer["vocab_size"]
        if section.kind in (layout.TOKEN_IDS, layout.BLOCK_TOKEN_IDS) and array.size and int(array.max()) >= vocab_size:
            raise self._damaged("R17", f"token id {int(array.max())}", f"below {vocab_size}")
        if section.kind == layout.BLOCK_PLACES:
            self._check_places(array)
        return array

    def _wrong_kept(self, array: np.ndarray) -> tuple[str, str] | None:
        """What of the rows that are left breaks R19, (found, expected), or None."""
        if array.ndim == 3:
            return wrong_positions(array, self.header.tokens)
        tail = max((s.shape[0] for s in self.header.of_kind(layout.TAIL_HIDDEN)), default=1)
        return wrong_runs(array, self.header.tokens, tail, self.header.kept_rows or 0)

    def _check_places(self, places: np.ndarray) -> None:
        """Ranges of the document's own tokens that have the rows of their blocks, or a few less (R17)."""
        template, counts = self.header.template, np.array(self.header.model["blocks"], np.int64)
        own = template["document_end"] - template["document_start"]
        lengths = places[:, 1::2].astype(np.int64) - places[:, ::2]
        added = counts - lengths.sum(1)
        if template["document_start"]:
            added[0] = 0  # those of the prompt, which has no place
        odd = (lengths < 0).any(1) | (places[:, 1::2] > own).any(1) | (added < 0) | (added > layout.MOST_ADDED)
        if odd.any():
            n = int(odd.argmax())
            raise self._damaged(
                "R17",
                f"block {n} of {counts[n]} rows at {places[n].tolist()}",
                f"ranges of {own} tokens, up to as many",
            )

    def rows(self, section: Section, first: int, last: int) -> np.ndarray:
        """Rows of a raw section of compressed_k, read-only, by the digests of row_digests (R16, R18).

        Read, and checked, is what the digests that cover them stand for; bf16 as 16-bit words.
        """
        size = layout.DIGEST_ROWS
        start, end = first // size * size, min(-(-last // size) * size, section.shape[0])
        row_bytes = section.raw_bytes // section.shape[0]
        data = os.pread(
            self._stream.fileno(), (end - start) * row_bytes, self._payload_start + section.offset + start * row_bytes
        )
        if len(data) != (end - start) * row_bytes:
            raise self._damaged("R3", f"{len(data)} bytes of {section.name!r}", (end - start) * row_bytes)
        number = ((section.token_start or 0) - self.header.first_token + start) // size
        for at in range(0, end - start, size):
            piece = memoryview(data)[at * row_bytes : (at + size) * row_bytes]
            if hashlib.sha256(piece).digest() != self._digests[number + at // size].tobytes():
                raise self._damaged("R18", f"rows of {section.name!r} from {start + at} on", "those of row_digests")
        array = np.frombuffer(data, layout.NUMPY_DTYPES[section.dtype]).reshape(end - start, *section.shape[1:])
        if not all_finite(array, section.dtype):
            raise self._damaged("R16", f"NaN or infinity in {section.name!r}", "finite values")
        return array[first - start : last - start]

    @functools.cached_property
    def _digests(self) -> np.ndarray:
        return self.array(self.header.of_kind(layout.ROW_DIGESTS)[0])

    def has_digests(self) -> bool:
        """Whether `rows` can read the rows of compressed_k: they are stored raw, and have digests."""
        chunks = self.header.of_kind(layout.COMPRESSED_K)
        raw = all(section.codec == codecs.RAW.name for section in chunks)
        return bool(chunks) and raw and bool(self.header.of_kind(layout.ROW_DIGESTS))

    def duplicate(self) -> CacheFile:
        """The same open file for one who keeps it longer; it is closed when nobody has it any more."""
        other = copy.copy(self)
        other._stream = os.fdopen(os.dup(self._stream.fileno()), "rb")
        weakref.finalize(other, other._stream.close)
        return other

    def arrays_of_kind(self, kind: str) -> list[np.ndarray]:
        """The arrays of one kind, in token order."""
        sections = sorted(self.header.of_kind(kind), key=lambda s: (s.token_start or 0, s.layer or 0))
        return [self.array(section) for section in sections]


def read_cache(path: Path | str) -> CacheFile:
    """Open a cache file and check its header, table and sizes. Sections are checked as they are read."""
    return CacheFile(path)
