"""The cache of one document in memory, and its way into a .gfc file and back.

Saving and loading do not change what a question sees: values are stored in the dtype that they were computed in,
and the engine reads nothing but what is stored.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import torch
from gfcache import Header, SectionData, layout
from torch import Tensor

from . import version
from .errors import CacheMismatch, DeviceError
from .gold import GoldMemory
from .model import LanguageModel
from .state import GrowingBuffer, LayerState, ModelState

TORCH_DTYPES = {"f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


@dataclass
class DocumentCache:
    """What prefill leaves of a document.

    Attributes:
        token_ids: (1, T) int64, everything the layers saw: prompt prefix and document.
        compressed_k: (1, T, R) in the compute dtype, None for models without GOLD layers.
        state: layer states after token T (its GOLD memory is left empty; `compressed_k` stands for it).
        tail_hidden: (1, min(K, T), C), residual stream after the prefill layers at the last K tokens.
        document_range: (start, end) of the document's own tokens.
        identity: fingerprints of model, tokenizer and template.
        numerics: device kind, compute dtype, backend, threads, library.
        source: name, sha256, bytes, modified_at of the document, or None.
        path: the file it was read from or saved to, or None.
    """

    token_ids: Tensor
    compressed_k: Tensor | None
    state: ModelState
    tail_hidden: Tensor
    document_range: tuple[int, int]
    identity: dict[str, Any]
    numerics: dict[str, Any]
    source: dict[str, Any] | None = None
    path: Path | None = field(default=None, compare=False)

    @property
    def length(self) -> int:
        """T: tokens in the cache."""
        return self.token_ids.shape[1]

    def save(self, path: str | Path, *, created_at: str | None = None) -> Header:
        """Write the cache to a file, atomically (mode 0600).

        Raises:
            gfcache.CacheWriteError: the file could not be written; an existing one is untouched.
        """
        header = gfcache.write_cache(path, self._header(created_at), self._sections())
        self.path = Path(path)
        return header

    def _header(self, created_at: str | None) -> Header:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        start, end = self.document_range
        return Header(
            tokens=self.length,
            model=self.identity["model"],
            tokenizer=self.identity["tokenizer"],
            template=self.identity["template"] | {"document_start": start, "document_end": end},
            numerics=self.numerics,
            source=self.source,
            created_at=created_at or now,
            writer=f"goldfinch-gf {version.__version__}",
        )

    def _sections(self) -> list[SectionData]:
        ids = self.token_ids[0].cpu().numpy()
        id_dtype = "u16" if self.identity["tokenizer"]["vocab_size"] <= 1 << 16 else "u32"
        sections = [SectionData(layout.TOKEN_IDS, layout.TOKEN_IDS, id_dtype, ids, token_start=0, try_zstd=True)]
        if self.compressed_k is not None:
            for start in range(0, self.length, layout.CHUNK_TOKENS):
                rows = self.compressed_k[0, start : start + layout.CHUNK_TOKENS]
                sections.append(_section(f"compressed_k/{start}", layout.COMPRESSED_K, rows, token_start=start))
        position = self.length
        config = self.identity["model"]["config"]
        layers = self.state.layers
        finch = [s for s in layers if s.wkv_state is not None]
        attention = [(i, s) for i, s in enumerate(layers) if s.keys.length]
        if finch:
            for kind, name in (
                (layout.WKV_STATE, "wkv_state"),
                (layout.TIME_SHIFT_STATE, "time_shift_state"),
                (layout.CHANNEL_SHIFT_STATE, "channel_shift_state"),
            ):
                sections.append(_section(kind, kind, _stack(finch, name), position=position))
        tail_depends = "model" if attention else "prefill"
        tail = _section(layout.TAIL_HIDDEN, layout.TAIL_HIDDEN, self.tail_hidden[0], position=position)
        sections.append(replace(tail, depends_on=tail_depends))
        for i, state in attention:
            pair = torch.stack([state.keys.rows[0], state.values.rows[0]])  # (2, T, C)
            kv = _section(f"{layout.ATTENTION_KV}/{i}", layout.ATTENTION_KV, pair, token_start=0)
            sections.append(replace(kv, layer=i, depends_on="model"))
        if attention and config["time_mix"] != "llama":
            states = [s for _, s in attention]
            for kind, name in (
                (layout.ATTENTION_TIME_SHIFT_STATE, "time_shift_state"),
                (layout.ATTENTION_CHANNEL_SHIFT_STATE, "channel_shift_state"),
            ):
                shift = _section(kind, kind, _stack(states, name), position=position)
                sections.append(replace(shift, depends_on="model"))
        return sections


def _stack(states: list[LayerState], name: str) -> Tensor:
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


def identity_of(model: LanguageModel) -> dict[str, Any]:
    """The identity that a cache of this model carries: fingerprints of model, tokenizer and template."""
    card = model.card
    if card is None:
        from .checkpoint import fingerprints
        from .template import PromptTemplate

        prefill_fingerprint, model_fingerprint = fingerprints(model.config, model.state_dict())
        name, template = "unnamed", PromptTemplate()
    else:
        prefill_fingerprint, model_fingerprint = card.prefill_fingerprint, card.model_fingerprint
        name, template = card.name, card.template
    return {
        "model": {
            "name": name,
            "model_type": model.config.model_type,
            "config": model.config.to_dict(),
            "prefill_fingerprint": prefill_fingerprint,
            "model_fingerprint": model_fingerprint,
        },
        "tokenizer": {
            "fingerprint": model.tokenizer.fingerprint if model.tokenizer is not None else None,
            "vocab_size": model.config.vocab_size,
        },
        "template": {"prefix_fingerprint": template.prefix_fingerprint()},
    }


def numerics_of(model: LanguageModel) -> dict[str, Any]:
    """How the values were computed; not part of the identity, so files travel between devices."""
    return {
        "device": model.device.type,
        "compute_dtype": DTYPE_NAMES[model.dtype],
        "backend": "torch",
        "threads": torch.get_num_threads() if model.device.type == "cpu" else None,
        "library": f"torch {torch.__version__}",
    }


def numerics_difference(numerics: dict[str, Any], model: LanguageModel) -> tuple[str, str, str] | None:
    """(field, value of the cache, value of the model) of the first numerics that change the bits, None if none does."""
    own = numerics_of(model)
    for name in ("device", "compute_dtype", "backend", "threads"):
        if numerics.get(name) != own[name]:
            return name, str(numerics.get(name)), str(own[name])
    return None


def check_belongs(header: Header, model: LanguageModel) -> None:
    """Refuse a cache of another model, tokenizer or template, before any value is read.

    Raises:
        CacheMismatch: naming the first identity that differs.
    """
    own = identity_of(model)
    hint = "name the model that made it with -m, or pre-fill the document again with this one"
    pairs = [("prefill_fingerprint", header.model.get("prefill_fingerprint"), own["model"]["prefill_fingerprint"])]
    if any(s.required and s.depends_on == "model" for s in header.sections):
        pairs.append(("model_fingerprint", header.model.get("model_fingerprint"), own["model"]["model_fingerprint"]))
    pairs += [
        ("tokenizer_fingerprint", header.tokenizer.get("fingerprint"), own["tokenizer"]["fingerprint"]),
        ("prefix_fingerprint", header.template.get("prefix_fingerprint"), own["template"]["prefix_fingerprint"]),
    ]
    for name, found, expected in pairs:
        if found != expected:
            raise CacheMismatch(name, _short(found), _short(expected), hint=hint)


def _short(fingerprint: str | None) -> str:
    return fingerprint[:16] if fingerprint else ""


def open_cache(path: str | Path, model: LanguageModel) -> DocumentCache:
    """Read a cache file for a model.

    Raises:
        gfcache.CacheFormatError: foreign, damaged or newer file.
        CacheMismatch: the cache belongs to another model, tokenizer or template.
        FileNotFoundError, PermissionError: as the system says.
    """
    with gfcache.read_cache(path) as file:
        header = file.header
        check_belongs(header, model)
        try:
            return _load(file, model)
        except torch.OutOfMemoryError as error:
            raise DeviceError(f"not enough memory on {model.device} for the cache {path}") from error


def _load(file: gfcache.CacheFile, model: LanguageModel) -> DocumentCache:
    header, config = file.header, model.config
    reader = _SectionReader(file, model)
    token_ids = reader.tensor(layout.TOKEN_IDS)
    compressed_k = reader.tensor(layout.COMPRESSED_K, model.dtype) if config.n_gold else None
    tail_hidden = reader.tensor(layout.TAIL_HIDDEN, model.dtype)
    states = reader.finch_states() + reader.attention_states()
    states += [LayerState() for _ in range(config.n_gold)]
    gold = GoldMemory(model) if config.n_gold else None
    return DocumentCache(
        token_ids=token_ids.to(torch.int64)[None],
        compressed_k=None if compressed_k is None else compressed_k[None],
        state=ModelState(tuple(states), header.tokens, gold),
        tail_hidden=tail_hidden[None],
        document_range=(header.template["document_start"], header.template["document_end"]),
        identity={
            "model": header.model,
            "tokenizer": header.tokenizer,
            "template": {"prefix_fingerprint": header.template["prefix_fingerprint"]},
        },
        numerics=header.numerics,
        source=header.source,
        path=file.path,
    )


class _SectionReader:
    """Sections of a file as tensors on the model's device."""

    def __init__(self, file: gfcache.CacheFile, model: LanguageModel) -> None:
        self._file, self._model = file, model
        config = model.config
        self._n_finch = config.n_lower if config.time_mix in ("finch", "finch_c2") else 0
        self._n_attention = config.n_prefill - self._n_finch

    def tensor(self, kind: str, dtype: torch.dtype | None = None) -> Tensor:
        """The final values of a kind, its pieces joined in token order; DamagedCache (R13) when absent."""
        file = self._file
        # Only the final state: an equal kind at an earlier position is a checkpoint.
        sections = [s for s in file.header.of_kind(kind) if s.position in (None, file.header.tokens)]
        if not sections:
            raise gfcache.DamagedCache(file.path, "R13", f"no {kind} section", "every section that the model needs")
        sections.sort(key=lambda s: s.token_start or 0)
        parts = [from_numpy(file.array(s), s.dtype) for s in sections]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined.to(self._model.device, dtype or joined.dtype)

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
            pair = from_numpy(file.array(section), section.dtype).to(self._model.device, dtype)
            out.append(
                LayerState(
                    time_shift_state=None if time_shift is None else time_shift[n][None],
                    channel_shift_state=None if channel_shift is None else channel_shift[n][None],
                    keys=GrowingBuffer.of(pair[0][None]),
                    values=GrowingBuffer.of(pair[1][None]),
                )
            )
        return out
