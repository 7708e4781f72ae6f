"""Codecs on keys and values in memory: a cache passes the rounding of its file before the first question (SPEC W9).

What a layer computes rests on the keys and values before it, so nothing goes on from those that a codec has rounded:
a document that grows or changes is computed anew, and a base is not rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from gfcache import layout
from gfcache.codecs import registry as codecs
from gfcache.codecs.tokens import Where
from gfcache.format.convert import is_lossy, obstacle_of
from gfcache.format.families.registry import CodedPlace, where_of
from gfcache.format.families.transformers import TRANSFORMERS, Dimensions
from torch import Tensor

from goldfinch.caching.numerics import file_dtype
from goldfinch.caching.row_parts import Form, RowParts
from goldfinch.caching.sections import from_numpy, to_numpy
from goldfinch.errors import ModelRefused

from .files import ForeignCache
from .states import Held, SequenceState


def coded(cache: ForeignCache, form: Form) -> ForeignCache:
    """A cache as its file will give it back, its rows dropped already where that was wanted.

    Args:
        cache: as computed, nothing of it rounded.
        form: of its file; its base is not rounded.

    Raises:
        ModelRefused: see `check`.
    """
    check(cache.identity, form)
    parts = form.parts(cache.row_count, layout.RANGE_TOKENS)
    return replace(
        cache,
        state=rounded_rows(cache, parts, form.coding.basis),
        numerics=replace(
            cache.numerics,
            rows_codec=form.coding.rows if parts else None,
            rows_basis=form.coding.basis if parts else None,
        ),
        row_parts=parts,
    )


def check(identity: Mapping[str, Any], form: Form) -> None:
    """Refuse what cannot be rounded, before anything is computed.

    Args:
        identity: of the document's cache (`Engine.identity_of`).

    Raises:
        ModelRefused: what this model keeps, or how it keeps this document, is not to be rounded so; a rounded base.
    """
    if form.parent is not None and form.parent.row_parts:
        raise ModelRefused(
            "a codec has rounded the base, and what follows would rest on rounded keys and values",
            hint="pre-fill the base again without --codec",
        )
    obstacle = obstacle_of(identity["model"], form.coding)
    if form.dropping is not None and form.coding.rows in codecs.BASED:
        obstacle = f"{form.coding.rows} codes caches of all rows, and rows are to be dropped"
    if obstacle is not None:
        raise ModelRefused(obstacle, hint="leave out --codec and --state-codec, or keep the document whole")


def rounded_rows(cache: ForeignCache, parts: RowParts, basis: str | None = None) -> SequenceState:
    """The state of a cache with each part of its keys and values rounded by its codec.

    Args:
        basis: digest of the one that the codecs need, where they need one.
    """
    model, state = cache.identity["model"], cache.state
    layers = list(state.layers)
    ends = [start for start, _ in parts[1:]] + [cache.row_count]
    for group, members in Dimensions.of(model).members.items():
        if group.role is not None or model["layers"][group.layer]["kind"] != "full" or not parts:
            continue
        found = {}
        for kind, name in ((layout.KV_KEYS, "keys"), (layout.KV_VALUES, "values")):
            rows = torch.stack([getattr(layers[n], name) for n in members])
            rotated = TRANSFORMERS.by_name[kind].rotated
            for (start, codec), end in zip(parts, ends, strict=True):
                if is_lossy(codec) and start < end:
                    place = CodedPlace(kind, start, group.layer, rotated)
                    where = where_of(model, place, dropped=cache.kept is not None, basis=basis)
                    rows[:, :, start:end] = rounded_values(rows[:, :, start:end], codec, where)
            found[name] = rows
        for number, n in enumerate(members):
            held: Held = layers[n]
            layers[n] = replace(held, keys=found["keys"][number], values=found["values"][number])
    return replace(state, layers=tuple(layers))


def rounded_values(values: Tensor, codec: str, where: Where) -> Tensor:
    """Keys or values (n, H, T, D) of a section as a codec gives them back."""
    dtype = file_dtype(values.dtype)
    return from_numpy(codecs.rounded(to_numpy(values), dtype, codec, where), dtype).to(values.device)
