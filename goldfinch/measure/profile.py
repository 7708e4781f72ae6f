"""How fast this machine pre-fills: measured once per model and precision, stored, used by plans."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
from gfcache.files.locks import sweep
from gfcache.files.places import make_private
from gfcache.files.replace import replacing_output

from goldfinch.devices import synchronize
from goldfinch.engine.base import Engine, Start
from goldfinch.text.json_files import read_json

from .conditions import processor

LONG_BLOCKS, SHORT_TOKENS, REPEATS = 4, 32, 3
# A run that had a CPU for less than this share of its time had to wait for others.
_LEAST_CPU_SHARE = 0.9
# Rates of a run and of the profile that differ by more than this factor are not of one machine as it is now.
_RENEWED_ABOVE = 1.5
# Of the file of all profiles; of tokens per second and its inverse, and of seconds.
MOST_PROFILE_BYTES, _MOST = 1 << 20, 1e15


@dataclass(frozen=True)
class MachineProfile:
    """How fast this machine pre-fills with one model in one precision.

    Attributes:
        tok_s: tokens per second of long documents.
        document_s: seconds that every document takes besides.
        is_busy: measured while others had the CPUs, so that it holds until the next measurement only.
    """

    tok_s: float
    document_s: float
    is_busy: bool = False

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
        the profile and whether it was measured now. A profile that cannot be stored is used all the same, and one
        that was measured on a busy machine is measured again.
    """
    key = key_of(engine)
    known = None if measure else read_profile(key)
    if known is not None and not known.is_busy:
        return known, False
    profile = measured(engine)
    with contextlib.suppress(OSError, gfcache.CacheFormatError):
        write_profile(key, profile)
    return profile, True


def measured(engine: Engine[Any]) -> MachineProfile:
    """The speed now: a long and a short document, the best of REPEATS each, after one for warm-up.

    On a CPU the time counts that the threads of this process had one, where that is less than the time that passed.
    """
    length = measured_tokens(engine)
    ids = np.arange(length, dtype=np.int64) * 7919 % engine.identity["tokenizer"]["vocab_size"]
    _seconds(engine, ids)
    long_s, is_busy = min(_seconds(engine, ids) for _ in range(REPEATS))
    short_s, _ = min(_seconds(engine, ids[:SHORT_TOKENS]) for _ in range(REPEATS))
    per_token = max((long_s - short_s) / (length - SHORT_TOKENS), 1e-12)
    return MachineProfile(1 / per_token, max(short_s - SHORT_TOKENS * per_token, 0.0), is_busy)


def measured_tokens(engine: Engine[Any]) -> int:
    """Tokens of the long document. Whole blocks: within one, a GPU takes as long for a few tokens as for many."""
    return min(LONG_BLOCKS * engine.block_tokens, engine.most_tokens or sys.maxsize)


def _seconds(engine: Engine[Any], ids: np.ndarray) -> tuple[float, bool]:
    """(seconds of a pre-fill, whether it had to wait for a CPU)."""
    watch = Stopwatch(engine.device)
    engine.prefill_from(Start(), ids)
    synchronize(engine.device)
    return watch.seconds()


class Stopwatch:
    """The time of a computation without that in which other programs had the CPUs, begun when it is made.

    Args:
        device: "cpu", or another, where only the time that passes counts.
    """

    def __init__(self, device: str) -> None:
        self._is_cpu = device.startswith("cpu")
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, bool]:
        """(seconds until now, whether this process had to wait for a CPU)."""
        wall_s, cpu_s = time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s
        is_busy = self._is_cpu and cpu_s < _LEAST_CPU_SHARE * wall_s
        return (cpu_s if is_busy else wall_s), is_busy


def note_run(engine: Engine[Any], tokens: int, seconds: float, is_busy: bool) -> None:
    """Renew the stored profile where a run that was long enough shows that it no longer holds.

    Args:
        tokens: computed in the run.
        seconds, is_busy: of a `Stopwatch`.
    """
    if tokens < LONG_BLOCKS * engine.block_tokens or seconds <= 0:
        return
    key = key_of(engine)
    known = read_profile(key)
    if known is None:
        return
    rate = tokens / max(seconds - known.document_s, 1e-9)
    if max(rate / known.tok_s, known.tok_s / rate) > _RENEWED_ABOVE:
        with contextlib.suppress(OSError, gfcache.CacheFormatError):
            write_profile(key, MachineProfile(rate, known.document_s, is_busy))


def profile_path() -> Path:
    """Where the profiles of this machine are kept."""
    return gfcache.default_root() / "machine-profile.json"


def read_profile(key: str) -> MachineProfile | None:
    """The stored profile; None when there is none, or the file is damaged."""
    sweep(profile_path())
    try:
        values = read_json(profile_path(), MOST_PROFILE_BYTES)[key]
        times = float(values["tok_s"]), float(values["document_s"])
        profile = MachineProfile(*times, bool(values.get("is_busy")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    is_possible = 1 / _MOST <= profile.tok_s <= _MOST and 0 <= profile.document_s <= _MOST
    return profile if is_possible else None


def write_profile(key: str, profile: MachineProfile) -> None:
    """Store a profile beside those of other models; OSError and CacheFormatError as the system says."""
    path = profile_path()
    try:
        known = read_json(path, MOST_PROFILE_BYTES)
    except (OSError, ValueError):
        known = {}
    known = known if isinstance(known, dict) else {}
    known[key] = asdict(profile)
    make_private(path.parent)
    with replacing_output(path, follow=False) as stream:
        stream.write(json.dumps(known, indent=1).encode())
