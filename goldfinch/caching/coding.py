"""Codecs on a cache in memory: it passes the rounding of its file before the first question (SPEC W9).

So an answer from the file is that of a cache which was never saved, bit for bit, and what a codec loses is lost once.
A pre-fill and its journal compute without it: rounding comes last. Of states, that at the end alone is rounded; from
checkpoints a later run goes on as if nothing had been.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gfcache import layout
from gfcache.codecs import registry as codecs
from gfcache.codecs.tokens import Where
from gfcache.format.convert import is_lossy, obstacle_of
from gfkernels import arrays

from goldfinch.errors import ModelRefused
from goldfinch.models.state import GrowingBuffer

from .checkpoint import Checkpoint
from .document_cache import DocumentCache
from .numerics import file_dtype
from .row_parts import Form, RowParts
from .sections import from_numpy, map_state, to_numpy

if TYPE_CHECKING:
    from torch import Tensor

_ANYWHERE = Where()


def rounded_rows(rows: Tensor, parts: RowParts, first: int = 0) -> Tensor:
    """compressed_k (1, T, R) with each part that begins at `first` or later rounded by its codec."""
    found = arrays.copied(rows)
    ends = [start for start, _ in parts[1:]] + [rows.shape[1]]
    for (start, codec), end in zip(parts, ends, strict=True):
        if start >= first and is_lossy(codec) and start < end:
            found[:, start:end] = _rounded(rows[0, start:end], codec)[None]
    return found


def rounded_end(end: Checkpoint, codec: str) -> Checkpoint:
    """A state and its tail as a file of that codec gives them back."""
    return map_state(end, lambda values: _rounded(values, codec)) if is_lossy(codec) else end


def rounded_pairs(end: Checkpoint, codec: str, head_dim: int) -> Checkpoint:
    """A state with the keys and values of attention layers that are not GOLD as a file of that codec gives them back.

    Args:
        head_dim: channels of a head.
    """
    if not is_lossy(codec) or not keeps_pairs(end):
        return end
    layers = list(end.state.layers)
    for n, layer in enumerate(layers):
        if layer.keys.length:
            pair = arrays.stacked([layer.keys.rows[0], layer.values.rows[0]])
            keys, values = _rounded(pair, codec, Where(layout.ATTENTION_KV, 0, head_dim))
            layers[n] = replace(layer, keys=GrowingBuffer.of(keys[None]), values=GrowingBuffer.of(values[None]))
    return replace(end, state=replace(end.state, layers=tuple(layers)))


def keeps_pairs(end: Checkpoint) -> bool:
    """Whether a state holds keys and values of every token."""
    return any(layer.keys.length for layer in end.state.layers)


def _rounded(values: Tensor, codec: str, where: Where = _ANYWHERE) -> Tensor:
    dtype = file_dtype(values.dtype)
    rounded = codecs.rounded(to_numpy(values), dtype, codec, where)
    return rounded if arrays.is_numpy(values) else from_numpy(rounded, dtype).to(values.device)  # type: ignore[return-value]


def coded(cache: DocumentCache, form: Form) -> DocumentCache:
    """A cache as its file will give it back.

    Args:
        cache: as computed; rows that it took over from one that `can_continue` so may be rounded already.
        form: of its file.

    Raises:
        ModelRefused: a codec of models of others.
    """
    obstacle = obstacle_of(cache.identity["model"], form.coding)
    if obstacle is not None:
        raise ModelRefused(obstacle, hint="choose another codec")
    rows, parts, parent = cache.compressed_k, form.parts(cache.row_count), form.parent
    if rows is None:
        parts = ()
    elif parts:
        if parent is not None:
            rows = arrays.copied(rows)
            rows[:, : form.parent_tokens] = parent.rows()[:, : form.parent_tokens]
        rows = rounded_rows(rows, parts, form.parent_tokens)
    coding, config = form.coding, cache.identity["model"]["config"]
    end = rounded_pairs(rounded_end(cache.end, coding.state), coding.rows, config["head_dim"])
    numerics = replace(
        cache.numerics,
        rows_codec=coding.rows if is_lossy(coding.rows) and (parts or keeps_pairs(end)) else None,
        state_codec=coding.state if is_lossy(coding.state) else None,
    )
    return replace(
        cache,
        compressed_k=rows,
        state=end.state,
        tail_hidden=end.tail_hidden,
        numerics=numerics,
        row_parts=parts,
    )
