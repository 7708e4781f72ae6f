"""A model of others, as the engine takes it, and loading it from its model directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goldfinch.errors import ConfigError, ModelChanged, ModelRefused
from goldfinch.policies.named import AUTO
from goldfinch.text.template import PromptTemplate
from goldfinch.weights.directory import read_card
from goldfinch.weights.foreign_config import ForeignConfig, LayerShape, Schedule

from .prompts import ForeignTokenizer, tokenizer_of


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """A loaded model of others.

    Attributes:
        network: a transformers PreTrainedModel in evaluation mode, without gradients.
        name: of its model directory.
        path: the model directory, which may lead to the weights elsewhere.
        config: what our config.json says of it (`weights.foreign_config`).
        tokenizer: see ForeignTokenizer; None where the folder had none.
        template: `document_prefix`, `question_prefix` and `question_suffix` are the three strings around document and
            question, for `encode_template`; no bos_token_id, which the first string spells; `stop` ends an answer.
        stop_token_ids: tokens that end an answer.
        layers: one for each layer.
        context_length: most positions.
        schedule: how documents are computed (`Schedule`).
        block_tokens: what one step of a document should hold where the schedule is "blocks".
        dtype: compute dtype: "f32", "bf16", "f64".
        device: "cpu", "cuda", "cuda:N".
        fingerprints: SHA-256 by name, as headers hold them: prefill_fingerprint and model_fingerprint (equal: prefill
            runs every layer), tokenizer_fingerprint (None without), template_fingerprint.
        library_version: of transformers.
        layout: how documents are kept: "whole", in "blocks" that are blind to each other, or "auto": in blocks where
            the whole has no room in the context (`running.blocks`).
    """

    network: Any
    name: str
    path: Path
    config: ForeignConfig
    tokenizer: ForeignTokenizer | None
    template: PromptTemplate
    stop_token_ids: tuple[int, ...]
    layers: tuple[LayerShape, ...]
    context_length: int
    schedule: Schedule
    block_tokens: int
    dtype: str
    device: str
    fingerprints: Mapping[str, str | None]
    library_version: str
    layout: str = AUTO


def load(
    directory: Path, *, dtype: str = "auto", device: str = "cpu", threads: int | None = None, layout: str = AUTO
) -> ForeignModel:
    """Load a model of others from its model directory.

    Args:
        dtype: "f32", "bf16", "f64"; "auto" takes what this machine computes quicker, f32 or bf16, by timing.
        device: "cpu", "cuda", "cuda:N".
        threads: for torch; None leaves them as they are.
        layout: "auto", "whole" or "blocks".

    Raises:
        ModelNotFound, ModelDamaged: no model directory, or one that cannot be understood.
        ModelChanged: weights, configuration or tokenizer are not those that were taken in.
        FileNotFoundError: weights that were registered are gone.
        CheckpointError: weights that do not fit any more.
        ModelRefused: this version of the library fails the self-check, or the tokenizer has ids that the model lacks.
        LibraryMissing, DeviceError: as said there.
    """
    import torch

    from goldfinch.devices import available_device, make_current
    from goldfinch.measure.precision import quickest_dtype
    from goldfinch.weights.headers import shapes_of_files

    from . import library
    from .configuration import check_counts, clean_config
    from .directories import check_unchanged, foreign_config, read_library_config
    from .known import known_check

    card = read_card(directory)
    config = foreign_config(card)
    make_current(available_device(device))
    if threads is not None:
        torch.set_num_threads(threads)
    library.library()
    files = config.files_in(card.path)
    check_unchanged(card)
    library_config = clean_config(read_library_config(card))
    check_counts(library_config, shapes_of_files(files))
    dtype = quickest_dtype(device) if dtype == "auto" else dtype
    if dtype not in library.DTYPES:
        raise ConfigError(f"dtype is {dtype!r:.20}, allowed: auto, {', '.join(library.DTYPES)}")
    tensors = library.read_tensors(files)
    network = library.network_of(library_config, tensors, dtype, device)
    check = known_check(card, library_config, tensors)
    if check.schedule != config.schedule:
        raise ModelRefused(
            f"with transformers {library.library_version()} documents of {card.name} are computed as {check.schedule}, "
            f"when it was taken in as {config.schedule}",
            hint="import the model again; its caches have to be made again",
        )
    tokenizer = tokenizer_of(card, config)
    if tokenizer is not None and tokenizer.fingerprint != card.tokenizer_fingerprint:
        raise ModelChanged(card.path, f"the tokenizer of {card.path} is not the one that its config.json names")
    return ForeignModel(
        network, card.name, card.path, config, tokenizer, card.template, config.stop_token_ids,
        library.layers_of(network), config.context_length, config.schedule, config.block_tokens, dtype, device,
        {
            "prefill_fingerprint": card.prefill_fingerprint, "model_fingerprint": card.model_fingerprint,
            "tokenizer_fingerprint": card.tokenizer_fingerprint, "template_fingerprint": card.template.fingerprint(),
        },
        library.library_version(),
        layout,
    )  # fmt: skip
