"""Checkpoints of training: written whole or not at all, and read as anybody's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gfcache.files.replace import replacing_output
from torch import Tensor

from goldfinch.caching.journal import KEPT
from goldfinch.weights.parts import check_regular
from goldfinch.weights.pickles import described


def write_checkpoint(path: Path, values: Mapping[str, Any]) -> None:
    """Write a checkpoint in the place of an old one, never through a link.

    Raises:
        CacheLocked: another process writes this file now.
        CacheWriteError: the system does not let it be written.
    """
    needed = sum(tensor.nbytes for tensor in _tensors(values))
    with replacing_output(path, mode=None, follow=False, needed_bytes=needed) as stream:
        try:
            torch.save(dict(values), stream)
        except RuntimeError as error:  # how it ends after an error of the stream, which it keeps to itself
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
    KEPT.info("saved %s", path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU. No code in it is run.

    Raises:
        OSError, MemoryError: as the system says.
        Exception: it is no checkpoint; the unpickler stumbles over other bytes in many ways.
    """
    check_regular(path)
    described(path)
    saved = dict(torch.load(path, map_location="cpu", weights_only=True))
    KEPT.info("read %s", path)
    return saved


def _tensors(values: object) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes):
        for value in values:
            yield from _tensors(value)
