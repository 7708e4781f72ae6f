"""A document cache as sections of a .gfc file, and back (cache_format/SPEC.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gfcache
import numpy as np
from gfcache import Coding, Receipt, SectionData, layout
from gfcache.format.families.base import Described
from gfcache.format.families.goldfinch import GOLDFINCH
from gfcache.format.stored_rows import StoredRows
from gfcache.format.writer import digests_of
from gfkernels import arrays
from gfkernels.arrays import Host

from goldfinch.models.config import ModelConfig
from goldfinch.models.state import GrowingBuffer, HeadRows, LayerState, ModelState, Ranges
from goldfinch.policies.dropping.named import Dropping

from .checkpoint import Checkpoint
from .numerics import file_dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from goldfinch.models.language_model import LanguageModel


def pack(
    config: ModelConfig,
    token_ids: np.ndarray,
    compressed_k: Tensor | None,
    checkpoints: Sequence[Checkpoint],
    first: int = 0,
    *,
    coding: Coding,
    kept: Ranges | None = None,
) -> list[SectionData]:
    """The sections of a cache, as the description of the family has them (gfcache.format.families).

    Args:
        config: of the model.
        token_ids: (T,) int64.
        compressed_k: (1, T, R), or the (1, N, R) that `kept` leaves; None for models without GOLD layers.
        checkpoints: ascending; the last one stands at the end of the document.
        first: tokens that a parent file holds; only the ones after it are packed.
        coding: the codecs to try; values are stored as they are.
        kept: the rows that questions read, where others were dropped.
    """
    *earlier, end = checkpoints
    described = GOLDFINCH.sections(
        {"config": config.to_dict()},
        end.position,
        file_dtype(end.tail_hidden.dtype),
        first_token=first,
        checkpoints=[c.position for c in earlier if c.position > first],  # the others are the parent's
        kept=_rows_left(kept, compressed_k, end),
    )
    by_position = {c.position: c for c in checkpoints}
    out: list[SectionData] = [] if kept is None else [_kept_section(kept)]
    for section in described:
        start = section.token_start or 0
        if section.kind == layout.TOKEN_IDS:
            packed = _checked(section, token_ids[start:])
        elif section.kind == layout.KEPT_POSITIONS:
            sets = [layer.kept.positions for layer in end.state.layers if layer.kept is not None]
            packed = _checked(section, np.stack(sets))
        elif section.kind == layout.COMPRESSED_K:
            assert compressed_k is not None
            packed = _packed(section, compressed_k[0, start : start + section.shape[0]])
        else:
            packed = _packed(section, _state_values(section, by_position[section.position or end.position]))
        at_end = section.position in (None, end.position)
        codec = coding.codec_of(section.kind, section.codec, at_end=at_end)
        out.append(replace(packed, codec=codec))
    return [*out, *digests_of(out)]


def _rows_left(kept: Ranges | None, compressed_k: Tensor | None, end: Checkpoint) -> int | None:
    """Rows that are stored where others were dropped."""
    if kept is not None and compressed_k is not None:
        return compressed_k.shape[1]
    return next((layer.kept.count for layer in end.state.layers if layer.kept is not None), None)


def _kept_section(kept: Ranges) -> SectionData:
    kind, runs = layout.KEPT_POSITIONS, np.array(kept, dtype=np.int64)
    return SectionData(kind, kind, "u32", runs, codec="zstd")


def index_section(packed: np.ndarray) -> SectionData:
    """The section of a document's index (`policies.index`)."""
    return SectionData(layout.DOCUMENT_INDEX, layout.DOCUMENT_INDEX, "u8", packed, required=False, codec="zstd")


def receipt_section(receipt: Receipt) -> SectionData:
    """The section of what the codecs of a cache cost."""
    kind, values = layout.ERROR_RECEIPT, receipt.to_array()
    return SectionData(kind, kind, "f64", values, depends_on="model", required=False)


def _packed(section: Described, values: Tensor) -> SectionData:
    assert file_dtype(values.dtype) == section.dtype, section.name
    return _checked(section, to_numpy(values))


def _checked(section: Described, array: np.ndarray) -> SectionData:
    assert array.shape == section.shape, section.name
    return SectionData.of(section, array)


# Kinds that stack one field of all recurrent layers, or of all attention layers.
_RECURRENT = {
    layout.WKV_STATE: "wkv_state",
    layout.TIME_SHIFT_STATE: "time_shift_state",
    layout.CHANNEL_SHIFT_STATE: "channel_shift_state",
}
_ATTENTION = {
    layout.ATTENTION_TIME_SHIFT_STATE: "time_shift_state",
    layout.ATTENTION_CHANNEL_SHIFT_STATE: "channel_shift_state",
}


def map_state(checkpoint: Checkpoint, change: Callable[[Tensor], Tensor]) -> Checkpoint:
    """A state and its tail with `change` made to what each of their sections holds; keys and values stay."""
    layers = list(checkpoint.state.layers)
    recurrent = [n for n, state in enumerate(layers) if state.wkv_state is not None]
    attention = [n for n, state in enumerate(layers) if state.keys.length and state.time_shift_state is not None]
    for fields, members in ((_RECURRENT, recurrent), (_ATTENTION, attention)):
        for name in fields.values() if members else ():
            changed = change(arrays.stacked([getattr(layers[n], name)[0] for n in members]))
            for n, values in zip(members, changed, strict=True):
                layers[n] = replace(layers[n], **{name: values[None]})
    state = replace(checkpoint.state, layers=tuple(layers))
    return Checkpoint(checkpoint.position, state, change(checkpoint.tail_hidden[0])[None])


def _state_values(section: Described, checkpoint: Checkpoint) -> Tensor:
    """What a described section holds of a state, without the axis of the batch."""
    kind, layers = section.kind, checkpoint.state.layers
    if kind == layout.TAIL_HIDDEN:
        return checkpoint.tail_hidden[0]
    if kind in _RECURRENT:
        return arrays.stacked([getattr(s, _RECURRENT[kind])[0] for s in layers if s.wkv_state is not None])
    if kind in _ATTENTION:
        return arrays.stacked([getattr(s, _ATTENTION[kind])[0] for s in layers if s.keys.length])
    assert kind == layout.ATTENTION_KV, kind
    assert section.layer is not None
    state = layers[section.layer]
    return arrays.stacked([state.keys.rows[0], state.values.rows[0]])  # (2, T, C)


def to_numpy(values: Tensor) -> np.ndarray:
    """A numpy array of the same bits; bf16 as 16-bit words."""
    if arrays.is_numpy(values):
        return np.ascontiguousarray(values)
    import torch

    values = values.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    return values.numpy()


def from_numpy(array: np.ndarray, dtype_name: str) -> Tensor:
    """The inverse of `to_numpy`; copies, for the array is a read-only view of file bytes."""
    import torch

    if dtype_name == "bf16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def numbers(array: np.ndarray, dtype_name: str, model: LanguageModel) -> Any:
    """Values of a section in the model's library, in the dtype of the file or, where numpy has none, a wider one."""
    if not isinstance(model.device, Host):
        return from_numpy(array, dtype_name)
    if dtype_name == "bf16":
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.copy()


def converted(values: Tensor, model: LanguageModel, dtype: Any, file: gfcache.CacheFile, name: str) -> Tensor:
    """Values of a section on the model's device in `dtype`; DamagedCache (R16) when one is too large for it."""
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):
            out = values.astype(dtype, copy=False)
        is_finite = out.dtype == values.dtype or bool(np.isfinite(out).all())
    else:
        out = values.to(model.device, dtype)
        is_finite = out.dtype == values.dtype or bool(out.isfinite().all())
    if not is_finite:
        raise gfcache.DamagedCache(
            file.path, "R16", f"{name} beyond what {str(dtype).removeprefix('torch.')} can hold", "finite values"
        )
    return out


class RowsOnDevice:
    """compressed_k (1, T, R) of an open cache file, of which ranges are read when they are taken; a `state.Rows`.

    Args:
        rows: in the file and its bases.
        model: on whose device, and in whose dtype, the ranges are.
        file: for messages.
    """

    def __init__(self, rows: StoredRows, model: LanguageModel, file: gfcache.CacheFile) -> None:
        self._rows, self._model, self._file = rows, model, file.duplicate()
        self.shape = (1, *rows.shape)
        self.dtype, self.device = model.dtype, model.device

    @classmethod
    def of(cls, file: gfcache.CacheFile, model: LanguageModel) -> RowsOnDevice | None:
        """Those of an open file; None where they can only be read whole."""
        rows = StoredRows.of(file)
        return None if rows is None else cls(rows, model, file)

    def __getitem__(self, index: tuple[slice | int, slice]) -> Tensor:
        """[:, start:end] -> (1, n, R), [0, start:end] -> (n, R)."""
        sequence, tokens = index
        start, end, _ = tokens.indices(self.shape[1])
        values = numbers(self._rows.read(start, end), self._rows.dtype, self._model)
        return converted(values, self._model, self.dtype, self._file, layout.COMPRESSED_K)[None][sequence]


def _accumulation_dtype(model: LanguageModel) -> Any:
    """Of wkv_state."""
    if isinstance(model.device, Host):
        return model.dtype
    from gfkernels.precision import accumulation_dtype

    return accumulation_dtype(model.dtype)


class SectionReader:
    """Sections of a file as tensors on the model's device.

    Args:
        file: the open file.
        model: the model that it belongs to.
        position: tokens before the state that is read: all of them, or those before a checkpoint.
    """

    def __init__(self, file: gfcache.CacheFile, model: LanguageModel, position: int) -> None:
        self._file, self._model, self._position = file, model, position
        config = model.config
        self._n_finch, self._n_attention = config.n_finch, config.n_prefill - config.n_finch

    def tensor(self, kind: str, dtype: torch.dtype | None = None) -> Tensor:
        """The values of a kind, its pieces joined in token order; DamagedCache (R13) when absent."""
        file = self._file
        sections = [s for s in file.header.of_kind(kind) if s.position in (None, self._position)]
        if not sections:
            raise gfcache.DamagedCache(file.path, "R13", f"no {kind} section", "every section that the model needs")
        sections.sort(key=lambda s: s.token_start or 0)
        parts = [numbers(file.array(s), s.dtype, self._model) for s in sections]
        joined = parts[0] if len(parts) == 1 else arrays.joined(parts)
        return converted(joined, self._model, dtype or joined.dtype, file, kind)

    def checkpoint(self) -> Checkpoint:
        """The state and the tail at the position; what belongs to GOLD layers is empty."""
        tail_hidden = self.tensor(layout.TAIL_HIDDEN, self._model.dtype)[None]
        states = self._finch_states() + self._attention_states()
        states += [LayerState() for _ in range(self._model.config.n_gold)]
        return Checkpoint(self._position, ModelState(tuple(states), self._position), tail_hidden)

    def _finch_states(self) -> list[LayerState]:
        if not self._n_finch:
            return []
        dtype, acc = self._model.dtype, _accumulation_dtype(self._model)
        wkv = self.tensor(layout.WKV_STATE, acc)
        time_shift = self.tensor(layout.TIME_SHIFT_STATE, dtype)
        channel_shift = self.tensor(layout.CHANNEL_SHIFT_STATE, dtype)
        return [LayerState(wkv[i][None], time_shift[i][None], channel_shift[i][None]) for i in range(self._n_finch)]

    def _attention_states(self) -> list[LayerState]:
        if not self._n_attention:
            return []
        file, dtype = self._file, self._model.dtype
        shifts = self._model.config.layer_kind(self._n_finch) != "llama"
        time_shift = self.tensor(layout.ATTENTION_TIME_SHIFT_STATE, dtype) if shifts else None
        channel_shift = self.tensor(layout.ATTENTION_CHANNEL_SHIFT_STATE, dtype) if shifts else None
        by_layer = {s.layer: s for s in file.header.of_kind(layout.ATTENTION_KV)}
        kept = self._kept_layers()
        out = []
        for n in range(self._n_attention):
            section = by_layer.get(self._n_finch + n)
            if section is None:
                raise gfcache.DamagedCache(file.path, "R13", f"no keys of layer {self._n_finch + n}", "one per layer")
            values = numbers(file.array(section), section.dtype, self._model)
            pair = converted(values, self._model, dtype, file, section.name)
            out.append(
                LayerState(
                    time_shift_state=None if time_shift is None else time_shift[n][None],
                    channel_shift_state=None if channel_shift is None else channel_shift[n][None],
                    keys=GrowingBuffer.of(pair[0][None]),
                    values=GrowingBuffer.of(pair[1][None]),
                    kept=None if kept is None else kept[n],
                )
            )
        return out

    def _kept_layers(self) -> list[HeadRows] | None:
        """The rows that the heads of each attention layer keep; None where none was dropped."""
        header = self._file.header
        found = [section for section in header.of_kind(layout.KEPT_POSITIONS) if len(section.shape) == 3]
        if not found:
            return None
        sets = self._file.array(found[0]).astype(np.int64)
        dropping = Dropping.of(header.numerics.get("dropping"))
        return [HeadRows(one, header.tokens, dropping is not None and dropping.by_slot) for one in sets]
