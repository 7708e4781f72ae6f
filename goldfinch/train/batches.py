"""Batches made ahead of their use by other processes."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor, Tensor]


class BatchSource(Protocol):
    """Where batches come from: the corpora (`data.TrainingData`) or files of them (`shards.ShardReader`)."""

    def batch(self, step: int) -> Batch:
        """Inputs (B, T), targets (B, T) and loss weights (B, T) of one step."""


# Batches in the making per process: enough that none waits, few enough that memory stays small.
AHEAD = 3

_data: BatchSource | None = None


@contextmanager
def batches(data: BatchSource, first: int, last: int, workers: int) -> Iterator[Iterator[Batch]]:
    """The batches of steps first .. last - 1, in order; the same ones for any number of workers.

    Args:
        data: where they come from; forked processes share its memory. Open this before a GPU is touched.
        workers: processes; 0 makes each batch when it is asked for.
    """
    if workers == 0:
        yield (data.batch(step) for step in range(first, last))
        return
    global _data
    _data = data
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the tokenizer's threads do not survive a fork
    with multiprocessing.get_context("fork").Pool(workers, initializer=_one_thread) as pool:
        try:
            yield _in_order(pool, first, last, AHEAD * workers)
        finally:
            _data = None


def _in_order(pool: Any, first: int, last: int, ahead: int) -> Iterator[Batch]:
    waiting: deque[Any] = deque()
    for step in range(first, last):
        waiting.append(pool.apply_async(_batch, (step,)))
        if len(waiting) > ahead:
            yield _tensors(waiting.popleft().get())
    while waiting:
        yield _tensors(waiting.popleft().get())


def _one_thread() -> None:
    torch.set_num_threads(1)


def _batch(step: int) -> list[Any]:
    assert _data is not None
    return [part.numpy() for part in _data.batch(step)]


def _tensors(arrays: list[Any]) -> Batch:
    ids, targets, weights = (torch.from_numpy(array) for array in arrays)
    return ids, targets, weights
