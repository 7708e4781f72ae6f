"""The gatekeeper: does a network with a cache compute what it computes without one, and can its cache be kept?

A list of names would be wrong with the next release of the library. So every model is tried when it is taken in, and
again with every other version of the library: on random tokens, one pass without a cache against whole, blocks and
single tokens with it, a cache restored from bytes, and two sequences in turn. Where a window slides, a copy of the
model with a window of 16 does the same, so that it wraps.

Notation: T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from goldfinch.errors import GoldFinchError, ModelRefused
from goldfinch.weights.foreign_config import Schedule

from . import library
from .running.states import put_in, taken_out

TOKENS, WHOLE, WINDOW = 48, 32, 16
_BLOCKS = (13, 19, 16)
# Most that rounding makes, as a share of the largest logit: sound architectures show up to 2e-5 in f32 (SmolLM2, single
# tokens), wrong ones from 8e-4 (Zamba2) to 2e-1.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Check:
    """What the self-check saw.

    Attributes:
        schedule: how documents may be computed.
        figures: the largest difference of a logit from one pass without a cache, by way of computing; what was
            allowed; and the library's version.
    """

    schedule: Schedule
    figures: dict[str, str | float | None]


def check_network(network: Any, windowed: Any = None, *, vocab_size: int, name: str = "the model") -> Check:
    """Try a network, in f32.

    Args:
        windowed: the same with a window of 16; None for a model that has no window.

    Raises:
        ModelRefused: what it computes with a cache is wrong, or its cache cannot be kept; with the figures. Or it
            cannot be computed at all: its config.json may say anything.
    """
    try:
        return _check(network, windowed, vocab_size, name)
    except (GoldFinchError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "allocate memory" in str(error):  # the machine's fault, said as a RuntimeError
            raise
        words = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelRefused(
            f"{name} cannot be computed as its config.json describes it: {words:.300}",
            hint=f"gf ran it with transformers {library.library_version()}, which may not know it well; try another",
        ) from error


def _check(network: Any, windowed: Any, vocab_size: int, name: str) -> Check:
    if all(layer.kind == "none" and not layer.states for layer in library.layers_of(network)):
        raise ModelRefused(
            f"{name} leaves nothing of a document in a cache of transformers {library.library_version()}: its "
            f"state stands elsewhere, where gf cannot keep it",
            hint="RWKV-6 can be taken in: gf model import WEIGHTS --config CONFIG.json",
        )
    figures: dict[str, float] = {}
    allowed = 0.0
    for one in (network, windowed):
        if one is None:
            continue
        ids = torch.randint(0, vocab_size, (TOKENS,), generator=torch.Generator().manual_seed(7))
        expected = library.forward(one, ids)
        allowed = max(allowed, TOLERANCE * max(1.0, float(expected.abs().max())))
        for way, pieces in _WAYS.items():
            difference = float((_in_pieces(one, ids, pieces) - expected).abs().max())
            figures[way] = max(figures.get(way, 0.0), difference if difference == difference else float("inf"))
    wrong = [way for way in ("whole", "whole_then_steps", "steps") if not figures[way] <= allowed]
    if wrong:
        raise ModelRefused(
            f"{name} computes with a cache what it does not compute without: {wrong[0].replace('_', ' ')} differ by "
            f"{figures[wrong[0]]:.1e}, allowed: {allowed:.1e}",
            hint=f"this is an error of transformers {library.library_version()} for this architecture; try another",
        )
    schedule: Schedule = "blocks" if figures["blocks"] <= allowed else "whole_then_steps"
    for one in (network, windowed):
        if one is not None:
            _check_keeping(one, schedule, vocab_size, name)
    seen: dict[str, str | float | None] = {"library_version": library.library_version(), "allowed": _short(allowed)}
    return Check(schedule, seen | {way: _short(difference) for way, difference in figures.items()})


def _short(figure: float) -> float:
    return float(f"{figure:.2g}")


_WAYS: dict[str, Sequence[int]] = {
    "whole": (TOKENS,),
    "blocks": _BLOCKS,
    "whole_then_steps": (WHOLE, *(1,) * (TOKENS - WHOLE)),
    "steps": (1,) * TOKENS,
}


def _in_pieces(network: Any, ids: Tensor, pieces: Sequence[int], cache: Any = None, start: int = 0) -> Tensor:
    """Logits (T, V) of tokens computed piece by piece."""
    cache = library.new_cache(network) if cache is None else cache
    logits, at = [], 0
    for piece in pieces:
        logits.append(library.forward(network, ids[at : at + piece], cache, start + at))
        at += piece
    return torch.cat(logits)


def restored(network: Any, cache: Any, position: int) -> Any:
    """A cache made anew from what another holds after `position` tokens, as one from a file is; nothing is shared."""
    shapes = library.layers_of(network)
    return put_in(lambda: library.new_cache(network), shapes, taken_out(cache, shapes, position), position + TOKENS)


def _check_keeping(network: Any, schedule: Schedule, vocab_size: int, name: str) -> None:
    """A cache that was taken out and put in again goes on with the same bits, whatever was computed in between.

    Raises:
        ModelRefused: other bits.
    """
    generator = torch.Generator().manual_seed(8)
    ids, others = (torch.randint(0, vocab_size, (TOKENS,), generator=generator) for _ in range(2))
    rest = (TOKENS - WHOLE,) if schedule == "blocks" else (1,) * (TOKENS - WHOLE)

    def begun(tokens: Tensor) -> Any:
        cache = library.new_cache(network)
        library.forward(network, tokens[:WHOLE], cache)
        return cache

    expected = _in_pieces(network, ids[WHOLE:], rest, begun(ids), WHOLE)
    kept = restored(network, begun(ids), WHOLE)
    second = begun(others)
    _in_pieces(network, others[WHOLE:], rest, second, WHOLE)
    if not torch.equal(_in_pieces(network, ids[WHOLE:], rest, kept, WHOLE), expected):
        raise ModelRefused(
            f"{name} keeps something of a document outside its cache: restored, it goes on with other bits",
            hint=f"this architecture cannot be saved with transformers {library.library_version()}",
        )
