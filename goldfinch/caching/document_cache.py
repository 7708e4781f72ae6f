"""The cache of one document: in memory, into a .gfc file, and back.

Saving and loading do not change what a question sees: values are stored in the dtype that they were computed in,
and the engine reads nothing but what is stored.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import gfcache
import numpy as np
from gfcache import Header, Receipt, SectionData, layout
from gfcache.files.places import seen_from
from gfcache.format.kept import tokens_stored
from gfcache.format.stored_rows import kept_in
from gfcache.format.writer import build_file
from gfkernels import arrays
from gfkernels.arrays import Host

from goldfinch import version
from goldfinch.devices import out_of_memory
from goldfinch.errors import DeviceError
from goldfinch.models.config import ModelConfig
from goldfinch.models.state import GoldDocument, ModelState, Ranges, Rows
from goldfinch.policies.dropping.named import Dropping
from goldfinch.policies.index import DocumentIndex
from goldfinch.text.documents import storable_name
from goldfinch.text.tokenizer import Tokenizer

from .checkpoint import Checkpoint
from .identity import check_belongs
from .kept_rows import KeptRows, common, rows_in
from .numerics import Numerics, check_parent_dtype, file_dtype
from .row_parts import RowParts, normal, parts_of
from .sections import RowsOnDevice, SectionReader, converted, index_section, numbers, pack, receipt_section

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from goldfinch.models.language_model import LanguageModel


@dataclass(repr=False)
class DocumentCache:
    """What prefill leaves of a document.

    Attributes:
        token_ids: (T,) int64, everything the layers saw: prompt prefix and document.
        compressed_k: (1, T, R) in the compute dtype, None for models without GOLD layers.
        state: layer states after token T (without a GOLD memory; `compressed_k` stands for it).
        tail_hidden: (1, min(K, T), C), residual stream after the prefill layers at the last K tokens.
        document_range: (start, end) of the document's own tokens.
        identity: fingerprints of model, tokenizer and template.
        numerics: how it was computed.
        source: name, sha256, bytes, modified_at of the document, or None.
        checkpoints: earlier positions to resume from, ascending.
        tokenizer: that its token ids are of, or None.
        index: its blocks and words as its file holds them, (bytes,) uint8, or None.
        receipt: what its codecs cost, where that was measured.
        row_parts: which codecs have rounded which rows of compressed_k.
        stored_rows: where `compressed_k` is None, the rows as they lie in the file, read when they are needed.
        kept: the (start, end) of the rows that questions read, where others were dropped; then these hold the N rows
            that are stored (`kept.KeptRows`).
        path: the file it was read from or saved to, or None.
        digest: of that file; one that was put in its place since has another.
    """

    token_ids: np.ndarray
    compressed_k: Tensor | None
    state: ModelState
    tail_hidden: Tensor
    document_range: tuple[int, int]
    identity: dict[str, Any]
    numerics: Numerics
    source: dict[str, Any] | None = None
    checkpoints: tuple[Checkpoint, ...] = ()
    tokenizer: Tokenizer | None = field(default=None, compare=False)
    index: np.ndarray | None = field(default=None, compare=False, repr=False)
    receipt: Receipt | None = field(default=None, compare=False)
    row_parts: RowParts = ()
    stored_rows: RowsOnDevice | None = field(default=None, compare=False, repr=False)
    kept: Ranges | None = field(default=None, repr=False)
    path: Path | None = field(default=None, compare=False)
    digest: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        name = (self.source or {}).get("name") or "a document"
        place = "" if self.path is None else f", in {str(self.path)!r}"
        return f"<DocumentCache: {self.length:,} tokens of {name!r}, {self.numerics.compute_dtype}{place}>"

    @property
    def length(self) -> int:
        """T: tokens in the cache."""
        return len(self.token_ids)

    @property
    def end(self) -> Checkpoint:
        """The end of the document as a position."""
        return Checkpoint(self.length, self.state, self.tail_hidden)

    @property
    def positions(self) -> tuple[Checkpoint, ...]:
        """Where a pre-fill may resume, ascending: checkpoints, and the end unless its state was rounded.

        None where rows were dropped: what goes on needs all of them.
        """
        if self.numerics.dropping is not None:
            return ()
        coding = self.numerics.coding
        rounded = coding.is_state_lossy or (coding.is_lossy and self.compressed_k is None)
        return self.checkpoints if rounded else (*self.checkpoints, self.end)

    @property
    def own_token_ids(self) -> np.ndarray:
        """(n,) int64, those of the document itself."""
        return self.token_ids[slice(*self.document_range)]

    def ids_on(self, device: torch.device | Host) -> Tensor:
        """All token ids (1, T) as the layers take them."""
        if isinstance(device, Host):
            return self.token_ids[None]  # type: ignore[return-value]
        import torch

        return torch.from_numpy(self.token_ids)[None].to(device)

    def document_index(self) -> DocumentIndex | None:
        """Its blocks and words, from its file where they belong to it; None without a tokenizer."""
        if self.tokenizer is None:
            return None
        found = DocumentIndex(self.tokenizer, self.own_token_ids, self.index)
        self.index = found.packed() if not found.from_packed else self.index
        return found

    def rows(self, *, whole: bool = True) -> Tensor | RowsOnDevice | None:
        """compressed_k, (1, N, R) of the rows that are stored; None for models without GOLD layers.

        Args:
            whole: read all of it now; else what lies in the file may stay there until it is asked for.
        """
        if self.stored_rows is not None and whole:
            self.compressed_k, self.stored_rows = self.stored_rows[:, :], None
        return self.compressed_k if self.stored_rows is None else self.stored_rows

    @property
    def row_count(self) -> int:
        """N: rows that are stored, T where none was dropped."""
        if self.kept is None:
            return next((layer.kept.count for layer in self.state.layers if layer.kept is not None), self.length)
        return len(tokens_stored(self.kept))

    @property
    def read_count(self) -> int:
        """Rows that questions read."""
        return self.row_count if self.kept is None else rows_in(self.kept)

    def on_device(self, device: torch.device | Host, *, whole: bool = True) -> GoldDocument:
        """What GOLD layers attend to, of a model that has them; arguments as of `rows`."""
        rows: Rows | None = self.rows(whole=whole)
        assert rows is not None
        rows = rows if self.kept is None else KeptRows(rows, self.kept, self.length)
        dropping = Dropping.of(self.numerics.dropping)
        slots = self.kept if dropping is not None and dropping.by_slot else None
        return GoldDocument(self.ids_on(device), rows, rows=self.kept, slots=slots)

    def held(self, rows: Ranges | None) -> Ranges | None:
        """Those of `rows` (None: of all rows) that were not dropped; None for all."""
        return rows if self.kept is None else self.kept if rows is None else common(rows, self.kept)

    def packed(self, first: int = 0) -> list[SectionData]:
        """Its sections, without its index.

        Args:
            first: tokens that a base holds; only what follows them is packed.
        """
        config, rows = ModelConfig.from_dict(self.identity["model"]["config"]), self.rows()
        assert not isinstance(rows, RowsOnDevice)
        checkpoints = (*self.checkpoints, self.end)
        sections = pack(config, self.token_ids, rows, checkpoints, first, coding=self.numerics.coding, kept=self.kept)
        return sections + ([] if self.receipt is None else [receipt_section(self.receipt)])

    def save(
        self,
        path: str | Path,
        *,
        created_at: str | None = None,
        parent: tuple[DocumentCache, int] | None = None,
        follow: bool = True,
        index: bool = True,
        noted: Callable[[str], None] | None = None,
    ) -> Header:
        """Write the cache to a file, atomically (mode 0600).

        Args:
            created_at: time stamp, UTC ISO 8601; now by default.
            parent: (base cache as opened from its file, tokens): store only what follows the first `tokens` tokens,
                which that file holds, and a reference to it.
            follow: write a link where it leads; else the file takes its place.
            index: also write its blocks and words, so that the first question finds them.
            noted: gets the digest before the file is in its place.

        Raises:
            gfcache.ParentMissing, gfcache.ParentChanged: the base's file is no longer there, or is another one now.
            CacheMismatch: the base was computed in another dtype.
            gfcache.CacheWriteError: the file could not be written; an existing one is untouched.
            gfcache.CacheLocked: another process writes this file now.
        """
        header, sections = self._laid_out(Path(path), created_at, parent, index=index)
        header = gfcache.write_cache(path, header, sections, follow=follow, noted=noted)
        self.path, self.digest = Path(path), header.digest
        return header

    def channel_errors(self, computed: DocumentCache) -> tuple[float, ...]:
        """Root mean square of the error of each channel of compressed_k, (R,), relative to that of its values.

        Args:
            computed: the same cache, nothing of it rounded.

        Returns:
            none without rows.
        """
        rows = computed.compressed_k
        if rows is None or self.compressed_k is None:
            return ()
        if self.kept is not None:
            rows = rows[:, arrays.places_on(tokens_stored(self.kept), rows)]
        if isinstance(rows, np.ndarray):
            wrong, right = (self.compressed_k - rows).astype(np.float64), rows.astype(np.float64)
            sizes = np.maximum(np.sqrt(np.square(right).mean((0, 1))), np.finfo(np.float32).tiny)
            return tuple((np.sqrt(np.square(wrong).mean((0, 1))) / sizes).tolist())
        import torch

        error, size = (self.compressed_k - rows).double(), rows.double()
        least = torch.finfo(torch.float32).tiny
        ratio = error.square().mean((0, 1)).sqrt() / size.square().mean((0, 1)).sqrt().clamp_min(least)
        return tuple(ratio.tolist())

    def file_bytes(self, path: Path) -> int:
        """Bytes of its file at `path`, which is not written."""
        return sum(map(len, build_file(*self._laid_out(path))[1]))

    def _laid_out(
        self,
        path: Path,
        created_at: str | None = None,
        parent: tuple[DocumentCache, int] | None = None,
        *,
        index: bool = True,
    ) -> tuple[Header, list[SectionData]]:
        """Header and sections of its file; arguments and errors as of `save`."""
        header, first = header_of(self, Path(path), file_dtype(self.tail_hidden.dtype), created_at), 0
        if parent is not None:
            base, first = parent
            check_parent_dtype(base.numerics, header.numerics["compute_dtype"])
            header = replace(header, parent=reference_to(base, first, Path(path)))
        elif self.row_parts != parts_of(self.numerics.coding, self.row_count):
            # A base was rounded, or a journal will be.
            parts = [list(part) for part in self.row_parts]
            header = replace(header, numerics=header.numerics | ({"rows_parts": parts} if parts else {}))
        try:
            sections = self.packed(first)
        except out_of_memory() as error:
            raise DeviceError(f"not enough memory to save the cache of {self.length} tokens") from error
        if index:
            self.document_index()
            sections += [] if self.index is None else [index_section(self.index)]
        return header, sections


class Kept(Protocol):
    """What all caches in memory are, whatever model made them; fields as of `DocumentCache`."""

    token_ids: np.ndarray
    identity: dict[str, Any]
    numerics: Numerics
    document_range: tuple[int, int]
    source: dict[str, Any] | None
    path: Path | None
    digest: str | None

    @property
    def length(self) -> int: ...


def header_of(cache: Kept, path: Path, dtype: str, created_at: str | None = None) -> Header:
    """The header of a cache to be written, without its sections.

    Args:
        path: of the file.
        dtype: that its values are written in; opened in another dtype, it is written in that.
        created_at: as of `DocumentCache.save`.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    start, end = cache.document_range
    return Header(
        tokens=cache.length,
        model=cache.identity["model"],
        tokenizer=cache.identity["tokenizer"],
        template=cache.identity["template"] | {"document_start": start, "document_end": end},
        numerics=replace(cache.numerics, compute_dtype=dtype).to_dict(),
        source=source_seen_from(path, cache.source),
        created_at=created_at or now,
        writer=f"goldfinch-gf {version.__version__}",
    )


def source_seen_from(path: Path, source: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a cache file at `path` notes of its document: also where that lies from there, so that both can be moved."""
    if source is None or source.get("path") is None:
        return source
    return source | {"relative_path": storable_name(seen_from(path.parent, source["path"]))}


def reference_to(base: Kept, tokens: int, child: Path) -> dict[str, Any]:
    """The header field that names `base`, whose file must be the one that its values came from.

    Raises:
        gfcache.ParentMissing, gfcache.ParentChanged: it is not.
    """
    if base.path is None or base.digest is None:
        raise ValueError("the base cache has no file yet: save it first")
    try:
        with gfcache.read_cache(base.path) as file:
            if file.header.digest == base.digest:
                return gfcache.parent_reference(file, tokens, child)
            raise gfcache.ParentChanged(child, str(base.path), file.header.digest, base.digest)
    except FileNotFoundError as error:
        raise gfcache.ParentMissing(child, str(base.path), base.digest) from error


def open_cache(path: str | Path, model: LanguageModel, *, asking: bool = False) -> DocumentCache:
    """Read a cache file for a model.

    Args:
        asking: for questions alone: checkpoints are left out, and rows that no question asks for stay in the file.

    Raises:
        gfcache.CacheFormatError: foreign, damaged or newer file.
        CacheMismatch: the cache belongs to another model, tokenizer or template.
        FileNotFoundError, PermissionError: as the system says.
    """
    with gfcache.read_cache(path) as file:
        return cache_in(file, model, asking=asking)


def cache_in(file: gfcache.CacheFile, model: LanguageModel, *, asking: bool = False) -> DocumentCache:
    """The cache in an open file; arguments and errors as of `open_cache`."""
    check_belongs(file.header, model)
    try:
        return _load(file, model, asking)
    except out_of_memory() as error:
        raise DeviceError(f"not enough memory on {model.device} for the cache {file.path}") from error


def _load(file: gfcache.CacheFile, model: LanguageModel, asking: bool) -> DocumentCache:
    header, config = file.header, model.config
    final = SectionReader(file, model, header.tokens).checkpoint()
    compressed_k, stored_rows = None, RowsOnDevice.of(file, model) if config.n_gold and asking else None
    if config.n_gold and stored_rows is None:
        rows = numbers(*gfcache.whole_array(file, layout.COMPRESSED_K), model)
        compressed_k = converted(rows, model, model.dtype, file, layout.COMPRESSED_K)[None]
    token_ids = gfcache.whole_array(file, layout.TOKEN_IDS)[0].astype(np.int64)
    for section in header.of_kind(layout.ROW_DIGESTS):
        file.stored(section)  # damage is refused, though rows that were read whole do not need them
    positions = [] if asking else sorted({s.position or 0 for s in header.of_kind(layout.TAIL_HIDDEN)})
    indexes = header.of_kind(layout.DOCUMENT_INDEX)
    return DocumentCache(
        token_ids=token_ids,
        compressed_k=compressed_k,
        state=final.state,
        tail_hidden=final.tail_hidden,
        document_range=(header.template["document_start"], header.template["document_end"]),
        identity={
            "model": header.model,
            "tokenizer": header.tokenizer,
            "template": {n: header.template[n] for n in ("prefix_fingerprint", "fingerprint") if n in header.template},
        },
        numerics=Numerics.from_dict(header.numerics | {"compute_dtype": header.compute_dtype}),
        source=header.source,
        checkpoints=tuple(SectionReader(file, model, p).checkpoint() for p in positions if p != header.tokens),
        tokenizer=model.tokenizer,
        index=file.array(indexes[0]).reshape(-1) if indexes else None,
        receipt=None if asking else gfcache.receipt_in(file),
        row_parts=normal(gfcache.row_parts(file)) if config.n_gold else (),
        stored_rows=stored_rows,
        kept=kept_in(file),
        path=file.path,
        digest=header.digest,
    )
