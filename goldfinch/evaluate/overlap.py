"""Overlap of held-out texts with training texts, by runs of words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

RUN = 13  # words; the length that GPT-3's authors used (arXiv 2005.14165, appendix C)
_WORD = re.compile(r"[a-z0-9]+")
_FACTOR = 0x9E3779B97F4A7C15


def word_runs(text: str, run: int = RUN) -> np.ndarray:
    """A 64-bit hash of every run of `run` words, lower case and without punctuation."""
    words = [zlib.crc32(word.encode()) for word in _WORD.findall(text.lower())]
    count = len(words) - run + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    values, hashes = np.array(words, np.uint64), np.zeros(count, np.uint64)
    for i in range(run):
        hashes = hashes * np.uint64(_FACTOR) + values[i : i + count]
    return hashes ^ (hashes >> np.uint64(29))


def evaluate_overlap(held_out: Iterable[str], training: Iterable[str], run: int = RUN) -> dict[str, Any]:
    """How much of the held-out texts stands in the training texts word for word.

    Returns:
        run_words; documents; runs (distinct ones of the held-out texts); shared_runs (share of them that training holds
        too); touched_documents (share of the documents with at least one); copied_documents (with more than half).
    """
    documents = [np.unique(word_runs(text, run)) for text in held_out]
    known = np.unique(np.concatenate([np.zeros(0, np.uint64), *documents]))
    met = np.zeros(len(known), bool)
    for text in training:
        if len(known):
            hashes = word_runs(text, run)
            at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            met[at[known[at] == hashes]] = True
    shares = [float(met[np.searchsorted(known, runs)].mean()) for runs in documents if len(runs)]
    return {
        "run_words": run,
        "documents": len(shares),
        "runs": len(known),
        "shared_runs": float(met.mean()) if len(known) else 0.0,
        "touched_documents": float(np.mean([share > 0 for share in shares])) if shares else 0.0,
        "copied_documents": float(np.mean([share > 0.5 for share in shares])) if shares else 0.0,
    }
