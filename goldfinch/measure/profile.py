"""How fast this machine pre-fills: measured once per model and precision, stored, used by plans."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import torch

from goldfinch.caching.document_cache import numerics_of
from goldfinch.caching.sizes import MachineProfile, profile_key, read_profile, write_profile
from goldfinch.devices import synchronize
from goldfinch.engine.prefill import block_tokens_of, prefill
from goldfinch.models.language_model import LanguageModel

from .conditions import processor

LONG_BLOCKS, SHORT_TOKENS, REPEATS = 4, 32, 3


def key_of(model: LanguageModel) -> str:
    """What a profile of this model holds for."""
    fingerprint: str = model.card.model_fingerprint if model.card is not None else "unnamed"
    return profile_key(fingerprint, numerics_of(model), processor())


def machine_profile(model: LanguageModel, *, measure: bool = False) -> tuple[MachineProfile, bool]:
    """The stored profile of a model, or a new one.

    Args:
        model: the model.
        measure: measure again.

    Returns:
        the profile and whether it was measured now. A profile that cannot be stored is used all the same.
    """
    key = key_of(model)
    known = None if measure else read_profile(key)
    if known is not None:
        return known, False
    profile = measured(model)
    with contextlib.suppress(OSError):
        write_profile(key, profile)
    return profile, True


def measured(model: LanguageModel) -> MachineProfile:
    """The speed now: a long and a short document, the best of REPEATS each, after one for warm-up."""
    # Whole blocks: within one, a GPU takes as long for a few tokens as for many.
    length = LONG_BLOCKS * block_tokens_of(model)
    ids = torch.arange(length)[None] * 7919 % model.config.vocab_size
    _seconds(model, ids)
    long_s = min(_seconds(model, ids) for _ in range(REPEATS))
    short_s = min(_seconds(model, ids[:, :SHORT_TOKENS]) for _ in range(REPEATS))
    per_token = max((long_s - short_s) / (length - SHORT_TOKENS), 1e-12)
    return MachineProfile(1 / per_token, max(short_s - SHORT_TOKENS * per_token, 0.0))


def _seconds(model: LanguageModel, ids: Any) -> float:
    started = time.perf_counter()
    prefill(model, ids)
    synchronize(model.device)
    return time.perf_counter() - started
