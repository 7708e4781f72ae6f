"""Overlap of held-out texts with training texts, by runs of words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
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


def evaluate_overlap(
    held_out: Mapping[str, Sequence[str]], training: Iterable[str], run: int = RUN
) -> dict[str, dict[str, Any]]:
    """How much of held-out texts the training texts contain word for word.

    Args:
        held_out: sets of texts by name; the training texts are read once for all.

    Returns:
        per set: run_words; documents; runs (distinct ones of the set); shared_runs (share of them that training holds
        too); touched_documents (share of the documents with at least one); copied_documents (with more than half).
    """
    sets = {name: [np.unique(word_runs(text, run)) for text in texts] for name, texts in held_out.items()}
    known = np.unique(np.concatenate([np.zeros(0, np.uint64), *(runs for texts in sets.values() for runs in texts)]))
    met = np.zeros(len(known), bool)
    for text in training:
        if len(known):
            hashes = word_runs(text, run)
            at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            met[at[known[at] == hashes]] = True
    return {name: _shares(documents, known, met) | {"run_words": run} for name, documents in sets.items()}


def _shares(documents: list[np.ndarray], known: np.ndarray, met: np.ndarray) -> dict[str, Any]:
    found = [met[np.searchsorted(known, runs)] for runs in documents if len(runs)]
    every = np.unique(np.concatenate([np.zeros(0, np.uint64), *documents]))
    shares = [float(each.mean()) for each in found]
    return {
        "documents": len(shares),
        "runs": len(every),
        "shared_runs": float(met[np.searchsorted(known, every)].mean()) if len(every) else 0.0,
        "touched_documents": float(np.mean([share > 0 for share in shares])) if shares else 0.0,
        "copied_documents": float(np.mean([share > 0.5 for share in shares])) if shares else 0.0,
    }
