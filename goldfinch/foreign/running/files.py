"""The cache of a document made by a model of others: in memory, into a .gfc file, and back (SPEC, "Models of others").

Notation: T tokens, n layers of a group, H key-value heads, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import torch
from gfcache import SectionData, layout
from gfcache.format.families.base import Described, Group
from gfcache.format.families.transformers import TRANSFORMERS, Dimensions
from gfcache.format.lenders import lender_reference, without_lenders
from gfcache.format.writer import build_file
from torch import Tensor

from goldfinch.caching.document_cache import header_of, reference_to
from goldfinch.caching.numerics import Numerics, check_parent_dtype
from goldfinch.caching.row_parts import RowParts, normal, parts_of
from goldfinch.caching.sections import from_numpy, index_section, receipt_section, to_numpy
from goldfinch.errors import DeviceError
from goldfinch.policies.index import DocumentIndex
from goldfinch.weights.foreign_config import LayerShape

from .block_files import packed_part, prompt_state_in, stored_blocks
from .blocks import Blocks, lent_among
from .states import Held, SequenceState

# Kinds that hold keys, and those that hold values.
_KEYS = (layout.KV_KEYS, layout.WINDOW_KEYS)
_VALUES = (layout.KV_VALUES, layout.WINDOW_VALUES)


@dataclass
class ForeignCache:
    """What prefill leaves of a document.

    Attributes:
        token_ids: (T,) int64, everything the layers saw: prompt prefix and document.
        state: of all layers behind token T.
        document_range: (start, end) of the document's own tokens.
        identity: fingerprints of model, tokenizer and template, and what each layer keeps.
        numerics: how it was computed.
        source: name, sha256, bytes, modified_at of the document, or None.
        checkpoints: earlier positions to resume from, ascending, without the rows that `state` has; none of a model
            that can resume from any.
        path: the file it was read from or saved to, or None.
        digest: of that file.
        tokenizer: that its token ids are of, or None.
        index: its blocks and words as its file holds them, (bytes,) uint8, or None.
        receipt: what these cost, where that was measured.
        row_parts: which codecs have rounded which keys and values.
        kept: of each layer the positions (H, N) int64 of the rows that its heads keep, ascending, where others were
            dropped; None of a layer that lost none (`dropping.rows`).
        blocks: what the layers hold of each block, where the document is kept in blocks; `state` is then that behind
            the prompt's beginning, before the document.
    """

    token_ids: np.ndarray
    state: SequenceState
    document_range: tuple[int, int]
    identity: dict[str, Any]
    numerics: Numerics
    source: dict[str, Any] | None = None
    checkpoints: tuple[SequenceState, ...] = ()
    path: Path | None = field(default=None, compare=False)
    digest: str | None = field(default=None, compare=False)
    tokenizer: Any = field(default=None, compare=False)
    index: np.ndarray | None = field(default=None, compare=False, repr=False)
    row_parts: RowParts = ()
    blocks: Blocks | None = None
    kept: tuple[np.ndarray | None, ...] | None = field(default=None, compare=False, repr=False)
    receipt: gfcache.Receipt | None = field(default=None, compare=False)

    @property
    def length(self) -> int:
        """T: tokens in the cache."""
        return len(self.token_ids)

    @property
    def row_count(self) -> int:
        """N: rows that each head of a layer which keeps all of them holds, T where none was dropped."""
        return self.length - (0 if self.kept is None else self.state.dropped)

    @property
    def own_token_ids(self) -> np.ndarray:
        """The document's own tokens."""
        return self.token_ids[slice(*self.document_range)]

    @property
    def end(self) -> SequenceState:
        """The end of the document as a position to resume from."""
        return self.state

    def packed(self, first: int = 0) -> list[SectionData]:
        """Its sections, without its index; arguments as of `pack`."""
        return pack(self, first) + ([] if self.receipt is None else [receipt_section(self.receipt)])

    def channel_errors(self, computed: ForeignCache) -> tuple[float, ...]:
        """Errors of the channels of compressed_k: there is none."""
        return ()

    def file_bytes(self, path: Path) -> int:
        """Bytes of its file at `path`, which is not written."""
        return sum(map(len, build_file(*self._laid_out(path))[1]))

    def save(
        self,
        path: str | Path,
        *,
        created_at: str | None = None,
        parent: tuple[ForeignCache, int] | None = None,
        follow: bool = True,
        index: bool = True,
        noted: Callable[[str], None] | None = None,
        lenders: Sequence[ForeignCache] = (),
    ) -> gfcache.Header:
        """Write the cache to a file; arguments and errors as of `DocumentCache.save`. One in blocks has no parent.

        Args:
            lenders: caches in files, to which blocks are left that they hold: with the same numerics.
        """
        header, sections = self._laid_out(Path(path), created_at, parent, index=index, lenders=lenders)
        header = gfcache.write_cache(path, header, sections, follow=follow, noted=noted)
        self.path, self.digest = Path(path), header.digest
        return header

    def _laid_out(
        self,
        path: Path,
        created_at: str | None = None,
        parent: tuple[ForeignCache, int] | None = None,
        *,
        index: bool = True,
        lenders: Sequence[ForeignCache] = (),
    ) -> tuple[gfcache.Header, list[SectionData]]:
        """Header and sections of its file; arguments and errors as of `save`."""
        lent, used = ([], []) if self.blocks is None else lent_among(self.blocks, [one.blocks for one in lenders])
        if used:
            lent = [0] * bool(self.state.position) + lent
            leaving = replace(self, identity=self.identity | {"model": self.identity["model"] | {"lent": lent}})
            header, sections = leaving._laid_out(path, created_at, index=index)
            self.index = leaving.index
            named = [(one.path, one.digest) for one in (lenders[n] for n in used)]
            found = tuple(lender_reference(place, digest, path) for place, digest in named if place and digest)
            return replace(header, lenders=found), sections
        parent = parent if self.blocks is None else None
        header, first = header_of(self, Path(path), str(self.numerics.compute_dtype), created_at), 0
        if parent is None and self.row_parts != parts_of(
            self.numerics.coding, self.row_count, (), 0, layout.RANGE_TOKENS
        ):
            noted_parts = [list(part) for part in self.row_parts]  # a base's rows are in this file, too
            header = replace(header, numerics=header.numerics | ({"rows_parts": noted_parts} if noted_parts else {}))
        if parent is not None:
            base, first = parent
            check_parent_dtype(base.numerics, header.numerics["compute_dtype"])
            header = replace(header, parent=reference_to(base, first, Path(path)))
        try:
            sections = self.packed(first)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise DeviceError(f"not enough memory to save the cache of {self.length} tokens") from error
        if index and self.index is None and self.tokenizer is not None:
            blocks = None if self.blocks is None else self.blocks.places
            self.index = DocumentIndex(self.tokenizer, self.own_token_ids, blocks=blocks).packed()
        if index and self.index is not None:
            sections.append(index_section(self.index))
        return header, sections


def layers_json(shapes: Sequence[LayerShape]) -> list[dict[str, Any]]:
    """`model.layers` of a header."""
    rows = []
    for shape in shapes:
        row: dict[str, Any] = {"kind": shape.kind}
        if shape.kind in ("full", "sliding"):
            row |= {"kv_heads": shape.kv_heads, "head_dim": shape.head_dim, "value_dim": shape.value_dim}
        if shape.kind == "sliding":
            row["window"] = shape.window
        if shape.states:
            states = {role: {"shape": list(s), "dtype": shape.state_dtypes[role]} for role, s in shape.states.items()}
            row["states"] = states
        rows.append(row)
    return rows


def pack(cache: ForeignCache, first: int = 0) -> list[SectionData]:
    """The sections of a cache, as the family describes them.

    Args:
        first: tokens that a parent file holds; only the ones after it are packed.
    """
    model, coding = cache.identity["model"], cache.numerics.coding
    groups = Dimensions.of(model).members
    by_position = {state.position: state for state in (*cache.checkpoints, cache.state)}
    described = TRANSFORMERS.sections(
        model,
        cache.length,
        str(cache.numerics.compute_dtype),
        first_token=first,
        checkpoints=[state.position for state in cache.checkpoints if state.position > first],
        kept=None if cache.kept is None else cache.row_count,
    )
    rows = []
    for section in described:
        if section.kind == layout.TOKEN_IDS:
            array = cache.token_ids[first:]
        elif section.kind == layout.KEPT_POSITIONS:
            assert cache.kept is not None
            kept = [cache.kept[n] for n in groups[Group(section.layer)]]
            array = np.stack([positions for positions in kept if positions is not None])
        elif cache.blocks is not None:
            array = packed_part(section, cache.token_ids, cache.state, cache.blocks, groups)
        else:
            layers = groups[Group(section.layer, section.role)]
            array = to_numpy(_values(section, by_position[section.position or cache.length], layers))
        assert array.shape == section.shape, section.name
        codec = coding.codec_of(section.kind, section.codec)
        rows.append(replace(SectionData.of(section, array), codec=codec, basis=coding.basis_for(codec)))
    return rows


def _values(section: Described, state: SequenceState, layers: Sequence[int]) -> Tensor:
    """What a section holds: the layers of its group, stacked."""
    held = [state.layers[n] for n in layers]
    if section.role is not None:
        return torch.stack([one.states[section.role] for one in held])
    rows = slice(None)
    if section.token_start is not None:
        rows = slice(section.token_start, section.token_start + section.shape[2])
    parts = [one.keys if section.kind in _KEYS else one.values for one in held]
    return torch.stack([part[:, rows] for part in parts if part is not None])


def unpack(
    file: gfcache.CacheFile, *, device: torch.device, tokenizer: Any = None, asking: bool = False
) -> ForeignCache:
    """The cache in an open file, in memory of its own.

    Args:
        device: of the model.
        tokenizer: of the model, or None.
        asking: for questions alone: checkpoints are left out.

    Raises:
        gfcache.CacheFormatError: damaged, or its base is gone.
        DeviceError: not enough memory.
    """
    header, in_blocks = file.header, bool(file.header.model.get("blocks"))
    file.check_complete()
    try:
        positions = {s.position for s in header.sections if s.is_known and s.position is not None} - {header.tokens}
        earlier = [] if asking else sorted(positions)
        indexes = header.of_kind(layout.DOCUMENT_INDEX)
        return ForeignCache(
            token_ids=gfcache.whole_array(file, layout.TOKEN_IDS)[0].astype(np.int64),
            state=prompt_state_in(file, device) if in_blocks else _state(file, header.tokens, device),
            document_range=(header.template["document_start"], header.template["document_end"]),
            identity=identity_in(header),
            numerics=Numerics.from_dict(header.numerics | {"compute_dtype": header.compute_dtype}),
            source=header.source,
            checkpoints=tuple(_state(file, position, device) for position in earlier),
            path=file.path,
            digest=header.digest,
            tokenizer=tokenizer,
            receipt=None if asking else gfcache.receipt_in(file),
            index=file.array(indexes[0]).reshape(-1) if indexes else None,
            row_parts=normal(gfcache.row_parts(file)),
            blocks=stored_blocks(file, device) if in_blocks else None,
            kept=_kept(file),
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise DeviceError(f"not enough memory on {device} for the cache {file.path}") from error


def _kept(file: gfcache.CacheFile) -> tuple[np.ndarray | None, ...] | None:
    """Which rows each layer keeps; None where none was dropped."""
    header = file.header
    if header.kept_rows is None:
        return None
    found: list[np.ndarray | None] = [None] * len(header.model["layers"])
    groups = Dimensions.of(header.model).members
    for section in header.of_kind(layout.KEPT_POSITIONS):
        for n, rows in zip(groups[Group(section.layer)], file.array(section).astype(np.int64), strict=True):
            found[n] = rows
    return tuple(found)


def identity_in(header: gfcache.Header) -> dict[str, Any]:
    """What a file belongs to, as `Engine.identity` has it."""
    noted = ("prefix_fingerprint", "fingerprint")
    return {
        "model": without_lenders(header).model,
        "tokenizer": header.tokenizer,
        "template": {name: header.template[name] for name in noted if name in header.template},
    }


def _state(file: gfcache.CacheFile, position: int, device: torch.device) -> SequenceState:
    model = file.header.model
    parts: list[dict[str, Any]] = [{"states": {}} for _ in model["layers"]]
    for group, layers in Dimensions.of(model).members.items():
        for kind, stacked in _group_values(file, group, position).items():
            for n, values in zip(layers, stacked.to(device), strict=True):
                if kind == layout.LAYER_STATE:
                    parts[n]["states"][group.role] = values
                else:
                    parts[n]["keys" if kind in _KEYS else "values"] = values
    dropped = 0 if file.header.kept_rows is None else position - file.header.kept_rows
    return SequenceState(position, tuple(Held(**part) for part in parts), dropped)


def _group_values(file: gfcache.CacheFile, group: Group, position: int) -> Mapping[str, Tensor]:
    """The values of a group of layers by kind, (n, ...)."""
    header, found = file.header, {}
    if group.role is not None:
        kinds: tuple[str, ...] = (layout.LAYER_STATE,)
    elif header.model["layers"][group.layer]["kind"] == "full":
        if position != header.tokens:
            return {}  # no checkpoint is needed there: rows of the end have all that is before
        kinds = (layout.KV_KEYS, layout.KV_VALUES)
    else:
        kinds = (layout.WINDOW_KEYS, layout.WINDOW_VALUES)
    for kind in kinds:
        if kind in (layout.KV_KEYS, layout.KV_VALUES):
            found[kind] = from_numpy(*gfcache.whole_array(file, kind, group.layer))
            continue
        rows = [s for s in header.of_kind(kind) if (s.layer, s.role, s.position) == (*group, position)]
        if not rows:
            raise gfcache.DamagedCache(file.path, "R13", f"no {kind} at token {position}", "every state of the model")
        found[kind] = from_numpy(file.array(rows[0]), rows[0].dtype)
    return found
