"""The basis in which keys and values of a model cost fewest bits for what its predictions lose (SPEC, "Bases").

A small error e of what a head holds moves the next-token distributions by KL = 1/2 e' F e, where F is the Fisher
information of these channels: the mean of g g', g being the gradient of the log probability of tokens that the model
itself draws. Fewest bits at a given KL are those of the components that are independent in the measure of F (the
Karhunen-Loeve transform of F^1/2 x), one step for all. F and the covariance of x are measured on a text that comes
with gf, keys as they are before rotary positions.

Notation: n rows, H key-value heads, D channels of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from gfcache.codecs.basis.codes import MOST
from gfcache.codecs.basis.matrices import EXPONENTS, MOST_CHANNELS, MOST_ENTRY, Basis, Matrices, parse
from gfcache.codecs.planes import SINKS
from gfcache.codecs.rotary import turned_back, turns
from gfcache.codecs.tokens import KEYS, VALUES
from gfcache.codecs.words import byte_planes, middles
from gfcache.codecs.zstd import entropy_coded

from goldfinch.errors import ModelRefused
from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.running.states import SequenceState, put_in, taken_out

_TEXT = Path(__file__).parents[2] / "evaluate" / "text" / "constitution.txt"
# Passages, tokens of each, the share of them that is read as a document, and draws of what follows.
_PASSAGES, _TOKENS, _SHARE, _DRAWS = 6, 1024, 0.75, 4
# F is an estimate from few draws: so much of what channels have in common is left out, and so much added to each.
_SHRUNK, _ADDED = 0.5, 0.1
# Bits of a code with step 1, on the text; channels of heads, and rows, that are looked at for it.
_BITS, _CHANNELS, _ROWS = 3.0, 2048, 512
# Share of the values of the text that codes must reach.
_REACHED = 0.9999

# Of a layer and part: rows (n, H, D) float64 of the text, and F (H, D, D).
_Seen = dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]


def obstacle_to_basis(model: ForeignModel) -> str | None:
    """Why a model has no basis, None where it can have one."""
    if model.tokenizer is None:
        return "it has no tokenizer to read the text with, from which a basis is made"
    if model.schedule != "blocks":
        return "it computes what follows a document token by token, and a basis needs gradients of many at once"
    wide = [layer for layer in model.layers if layer.kind == "full" and layer.head_dim > MOST_CHANNELS]
    return f"its heads have {wide[0].head_dim} channels, {MOST_CHANNELS} at most are coded" if wide else None


def made_basis(model: ForeignModel) -> Basis:
    """The basis of a model, from a text that comes with gf: a minute or so for a small one.

    Raises:
        ModelRefused: see `obstacle_to_basis`.
    """
    if (obstacle := obstacle_to_basis(model)) is not None:
        raise ModelRefused(f"{model.name} has no basis for its keys and values: {obstacle}")
    seen = _seen(model)
    least = float(np.mean([np.trace(F, axis1=1, axis2=2).mean() / F.shape[1] for _, F in seen.values()]))
    if not 0 < least < np.inf:
        raise ModelRefused(f"the predictions of {model.name} do not follow from its keys and values")
    found = {key: _transforms(rows, F, 1e-6 * least) for key, (rows, F) in seen.items()}
    unit = _unit(
        [
            np.linalg.solve(S, rows.transpose(1, 2, 0))
            for (rows, _), S in zip(_sample(seen), found.values(), strict=True)
        ]
    )
    return parse(Basis({key: _integers(S * unit) for key, S in found.items()}).to_bytes())


def _seen(model: ForeignModel) -> _Seen:
    assert model.tokenizer is not None
    ids = model.tokenizer.encode(_TEXT.read_text(encoding="utf-8"))
    size = min(_TOKENS, model.context_length, len(ids))
    rows: dict[tuple[int, str], list[np.ndarray]] = {}
    fisher: dict[tuple[int, str], np.ndarray] = {}
    rotary, generator = library.rotary_of(model.network), torch.Generator().manual_seed(0)
    for at in range(0, min(_PASSAGES * size, len(ids) - size + 1), size):
        passage = torch.tensor(ids[at : at + size], dtype=torch.int64)
        held, draws = _gradients(model, passage, int(_SHARE * size), generator)
        for key, values in held.items():
            rows.setdefault(key, []).append(_before(values, key, rotary))
        for gradients in draws:
            for key, values in gradients.items():
                g = _before(values, key, rotary)
                share = np.einsum("nhc,nhd->hcd", g, g)
                fisher[key] = fisher[key] + share if key in fisher else share
    return {key: (np.concatenate(parts), fisher[key]) for key, parts in rows.items()}


def _gradients(
    model: ForeignModel, ids: torch.Tensor, head: int, generator: torch.Generator
) -> tuple[dict[tuple[int, str], torch.Tensor], Iterator[dict[tuple[int, str], torch.Tensor]]]:
    """What full layers hold of the first tokens, by layer and part, (H, n, D); and, for each draw of the others'
    successors, the gradients of their log probability with respect to it.
    """
    network, full = model.network, [n for n, layer in enumerate(model.layers) if layer.kind == "full"]
    cache = put_in(lambda: library.new_cache(network), model.layers, None, capacity=len(ids))
    for start in range(0, head, model.block_tokens):
        library.forward(network, ids[start : min(start + model.block_tokens, head)], cache, start, last=True)
    state = taken_out(cache, model.layers, head)
    held = {(n, part): getattr(state.layers[n], part).clone().requires_grad_() for n in full for part in (KEYS, VALUES)}
    layers = tuple(
        replace(layer, keys=held[n, KEYS], values=held[n, VALUES]) if n in full else layer
        for n, layer in enumerate(state.layers)
    )
    cache = put_in(lambda: library.new_cache(network), model.layers, SequenceState(head, layers), capacity=len(ids))
    log_p = library.forward(network, ids[head:], cache, head, graph=True).float().log_softmax(-1)

    def drawn() -> Iterator[dict[tuple[int, str], torch.Tensor]]:
        for _ in range(_DRAWS):
            chosen = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=generator).to(log_p.device)
            total = log_p.gather(1, chosen).sum()
            yield dict(zip(held, torch.autograd.grad(total, list(held.values()), retain_graph=True), strict=True))

    return held, drawn()


def _before(values: torch.Tensor, key: tuple[int, str], rotary: list[float] | None) -> np.ndarray:
    """Rows (n, H, D) float64 behind the first tokens, keys before rotary positions; gradients turn as they do."""
    rows = values.detach().double().cpu().numpy()
    if key[1] == KEYS and rotary is not None and 2 * len(rotary) <= rows.shape[2]:
        turn = turns(tuple(rotary), 0, rows.shape[1])
        rows = np.stack([turned_back(head.T, turn).T for head in rows])
    return rows[:, SINKS:].transpose(1, 0, 2)


def _transforms(rows: np.ndarray, F: np.ndarray, least: float) -> np.ndarray:
    """(H, D, D): what components of one step make, for each head."""
    out = np.empty(F.shape)
    for h, fisher in enumerate(F):
        own = np.diag(fisher)
        measure = (1 - _SHRUNK) * fisher + np.diag(_SHRUNK * own + _ADDED * own.mean() + least)
        size, axes = np.linalg.eigh(measure)
        root, back = (axes * np.sqrt(size)) @ axes.T, (axes / np.sqrt(size)) @ axes.T
        components = np.linalg.eigh(root @ np.cov(rows[:, h].T) @ root)[1]
        out[h] = back @ components
    return out


def _sample(seen: _Seen) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fewer rows of all heads."""
    return [(rows[:: max(len(rows) // _ROWS, 1)], F) for rows, F in seen.values()]


def _unit(components: list[np.ndarray]) -> float:
    """By how much transforms are to be larger so that codes of step 1 cost `_BITS` bits on the text.

    Args:
        components: (H, D, n) of each layer and part, in steps of 1.
    """
    columns = np.concatenate([one.reshape(-1, one.shape[-1]) for one in components])
    columns = columns[:: max(len(columns) // _CHANNELS, 1)]
    low, high = -40.0, 40.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if _bits(columns * 2.0**-middle) > _BITS else (low, middle)
    return float(2.0**high)


def _bits(columns: np.ndarray) -> float:
    """What codes of these values cost each; more than any bits where some are beyond what a code may be."""
    if np.quantile(np.abs(columns), _REACHED) > MOST:
        return np.inf
    codes = np.rint(columns.clip(-MOST, MOST)).astype(np.int32)
    codes -= middles(codes)[:, None]
    sizes = np.abs(codes)
    codes, wide = codes[np.argsort(sizes.mean(axis=1), kind="stable")], np.sort(sizes.max(axis=1)) > 127
    parts = [(codes[~wide], 1), (codes[wide], 2)]
    return 8 * sum(len(entropy_coded(byte_planes(part, width))) for part, width in parts if len(part)) / codes.size


def _integers(transforms: np.ndarray) -> Matrices:
    """The nearest matrices of integers; of a head whose channels never differ, which has none, a plain one."""
    largest = np.abs(transforms).max(axis=(1, 2))
    exponents = np.ceil(np.log2(largest / MOST_ENTRY)).clip(EXPONENTS[0], EXPONENTS[-1])
    integers = np.rint(transforms * np.exp2(-exponents)[:, None, None]).clip(-MOST_ENTRY, MOST_ENTRY)
    for h, matrix in enumerate(integers):
        if np.linalg.matrix_rank(matrix) < len(matrix):
            integers[h] = MOST_ENTRY * np.eye(len(matrix))
    return Matrices(integers.astype(np.int16), exponents.astype(np.int16))
