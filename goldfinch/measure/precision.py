"""Which dtype computes quickest here: timed once for a CPU, and noted in the user's cache, so that it stays."""

from __future__ import annotations

import contextlib
import json
import time

import torch
from gfcache import CacheFormatError
from gfcache.files.locks import sweep
from gfcache.files.places import make_private, user_folder
from gfcache.files.regular import read_regular
from gfcache.files.replace import replacing_output

from goldfinch.measure.conditions import processor
from goldfinch.text.json_files import parse_json

# bf16 has to be this much quicker to be worth its digits.
_MUCH_QUICKER = 1.5
_REPEATS, _MOST_BYTES = 25, 1 << 16


def quickest_dtype(device: str) -> str:
    """f32 or bf16; never by what a file holds.

    A CPU without instructions for bf16 takes eight times as long with it, one with them a quarter of the time.
    """
    if torch.device(device).type != "cpu":
        return "bf16"
    key = f"{processor()} / torch {torch.__version__}"
    known: dict[str, str] = {}
    file = None
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        file = user_folder("cache", "goldfinch") / "quickest-dtype.json"
        sweep(file)
        found = parse_json(read_regular(file, _MOST_BYTES))
        known = {k: v for k, v in found.items() if v in ("f32", "bf16")} if isinstance(found, dict) else {}
    if key not in known:
        known[key] = _timed()
        if file is not None:
            with contextlib.suppress(OSError, CacheFormatError):
                make_private(file.parent)
                with replacing_output(file, follow=False) as stream:
                    stream.write(json.dumps(known).encode())
    return known[key]


def _timed() -> str:
    """The best of many products in each dtype, in turn: another process may be busy at any time."""
    seconds = {"f32": float("inf"), "bf16": float("inf")}
    given = {
        name: (torch.ones(32, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype))
        for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16))
    }
    for _ in range(_REPEATS):
        for name, (rows, matrix) in given.items():
            begin = time.perf_counter()
            torch.mm(rows, matrix)
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return "bf16" if seconds["bf16"] * _MUCH_QUICKER < seconds["f32"] else "f32"
