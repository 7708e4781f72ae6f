"""Blocks joined: each was computed right behind the prompt; its keys are turned on to where it stands behind others.

Rotary positions (Su et al., arXiv 2104.09864) turn each pair of a key's channels by an angle that grows with its
position, so a key moves on by N positions when it is turned by N steps more; values know no position. What moving
cannot give a block is what stands before it now. The first tokens of each block but the first may be computed anew for
that, as CacheBlend (Yao et al., 2405.16444) does with the tokens that differ most.

Notation: R rows of a block, H heads, D channels, F pairs of channels that are turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel

from .blocks import Blocks, computed
from .states import Held, SequenceState

# Tokens of each block but the first that are computed anew.
RECOMPUTED = 0
# Steps that are tried, and how far turned keys may be from computed ones, as a share of the largest: by compute dtype.
_STEPS = (1, 200)
_CLOSE = {"f32": 1e-3, "f64": 1e-3, "bf16": 3e-2}


@lru_cache(8)
def obstacle_to_joining(model: ForeignModel) -> str | None:
    """Why blocks of a model cannot be joined, None where they can.

    It is tried: a token computed alone has the same keys at every position but for their turn.
    """
    if any(layer.states for layer in model.layers):
        return "states behind one block know nothing of another"
    if any(layer.kind != "full" for layer in model.layers):
        return "layers with a window count positions of their own"
    angles = angles_of(model)
    if angles is None:
        return "its layers turn their keys in several ways, or in one that gf does not know"
    first = computed_alone(model, 0)
    for steps in _STEPS:
        for one, other in zip(first, computed_alone(model, steps), strict=True):
            assert one.keys is not None
            assert other.keys is not None
            differs = float((turned(one.keys, angles, steps) - other.keys).abs().max())
            if differs > _CLOSE[model.dtype] * float(other.keys.abs().max()):
                return "its keys are not those of other positions, turned on"
    return None


def angles_of(model: ForeignModel) -> Tensor | None:
    """The angles (F,) of one step; None where gf does not know them."""
    angles = library.rotary_of(model.network)
    return None if angles is None else torch.tensor(angles, dtype=torch.float32)


def computed_alone(model: ForeignModel, position: int) -> tuple[Held, ...]:
    """What all layers hold of one token that stands alone at a position."""
    layers = library.new_cache(model.network)
    library.forward(model.network, torch.tensor([1]), layers, position, last=True)
    return tuple(Held(layer.keys[0], layer.values[0]) for layer in layers.layers)


def turned(keys: Tensor, angles: Tensor, steps: int) -> Tensor:
    """Keys (H, R, D) as they are `steps` positions on.

    Args:
        angles: (F,) of one step; channel n is paired with n + F, and those beyond 2 F stay.
    """
    cos, sin = (f(angles.to(keys.device) * steps) for f in (torch.cos, torch.sin))
    F = len(angles)
    first, second, rest = keys[..., :F].float(), keys[..., F : 2 * F].float(), keys[..., 2 * F :]
    both = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([both.to(keys.dtype), rest], dim=-1)


def joined(
    model: ForeignModel, prompt: SequenceState, blocks: Blocks, numbers: Sequence[int], recomputed: int = RECOMPUTED
) -> SequenceState:
    """What the layers hold behind the prompt and several blocks, one behind the other.

    Args:
        prompt: behind the tokens before the document.
        numbers: of the blocks, one or more.
        recomputed: first tokens of each but the first that are computed anew.
    """
    state = blocks.behind(prompt, numbers[0])
    angles = angles_of(model)
    assert angles is not None
    for number in numbers[1:]:
        tokens, steps = blocks.token_ids[number], state.position - prompt.position
        anew = min(recomputed, len(tokens))
        if anew:
            state = computed(model, state, tokens[:anew])
        layers = tuple(
            _behind(before, rows, angles, steps, anew)
            for before, rows in zip(state.layers, blocks.rows_of(number), strict=True)
        )
        state = SequenceState(state.position + len(tokens) - anew, layers)
    return state


def _behind(before: Held, rows: Held, angles: Tensor, steps: int, first: int) -> Held:
    if before.keys is None or before.values is None or rows.keys is None or rows.values is None:
        return before
    keys = torch.cat([before.keys, turned(rows.keys[:, first:], angles, steps)], dim=1)
    return Held(keys, torch.cat([before.values, rows.values[:, first:]], dim=1))
