"""Writing model directories: whole or not at all, and never in place of anything else."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from gfcache.files.locks import sweep
from gfcache.files.replace import replacing_folder
from torch import Tensor

from goldfinch.errors import CheckpointError, ConfigError, ModelDamaged, ModelNotFound, WeightsMismatch
from goldfinch.models.config import ModelConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets
from goldfinch.text.template import PromptTemplate
from goldfinch.text.tokenizer import read_tokenizer

from .directory import CONFIG_FILE, ModelCard, check_name, read_card
from .files import check_finite, check_weights, write_weights
from .fingerprints import fingerprints
from .loading import empty_model, fitting_weights
from .noted import note, state_of
from .parts import WEIGHTS_FILE
from .published import read_config

# All that gf writes into a model directory.
_OWN_FILE = re.compile(
    r"config\.json|library_config\.json|tokenizer\.json|rwkv_vocab\.txt|model.*\.safetensors(\.index\.json)?"
)


def write_model_directory(
    out: Path,
    name: str,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    template: PromptTemplate | None = None,
    tokenizer_file: Path | None = None,
    *,
    overwrite: bool = False,
    max_shard_bytes: int | None = None,
) -> ModelCard:
    """Write a model directory, whole or not at all.

    Args:
        overwrite: replace the model directory that is there.
        max_shard_bytes: most bytes of weights in a file (`files.write_weights`); None writes one file.

    Raises:
        CheckpointError: `out` exists and `overwrite` is not set, or it is not a model directory.
        WeightsMismatch: the weights do not fit, or the tokenizer has more tokens than the model.
        TokenizerDamaged: the tokenizer file cannot be read.
        ConfigError: a name or a template that no model may have.
        gfcache.CacheLocked, gfcache.CacheWriteError: another process writes it now; the system does not let it
            be written.
    """
    sweep(out)
    if overwrite:
        check_replaceable(out)
    elif out.exists():
        raise CheckpointError(f"{out} exists already", hint="choose another output or remove it first")
    check_name(name)
    template = template or PromptTemplate()
    template.check_token_ids(config.vocab_size)
    check_weights(weights, empty_model(config).state_dict())
    stored_name = tokenizer_fingerprint = None
    if tokenizer_file is not None:
        stored_name = "rwkv_vocab.txt" if tokenizer_file.suffix == ".txt" else "tokenizer.json"
        tokenizer = read_tokenizer(tokenizer_file)
        if tokenizer.vocab_size > config.vocab_size:
            raise WeightsMismatch(
                f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model's embedding {config.vocab_size:,}"
            )
        tokenizer_fingerprint = tokenizer.fingerprint
    prefill_fingerprint, model_fingerprint = fingerprints(config, weights)
    card = ModelCard(
        name, config, template, prefill_fingerprint, model_fingerprint,
        stored_name, tokenizer_fingerprint, out,
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    needed_bytes = sum(tensor.nbytes for tensor in weights.values())
    with replacing_folder(out, needed_bytes=needed_bytes) as folder:
        write_weights(folder / WEIGHTS_FILE, weights, max_shard_bytes)
        if tokenizer_file is not None and stored_name is not None:
            shutil.copyfile(tokenizer_file, folder / stored_name)
        (folder / CONFIG_FILE).write_text(card.to_json())
    card = read_card(out)
    note(card, state_of(card))
    return card


def check_replaceable(path: Path) -> None:
    """Refuse to replace anything but a model directory.

    Raises:
        CheckpointError: it holds files that no model directory has, or is not a folder.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise CheckpointError(f"{path} is not a folder, and is not replaced", hint="choose another name or folder")
    found = sorted(entry.name for entry in path.iterdir())
    foreign = [name for name in found if not _OWN_FILE.fullmatch(name)]
    what = f"it holds {foreign[0]}" if foreign else None
    if what is None and found:
        try:
            read_card(path, adopt=True)
        except (ModelDamaged, ModelNotFound) as error:
            what = str(error)
    if what is not None:
        raise CheckpointError(
            f"{path} is not as gf writes models, and is not replaced: {what}",
            hint="move it away, or choose another name",
        )


def import_model(weights_file: Path, config_file: Path, tokenizer_file: Path | None, out: Path) -> ModelCard:
    """Make a model directory from published weights (`gf model import`).

    Sizes are compared before anything is built or read: the files may be a stranger's.
    """
    config = read_config(config_file)
    template = PromptTemplate(bos_token_id=0, end_token_id=0) if tokenizer_file is not None else None
    _, weights = fitting_weights(config, weights_file)
    check_finite(weights)
    return write_model_directory(out, out.name, config, weights, template, tokenizer_file)


def init_model(preset: str, seed: int, out: Path, tokenizer_file: Path | None = None) -> ModelCard:
    """Make a model directory with random weights (`gf model init`), for benchmarks and tests.

    Matrices that training starts at zero are random too, so that every part takes part in the output.
    """
    known = presets()
    if preset not in known:
        raise ConfigError(f"unknown preset {preset!r}", hint="known presets: " + ", ".join(sorted(known)))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LanguageModel(known[preset])
    weights = {}
    for key, tensor in model.state_dict().items():
        if tensor.dim() == 2 and (not bool(tensor.any()) or key == "emb.weight"):
            tensor = torch.randn(tensor.shape, generator=generator) / tensor.shape[-1] ** 0.5
        weights[key] = tensor
    template = PromptTemplate(bos_token_id=0, end_token_id=0)
    return write_model_directory(out, out.name, known[preset], weights, template, tokenizer_file)
