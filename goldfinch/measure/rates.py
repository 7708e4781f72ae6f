"""What codecs make of a document's values, measured on its beginning: so the size of its file is known before."""

from __future__ import annotations

from typing import Any

import numpy as np
from gfcache import Coding

from goldfinch.caching.row_parts import Form
from goldfinch.caching.sizes import Rates
from goldfinch.engine.base import Engine, Start

# Tokens that are computed for it.
SAMPLE_TOKENS = 2048


def measured_rates(engine: Engine[Any], token_ids: np.ndarray, coding: Coding | None) -> Rates | None:
    """The rates of a document; None where nothing is rounded.

    Args:
        token_ids: (T,) int64.
        coding: the codecs of its file, or None.
    """
    if coding is None or not coding.is_lossy:
        return None
    cache = engine.prefill_from(Start(form=Form(coding)), token_ids[:SAMPLE_TOKENS])
    return Rates.of(cache.packed(), coding, cache.identity["model"])
