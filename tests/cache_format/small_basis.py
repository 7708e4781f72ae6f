"""A basis of a small model, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gfcache.codecs.basis.matrices import Basis, Matrices, parse


def small_basis(layers: Sequence[int], heads: int = 2, channels: int = 8, seed: int = 0) -> Basis:
    """Of some layers, keys and values; a step of it is about a third of values of spread 1."""
    rng, found = np.random.default_rng(seed), {}
    for layer in layers:
        for part in ("keys", "values"):
            turned = [np.linalg.qr(rng.standard_normal((channels, channels)))[0] for _ in range(heads)]
            scales = rng.uniform(0.5, 2, (heads, 1, channels))
            integers = np.rint(100 * np.stack(turned) * scales).astype(np.int16)
            found[layer, part] = Matrices(integers, np.full(heads, -7, np.int16))
    return parse(Basis(found).to_bytes())
