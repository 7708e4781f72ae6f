"""Whether a model is what its card says. Knows no torch: weights are its tensors, or numpy's arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from goldfinch.errors import ModelChanged, ModelDamaged
from goldfinch.text.tokenizer import Tokenizer

from .directory import ModelCard
from .fingerprints import fingerprints
from .noted import note, noted, state_of
from .parts import weights_file_of


def check_identity(
    card: ModelCard,
    state: dict[str, Any],
    weights: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    read: Callable[[Path], Mapping[str, Any]],
) -> None:
    """Refuse a model that is not what its card says; what was checked before, and has not changed, is believed.

    Args:
        state: of the directory before the weights were read (`noted.state_of`).
        weights: as they were loaded, in any dtype.
        tokenizer: as it was loaded.
        read: gives the weights as they are stored, where they were converted.

    Raises:
        ModelChanged: weights, tokenizer or template are not those that the card was written for.
    """
    if tokenizer is not None and tokenizer.fingerprint != card.tokenizer_fingerprint:
        raise ModelChanged(card.path, f"the tokenizer of {card.path} is not the one that its config.json names")
    if tokenizer is not None and tokenizer.vocab_size > card.config.vocab_size:
        highest, rows = tokenizer.vocab_size - 1, card.config.vocab_size
        raise ModelDamaged(f"the tokenizer of {card.path} has ids up to {highest}, the model {rows} rows for them")
    before = noted(card)
    if before == state:
        return
    # A directory whose card names no fingerprint of its template: the note does.
    unnamed = card.template_fingerprint is None
    if before is not None and unnamed and before.get("template_fingerprint") != state["template_fingerprint"]:
        raise ModelChanged(card.path, f"the prompt template of {card.path} has changed since the model was last used")
    if any(str(tensor.dtype).removeprefix("torch.") != "float32" for tensor in weights.values()):
        weights = read(weights_file_of(card.path))
    differences = fingerprint_differences(card, weights)
    if differences:
        raise ModelChanged(card.path, f"{card.path} is not the model that its config.json describes: {differences[0]}")
    if state_of(card) == state:
        note(card, state)


def fingerprint_differences(card: ModelCard, weights: Mapping[str, Any]) -> list[str]:
    """Fingerprints of weights that are not the card's, in words."""
    names = ("prefill_fingerprint", "model_fingerprint")
    found = dict(zip(names, fingerprints(card.own_config, weights), strict=True))
    expected = {name: getattr(card, name) for name in names}
    return [
        f"{name} is {found[name]}, config.json says {expected[name]}" for name in names if found[name] != expected[name]
    ]
