"""Which reading policy answers best with a model: what was measured, shipped for our own models.

A record is a file named by the model's fingerprint: rows of least tokens, policy and blocks, and where the measurement
stands. A model without one reads the whole document.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Measured:
    """A policy, the blocks that it reads, and from how many document tokens on it is better than those before it."""

    policy: str
    blocks: int
    least_tokens: int = 0


WHOLE = Measured("all", 1)


def measured_reading(model_fingerprint: str | None, tokens: int) -> Measured:
    """What "auto" means for a model and a document of so many tokens."""
    rows = _record(model_fingerprint) if model_fingerprint else ()
    fitting = [row for row in rows if row.least_tokens <= tokens]
    return fitting[-1] if fitting else WHOLE


@lru_cache(maxsize=16)
def _record(model_fingerprint: str) -> tuple[Measured, ...]:
    path = RECORDS / f"{model_fingerprint}.json"
    if not path.is_file():
        return ()
    rows = [Measured(row["policy"], row["blocks"], row["least_tokens"]) for row in json.loads(path.read_text())["rows"]]
    return tuple(sorted(rows, key=lambda row: row.least_tokens))
