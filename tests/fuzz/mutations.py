"""Changes of a header's JSON that keep it JSON: values of other types and sizes, missing and doubled places."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**200, 1.5, 1e300, "", "x", "a" * 64, [], [1], [[]], {}, {"a": 1},
    "f32", "u16", "zstd", "raw", "ids", "lzma", "int8", "int4", "step3", "kivi2", "flexgen4padded", "bf16",
    "prefill", "model", "token_ids", "wkv_state", [0], [300], [2**62, 2**62], [1] * 100,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value."""
    out = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        out += places(child, (*path, key))
    return out


def changed(values: Any, rng: Random) -> Any:
    """A copy with one to three places replaced, removed or copied from elsewhere."""
    values = copy.deepcopy(values)
    for _ in range(rng.randint(1, 3)):
        found = places(values)
        *parents, key = rng.choice(found)
        target = values
        for parent in parents:
            target = target[parent]
        kind = rng.random()
        if kind < 0.15:
            del target[key]
        elif kind < 0.3 and isinstance(target, list):
            target.append(copy.deepcopy(target[key]))
        else:
            target[key] = copy.deepcopy(rng.choice(STRANGE))
    return values
