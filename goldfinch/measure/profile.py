"""How fast this machine pre-fills: measured once per model and precision, stored, used by plans."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gfcache
import torch
from gfcache.files.replace import replacing_output
from torch import Tensor

from goldfinch.devices import synchronize
from goldfinch.engine.base import Engine
from goldfinch.engine.prefill import Start

from .conditions import processor

LONG_BLOCKS, SHORT_TOKENS, REPEATS = 4, 32, 3


@dataclass(frozen=True)
class MachineProfile:
    """How fast this machine pre-fills with one model in one precision.

    Attributes:
        tok_s: tokens per second of long documents.
        document_s: seconds that every document takes besides.
    """

    tok_s: float
    document_s: float

    def seconds(self, tokens: int) -> float:
        """Predicted time of one document."""
        return tokens / self.tok_s + self.document_s


def key_of(engine: Engine[Any]) -> str:
    """What a profile of this model holds for: processor, model and arithmetic."""
    fingerprint: str = engine.card.model_fingerprint if engine.card is not None else "unnamed"
    own = engine.numerics
    parts = (fingerprint[:16], own.device, own.compute_dtype, own.backend, own.threads)
    return " / ".join([processor(), *map(str, parts)])


def machine_profile(engine: Engine[Any], *, measure: bool = False) -> tuple[MachineProfile, bool]:
    """The stored profile of a model, or a new one.

    Args:
        engine: of the model.
        measure: measure again.

    Returns:
        the profile and whether it was measured now. A profile that cannot be stored is used all the same.
    """
    key = key_of(engine)
    known = None if measure else read_profile(key)
    if known is not None:
        return known, False
    profile = measured(engine)
    with contextlib.suppress(OSError, gfcache.CacheFormatError):
        write_profile(key, profile)
    return profile, True


def measured(engine: Engine[Any]) -> MachineProfile:
    """The speed now: a long and a short document, the best of REPEATS each, after one for warm-up."""
    # Whole blocks: within one, a GPU takes as long for a few tokens as for many.
    length = min(LONG_BLOCKS * engine.block_tokens, engine.most_tokens or sys.maxsize)
    ids = torch.arange(length)[None] * 7919 % engine.identity["tokenizer"]["vocab_size"]
    _seconds(engine, ids)
    long_s = min(_seconds(engine, ids) for _ in range(REPEATS))
    short_s = min(_seconds(engine, ids[:, :SHORT_TOKENS]) for _ in range(REPEATS))
    per_token = max((long_s - short_s) / (length - SHORT_TOKENS), 1e-12)
    return MachineProfile(1 / per_token, max(short_s - SHORT_TOKENS * per_token, 0.0))


def _seconds(engine: Engine[Any], ids: Tensor) -> float:
    started = time.perf_counter()
    engine.prefill_from(Start(), ids)
    synchronize(engine.device)
    return time.perf_counter() - started


def profile_path() -> Path:
    """Where the profiles of this machine are kept."""
    return gfcache.default_root() / "machine-profile.json"


def read_profile(key: str) -> MachineProfile | None:
    """The stored profile; None when there is none, or the file is damaged."""
    try:
        values = json.loads(profile_path().read_text())[key]
        profile = MachineProfile(float(values["tok_s"]), float(values["document_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return profile if profile.tok_s > 0 and profile.document_s >= 0 else None


def write_profile(key: str, profile: MachineProfile) -> None:
    """Store a profile beside those of other models; OSError and CacheFormatError as the system says."""
    path = profile_path()
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    known[key] = {"tok_s": profile.tok_s, "document_s": profile.document_s}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing_output(path) as stream:
        stream.write(json.dumps(known, indent=1).encode())
