"""The byte-level BPE of a small model: the one that a recipe names, or a new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gfcache.files.locks import sweep
from gfcache.files.regular import read_regular
from gfcache.files.replace import replacing_output

from goldfinch.datasets.corpora import read_records
from goldfinch.text.tokenizer import MOST_TOKENIZER_BYTES, Tokenizer, read_tokenizer

from ..errors import ConfigError, CorpusMissing
from .recipe import Recipe

END_OF_TEXT, END_OF_ANSWER = "<|endoftext|>", "<|end|>"
BOS_TOKEN_ID, END_TOKEN_ID = 0, 1
SAMPLE = (("corpus-wikipedia-00", 1500), ("train_qa", 12000), ("corpus-books", 40), ("train_docqa", 500))
# Tasks that read questions, from where, and how many records a sample has of any other corpus.
ASKED_BY = {"train_qa": "qa", "train_docqa": "docqa"}
OTHERS = 1500


def sample_of(recipe: Recipe) -> list[tuple[str, int]]:
    """The files that the recipe reads anyway and a tokenizer is trained on, with the records that are taken of each."""
    tasks = {task for stage in recipe.stages for task in stage.mixture}
    read = {*recipe.corpora, *(name for name, task in ASKED_BY.items() if task in tasks)}
    found = [(name, most) for name, most in SAMPLE if name in read]
    return (
        found
        if any(name in recipe.corpora for name, _ in found)
        else [*((name, OTHERS) for name in recipe.corpora), *found]
    )


def train_bpe(directory: Path, recipe: Recipe, path: Path) -> None:
    """Train on a sample of the corpora of a recipe and write `tokenizer.json` to `path`.

    Digits stand alone (numbers are copied digit by digit), every byte has a token (any text round-trips).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.model.vocab_size,
        special_tokens=[END_OF_TEXT, END_OF_ANSWER],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample_texts(directory, recipe), trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_output(path, mode=None, follow=False) as stream:
        stream.write(tokenizer.to_str(pretty=True).encode())


def _sample_texts(directory: Path, recipe: Recipe) -> Iterator[str]:
    for name, limit in sample_of(recipe):
        for record in read_records(directory / f"{name}.jsonl.zst", limit):
            text = record.get("text") or record.get("doc")
            if not text:
                text = f"{record['question']} {record['context']}" if "question" in record else record["text"]
            yield text[:20000]


def tokenizer_path(recipe: Recipe, run_directory: Path) -> Path:
    """The file that the recipe names, or the one in the run folder that came with shards or was trained there."""
    named = Path(recipe.tokenizer) if recipe.tokenizer else run_directory / "tokenizer.json"
    brought = run_directory / named.name
    return brought if brought.exists() and not named.exists() else named


def _is_within(path: Path, run_directory: Path) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(folder)) for folder in (".", run_directory))


def _check_within(path: Path, run_directory: Path) -> None:
    """Refuse to make a file that a recipe, which may be anybody's, names elsewhere.

    Raises:
        ConfigError: as said.
    """
    if not _is_within(path, run_directory):
        raise ConfigError(
            f"the recipe's tokenizer {path} is not there, and is made in the current folder or {run_directory} only",
            hint="put a tokenizer there, or name another place in the recipe",
        )


def tokenizer_of(
    recipe: Recipe, data_directory: Path | None, run_directory: Path, shards: Path | None = None
) -> Tokenizer:
    """The recipe's tokenizer; where its file is missing, the one beside the shards, or a new one."""
    path = tokenizer_path(recipe, run_directory)
    if _is_within(path, run_directory):
        sweep(path)
    if not path.exists():
        if shards is not None and (shards / path.name).is_file():
            path = run_directory / path.name  # what the recipe names may lie anywhere
            with replacing_output(path, mode=None, follow=False) as stream:
                stream.write(read_regular(shards / path.name, MOST_TOKENIZER_BYTES))
        elif data_directory is not None:
            _check_within(path, run_directory)
            train_bpe(data_directory, recipe, path)
        else:
            raise CorpusMissing(f"{path}: no such tokenizer, and no corpora to train one on")
    return read_tokenizer(path)
