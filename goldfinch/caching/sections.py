"""A document cache as sections of a .gfc file, and back (cache_format/SPEC.md, section 3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import gfcache
import numpy as np
import torch
from gfcache import SectionData, layout
from torch import Tensor

from goldfinch.models.config import ModelConfig
from goldfinch.models.state import GrowingBuffer, LayerState

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel

    from .checkpoint import Checkpoint
    from .document_cache import DocumentCache

TORCH_DTYPES = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def pack(cache: DocumentCache, config: ModelConfig, first: int = 0) -> list[SectionData]:
    """The sections of a cache, in the order of SPEC section 3.

    Args:
        first: tokens that a parent file holds; only the ones after it are packed.
    """
    ids = cache.token_ids[0, first:].cpu().numpy()
    id_dtype = "u16" if config.vocab_size <= 1 << 16 else "u32"
    sections = [SectionData(layout.TOKEN_IDS, layout.TOKEN_IDS, id_dtype, ids, token_start=first, try_zstd=True)]
    if cache.compressed_k is not None:
        for start in range(first, cache.length, layout.CHUNK_TOKENS):
            rows = cache.compressed_k[0, start : start + layout.CHUNK_TOKENS]
            sections.append(_section(f"compressed_k/{start}", layout.COMPRESSED_K, rows, token_start=start))
    attention = [(i, s) for i, s in enumerate(cache.state.layers) if s.keys.length]
    sections += _pack_finch_states(cache.state.layers, cache.length, "")
    tail = _section(layout.TAIL_HIDDEN, layout.TAIL_HIDDEN, cache.tail_hidden[0], position=cache.length)
    sections.append(replace(tail, depends_on="model" if attention else "prefill"))
    for i, state in attention:
        pair = torch.stack([state.keys.rows[0], state.values.rows[0]])  # (2, T, C)
        kv = _section(f"{layout.ATTENTION_KV}/{i}", layout.ATTENTION_KV, pair, token_start=0)
        sections.append(replace(kv, layer=i, depends_on="model"))
    if attention and config.time_mix != "llama":
        states = tuple(s for _, s in attention)
        for kind, name in (
            (layout.ATTENTION_TIME_SHIFT_STATE, "time_shift_state"),
            (layout.ATTENTION_CHANNEL_SHIFT_STATE, "channel_shift_state"),
        ):
            shift = _section(kind, kind, _stack(states, name), position=cache.length)
            sections.append(replace(shift, depends_on="model"))
    for checkpoint in cache.checkpoints:
        if checkpoint.position <= first:  # the parent's
            continue
        sections += _pack_checkpoint(checkpoint)
    return sections


def _pack_checkpoint(checkpoint: Checkpoint) -> list[SectionData]:
    suffix = f"@{checkpoint.position}"
    rows = checkpoint.tail_hidden[0]
    tail = _section(layout.TAIL_HIDDEN + suffix, layout.TAIL_HIDDEN, rows, position=checkpoint.position)
    return [*_pack_finch_states(checkpoint.state.layers, checkpoint.position, suffix), tail]


def _pack_finch_states(layers: tuple[LayerState, ...], position: int, suffix: str) -> list[SectionData]:
    finch = tuple(s for s in layers if s.wkv_state is not None)
    if not finch:
        return []
    names = (
        (layout.WKV_STATE, "wkv_state"),
        (layout.TIME_SHIFT_STATE, "time_shift_state"),
        (layout.CHANNEL_SHIFT_STATE, "channel_shift_state"),
    )
    return [_section(kind + suffix, kind, _stack(finch, name), position=position) for kind, name in names]


def _stack(states: tuple[LayerState, ...], name: str) -> Tensor:
    return torch.stack([getattr(state, name)[0] for state in states])


def _section(
    name: str, kind: str, values: Tensor, *, position: int | None = None, token_start: int | None = None
) -> SectionData:
    return SectionData(
        name, kind, DTYPE_NAMES[values.dtype], to_numpy(values), position=position, token_start=token_start
    )


def to_numpy(values: Tensor) -> np.ndarray:
    """A numpy array of the same bits; bf16 as 16-bit words."""
    values = values.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(np.uint16)
    return values.numpy()


def from_numpy(array: np.ndarray, dtype_name: str) -> Tensor:
    """The inverse of `to_numpy`; copies, for the array is a read-only view of file bytes."""
    if dtype_name == "bf16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def converted(values: Tensor, model: LanguageModel, dtype: torch.dtype, file: gfcache.CacheFile, name: str) -> Tensor:
    """Values of a section on the model's device in `dtype`; DamagedCache (R16) when one is too large for it."""
    out = values.to(model.device, dtype)
    if out.dtype != values.dtype and not bool(out.isfinite().all()):
        raise gfcache.DamagedCache(file.path, "R16", f"{name} beyond what {dtype} can hold", "finite values")
    return out


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
        parts = [from_numpy(file.array(s), s.dtype) for s in sections]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return converted(joined, self._model, dtype or joined.dtype, file, kind)

    def finch_states(self) -> list[LayerState]:
        if not self._n_finch:
            return []
        dtype = self._model.dtype
        acc = torch.float64 if dtype == torch.float64 else torch.float32
        wkv = self.tensor(layout.WKV_STATE, acc)
        time_shift = self.tensor(layout.TIME_SHIFT_STATE, dtype)
        channel_shift = self.tensor(layout.CHANNEL_SHIFT_STATE, dtype)
        return [LayerState(wkv[i][None], time_shift[i][None], channel_shift[i][None]) for i in range(self._n_finch)]

    def attention_states(self) -> list[LayerState]:
        if not self._n_attention:
            return []
        file, dtype = self._file, self._model.dtype
        shifts = self._model.config.layer_kind(self._n_finch) != "llama"
        time_shift = self.tensor(layout.ATTENTION_TIME_SHIFT_STATE, dtype) if shifts else None
        channel_shift = self.tensor(layout.ATTENTION_CHANNEL_SHIFT_STATE, dtype) if shifts else None
        by_layer = {s.layer: s for s in file.header.of_kind(layout.ATTENTION_KV)}
        out = []
        for n in range(self._n_attention):
            section = by_layer.get(self._n_finch + n)
            if section is None:
                raise gfcache.DamagedCache(file.path, "R13", f"no keys of layer {self._n_finch + n}", "one per layer")
            values = from_numpy(file.array(section), section.dtype)
            pair = converted(values, self._model, dtype, file, section.name)
            out.append(
                LayerState(
                    time_shift_state=None if time_shift is None else time_shift[n][None],
                    channel_shift_state=None if channel_shift is None else channel_shift[n][None],
                    keys=GrowingBuffer.of(pair[0][None]),
                    values=GrowingBuffer.of(pair[1][None]),
                )
            )
        return out
