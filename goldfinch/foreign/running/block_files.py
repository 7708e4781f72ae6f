"""A document in blocks, into a .gfc file and back (SPEC, "Documents in blocks"); a block is read when it is asked for.

Notation: T tokens of the document and what stands before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import gfcache
import numpy as np
import torch
from gfcache import layout
from gfcache.format.families.base import Described, Group, named
from gfcache.format.families.transformers import Dimensions
from gfcache.format.lenders import lent_blocks, open_lenders

from goldfinch.caching.sections import from_numpy, to_numpy

from .blocks import Blocks
from .states import Held, SequenceState


def packed_part(
    section: Described,
    token_ids: np.ndarray,
    prompt: SequenceState,
    blocks: Blocks,
    groups: Mapping[Group, Sequence[int]],
) -> np.ndarray:
    """What a section of a document in blocks holds: token ids or places of all, or rows or states of one, stacked.

    Args:
        token_ids: (T,) of the document.
        prompt: behind the tokens before it.
        groups: of layers, by which sections stack them.
    """
    begun = token_ids[: prompt.position].tolist()
    if section.kind == layout.BLOCK_TOKEN_IDS:
        return np.array([*begun, *(token for tokens in blocks.token_ids for token in tokens)])
    if section.kind == layout.BLOCK_PLACES:
        before = [[0] * 4] if begun else []
        return np.array([*before, *blocks.places.tolist()], np.uint32).reshape(-1, 4)
    number = _numbers(prompt, blocks)[section.token_start or 0]
    rows = prompt.layers if number is None else blocks.rows_of(number)
    held = [rows[n] for n in groups[Group(section.layer, section.role)]]
    if section.role is not None:
        return to_numpy(torch.stack([one.states[section.role] for one in held]))
    parts = [one.keys if section.kind == layout.BLOCK_KEYS else one.values for one in held]
    return to_numpy(torch.stack([part for part in parts if part is not None]))


def _numbers(prompt: SequenceState, blocks: Blocks) -> dict[int, int | None]:
    """The number of each block by where its rows begin, None for those of the prompt."""
    lengths = [prompt.position, *map(len, blocks.token_ids)]
    starts = dict(zip(accumulate(lengths), range(len(lengths) - 1), strict=False))
    return {0: None, **starts}


def prompt_state_in(file: gfcache.CacheFile, device: torch.device) -> SequenceState:
    """What the layers hold before the document."""
    rows = file.header.template["document_start"]
    layers = _block_rows(file, 0, device) if rows else tuple(Held() for _ in file.header.model["layers"])
    return SequenceState(rows, layers)


def stored_blocks(file: gfcache.CacheFile, device: torch.device) -> Blocks:
    """The blocks of an open file, whose rows stay there until they are asked for."""
    header, kept = file.header, file.duplicate()
    ids = file.array(header.of_kind(layout.BLOCK_TOKEN_IDS)[0]).tolist()
    ends = [*accumulate(header.model["blocks"])]
    begun = 1 if header.template["document_start"] else 0
    ranges = [*zip([0, *ends], ends, strict=False)][begun:]
    places = file.array(header.of_kind(layout.BLOCK_PLACES)[0])[begun:]
    tokens = [tuple(ids[start:end]) for start, end in ranges]
    with open_lenders(file) as lenders:
        keeping = {id(lender): lender.duplicate() for lender in lenders}
        lent = {start: (keeping[id(one)], at) for start, (one, at) in lent_blocks(file, lenders).items()}

    def rows_of(number: int) -> tuple[Held, ...]:
        holder, there = lent.get(ranges[number][0], (kept, ranges[number][0]))
        return _block_rows(holder, there, device)

    return Blocks(tokens, rows_of, places, {n for n, (start, _) in enumerate(ranges) if start in lent})


def _block_rows(file: gfcache.CacheFile, start: int, device: torch.device) -> tuple[Held, ...]:
    """Keys and values of the block whose rows begin at `start`, and the states behind it."""
    header = file.header
    parts: list[dict[str, Any]] = [{"states": {}} for _ in header.model["layers"]]
    for group, layers in Dimensions.of(header.model).members.items():
        for kind in (layout.BLOCK_KEYS, layout.BLOCK_VALUES) if group.role is None else (layout.BLOCK_STATE,):
            section = file.section(f"{named(kind, group)}/{start}")
            for n, values in zip(layers, from_numpy(file.array(section), section.dtype).to(device), strict=True):
                if group.role is not None:
                    parts[n]["states"][group.role] = values
                else:
                    parts[n]["keys" if kind == layout.BLOCK_KEYS else "values"] = values
    return tuple(Held(**part) for part in parts)
