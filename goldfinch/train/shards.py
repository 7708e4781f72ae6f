"""Batches made beforehand: pre-tokenised files, for a machine that lacks the corpora or the time to tokenise.

A shard holds the batches of consecutive steps and is called after them: steps-00000000-00000120.safetensors.xz (the
last step excluded). It is a .safetensors file, compressed (xz), of

- `ids`: token ids of all sequences of all its batches in one row, uint16 (int32 for a vocabulary above 65,536);
- `weights`: for each target an index into the loss weights of the metadata, uint8;
- metadata: format, identity (`Recipe.data_digest`, tokenizer and steps) and loss weights.

Which steps a shard holds follows from the recipe alone: as many as take 16 MB before compression.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gfcache.files.locks import is_made
from gfcache.files.regular import NotRegular, TooLarge, read_regular
from gfcache.files.replace import replacing_output
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from goldfinch.text.tokenizer import MOST_TOKENIZER_BYTES, Tokenizer

from ..errors import CorpusMissing, GoldFinchError
from .batches import Batch, batches
from .data import TrainingData
from .recipe import Recipe

FORMAT = "goldfinch-batches-1"
MAX_BYTES = 16_000_000  # before compression, so that a shard is smaller unless one step alone is larger
HEADER_BYTES = 1 << 16  # more than the header of a shard takes


def shard_ranges(recipe: Recipe, vocab_size: int) -> Iterator[tuple[int, int]]:
    """First step and last step (excluded) of every shard."""
    per_token = 1 + _id_type(vocab_size).itemsize
    first, size = 0, 0
    for step in range(recipe.total_steps):
        stage = recipe.stage_of(step)
        more = stage.batch * (stage.sequence + 1) * per_token
        if size and size + more > MAX_BYTES:
            yield first, step
            first, size = step, 0
        size += more
    yield first, recipe.total_steps


def shard_name(first: int, last: int) -> str:
    """File name of the shard of steps first .. last - 1."""
    return f"steps-{first:08}-{last:08}.safetensors.xz"


def write_shards(data: TrainingData, tokenizer_file: Path, folder: Path, *, workers: int = 0) -> Iterator[Path]:
    """Write the shards of a recipe and the tokenizer beside them; yields each shard once it is there.

    Existing shards are kept, so that writing can be interrupted and resumed.

    Raises:
        GoldFinchError: the folder holds another tokenizer, or shards with other batches.
    """
    recipe, tokenizer = data.recipe, data.tokenizer
    folder.mkdir(parents=True, exist_ok=True)
    _keep_tokenizer(tokenizer_file, folder / tokenizer_file.name)
    reader = ShardReader(folder, recipe, tokenizer)
    for first, last in shard_ranges(recipe, tokenizer.vocab_size):
        path = folder / shard_name(first, last)
        if is_made(path):
            # Neither the corpora nor the code of the tasks are in the recipe's digest; the first batch tells.
            pairs = zip(reader.batch(first), data.batch(first), strict=True)
            if not all(torch.equal(there, made) for there, made in pairs):
                raise _of_another(path)
        else:
            with batches(data, first, last, workers) as stream:
                content = _packed(stream, recipe, tokenizer, first, last)
            with replacing_output(path, mode=None, follow=False) as out:
                out.write(lzma.compress(content, preset=6))
        yield path


def _keep_tokenizer(file: Path, place: Path) -> None:
    content = read_regular(file, MOST_TOKENIZER_BYTES)
    if not is_made(place):
        with replacing_output(place, mode=None, follow=False) as stream:
            stream.write(content)
    elif read_regular(place, MOST_TOKENIZER_BYTES) != content:
        raise GoldFinchError(f"{place} exists and is another tokenizer", hint="use another folder")


class ShardReader:
    """Batches from a folder of shards, in place of `TrainingData`.

    Args:
        folder: with the shards of the recipe, or the first of them.
        recipe, tokenizer: what the batches must have been made for.
    """

    def __init__(self, folder: Path, recipe: Recipe, tokenizer: Tokenizer) -> None:
        self.folder, self.recipe, self.tokenizer = folder, recipe, tokenizer
        self._ranges = list(shard_ranges(recipe, tokenizer.vocab_size))
        self._open: tuple[int, int] | None = None
        self._steps: list[Batch] = []

    def end(self, first: int) -> int:
        """The step up to which, from `first`, no shard is missing.

        Raises:
            CorpusMissing: the shard of `first` is not there.
        """
        for start, stop in self._ranges:
            if stop > first and not (self.folder / shard_name(start, stop)).is_file():
                if start <= first:
                    raise CorpusMissing(
                        f"{self.folder} has no {shard_name(start, stop)}, which holds step {first + 1}",
                        hint="write it with --write-shards, or copy it there",
                    )
                return start
        return self.recipe.total_steps

    def batch(self, step: int) -> Batch:
        """Inputs (B, T), targets (B, T) and loss weights (B, T) of one step."""
        if self._open is None or not self._open[0] <= step < self._open[1]:
            self._open = next(found for found in self._ranges if found[0] <= step < found[1])
            path = self.folder / shard_name(*self._open)
            ids, weights = _read(path, self.recipe, self.tokenizer, *self._open)
            self._steps = list(_unpacked(ids, weights, self.recipe, *self._open))
        return self._steps[step - self._open[0]]


def _id_type(vocab_size: int) -> np.dtype[Any]:
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32)


def _packed(stream: Iterator[Batch], recipe: Recipe, tokenizer: Tokenizer, first: int, last: int) -> bytes:
    """The content of a shard before compression."""
    table = sorted({0.0, 1.0, recipe.question_weight, recipe.answer_weight})
    # The weights are float32 in batches; a table of such values finds each of them.
    values = torch.tensor(table)
    ids, weights = [], []
    for inputs, targets, weight in stream:
        ids.append(torch.cat([inputs, targets[:, -1:]], 1).flatten())
        weights.append(torch.searchsorted(values, weight.contiguous()).flatten())
        assert torch.equal(values[weights[-1]], weight.flatten())
    metadata = {"format": FORMAT, "data": _identity(recipe, tokenizer, first, last), "weights": json.dumps(table)}
    return save(
        {
            "ids": torch.cat(ids).numpy().astype(_id_type(tokenizer.vocab_size)),
            "weights": torch.cat(weights).numpy().astype(np.uint8),
        },
        metadata,
    )


def _unpacked(ids: Tensor, weights: Tensor, recipe: Recipe, first: int, last: int) -> Iterator[Batch]:
    at, weights_at = 0, 0
    for step in range(first, last):
        stage = recipe.stage_of(step)
        rows = ids[at : at + stage.batch * (stage.sequence + 1)].view(stage.batch, -1)
        own = weights[weights_at : weights_at + stage.batch * stage.sequence].view(stage.batch, -1)
        at, weights_at = at + rows.numel(), weights_at + own.numel()
        yield rows[:, :-1], rows[:, 1:], own


def _read(path: Path, recipe: Recipe, tokenizer: Tokenizer, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Token ids (int64) and loss weights of a shard that holds the batches of these steps of this recipe."""
    stages = [recipe.stage_of(step) for step in range(first, last)]
    targets, rows = sum(s.batch * s.sequence for s in stages), sum(s.batch for s in stages)
    try:
        most = targets * 5 + rows * 4 + HEADER_BYTES
        decoder = lzma.LZMADecompressor()
        content = decoder.decompress(read_regular(path, most + HEADER_BYTES), most)
        if not decoder.eof:
            raise ValueError("cut off, or longer than its batches")
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        tensors = load(content)
        identity, table = metadata["data"], torch.tensor(json.loads(metadata["weights"]))
        ids = torch.from_numpy(tensors["ids"].astype(np.int64))
        weights = table[torch.from_numpy(tensors["weights"].astype(np.int64))]
    except (
        NotRegular, TooLarge, lzma.LZMAError, SafetensorError, ValueError, LookupError, TypeError, RuntimeError,
    ) as error:  # fmt: skip
        reason = f"{type(error).__name__} {error}"
        raise GoldFinchError(f"{path} is damaged: {reason}", hint="remove it and write it again") from error
    if metadata.get("format") != FORMAT or identity != _identity(recipe, tokenizer, first, last):
        raise _of_another(path)
    if (
        ids.numel() != targets + rows
        or weights.numel() != targets
        or not 0 <= ids.min() <= ids.max() < tokenizer.vocab_size
    ):
        raise GoldFinchError(f"{path} is damaged: its tensors do not fit", hint="remove it and write it again")
    return ids, weights


def _of_another(path: Path) -> GoldFinchError:
    return GoldFinchError(
        f"{path} holds the batches of another recipe, tokenizer, data or version",
        hint="use another folder, or give the recipe and the data as they were",
    )


def _identity(recipe: Recipe, tokenizer: Tokenizer, first: int, last: int) -> str:
    return f"{recipe.data_digest()}-{tokenizer.fingerprint}-{first}-{last}"
