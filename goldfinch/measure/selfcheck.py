"""Does this installation keep its promises here? Run by gf doctor on a temporary folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import gfcache
import torch

from goldfinch.caching.document_cache import open_cache
from goldfinch.engine.prefill import prefill
from goldfinch.engine.session import Session
from goldfinch.models.executor import BLOCK_TOKENS
from goldfinch.models.language_model import LanguageModel

TOKENS = 2 * BLOCK_TOKENS + 77


@dataclass(frozen=True)
class Check:
    """One promise: its name, whether it holds, what was seen."""

    name: str
    holds: bool
    seen: str


def run_checks(model: LanguageModel, folder: Path, seed: int = 0) -> list[Check]:
    """Cold = warm, split invariance, and refusal of damaged copies, on random tokens.

    Args:
        model: any model.
        folder: an empty folder to write to.
        seed: of tokens and faults.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.config.vocab_size, (1, TOKENS), generator=generator)
    cache = prefill(model, ids)
    path = folder / "check.gfc"
    cache.save(path)
    return [_cold_is_warm(model, ids, path), _split(model, ids), _faults(path, Random(seed))]


def _cold_is_warm(model: LanguageModel, ids: torch.Tensor, path: Path) -> Check:
    question = ids[0, :9].tolist()
    cold = Session(model, prefill(model, ids)).generate(question, max_tokens=8)
    session = Session(model, open_cache(path, model))
    warm = session.generate(question, max_tokens=8)
    computed = session.last_usage.document_tokens_computed
    holds = cold == warm and computed == 0
    seen = f"{len(warm)} tokens equal from file and memory, {computed} document tokens computed"
    return Check("cold equals warm", holds, seen if holds else f"memory {cold}, file {warm}, {computed} computed")


def _split(model: LanguageModel, ids: torch.Tensor) -> Check:
    whole, pieces = prefill(model, ids), prefill(model, ids, block_tokens=64)
    pairs = [(whole.tail_hidden, pieces.tail_hidden)]
    if whole.compressed_k is not None and pieces.compressed_k is not None:
        pairs.append((whole.compressed_k, pieces.compressed_k))
    worst = max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-9)) for a, b in pairs)
    allowed = 0.1 if model.dtype == torch.bfloat16 else 1e-3
    return Check("blocks of 64 equal blocks of 512", worst < allowed, f"largest relative difference {worst:.1e}")


def _faults(path: Path, rng: Random) -> Check:
    """Copies with one flipped bit in each part of the file, and cut ones: all must be refused."""
    data = path.read_bytes()
    places = [rng.randrange(start, min(start + 4096, len(data))) for start in range(0, len(data), 4096)]
    copy, accepted, tried = path.with_name("fault.gfc"), 0, 0
    for place in [*range(0, 64, 7), *places[:: max(1, len(places) // 40)]]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.randrange(8)
        accepted += _accepted(copy, bytes(damaged))
        tried += 1
    for end in (0, 63, 64, len(data) // 2, len(data) - 1):
        accepted += _accepted(copy, data[:end])
        tried += 1
    return Check("damaged copies are refused", accepted == 0, f"{tried - accepted} of {tried} refused")


def _accepted(copy: Path, data: bytes) -> bool:
    copy.write_bytes(data)
    try:
        gfcache.verify_cache(copy)
    except gfcache.CacheFormatError:
        return False
    return True
