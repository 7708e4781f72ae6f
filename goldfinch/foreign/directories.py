"""Model directories of models of others: their fingerprints, taken and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gfcache.files.regular import open_regular, read_regular

from goldfinch.errors import ConfigError, ModelChanged, ModelDamaged
from goldfinch.text.json_files import parse_json
from goldfinch.weights.directory import ModelCard
from goldfinch.weights.foreign_config import LIBRARY, LIBRARY_CONFIG_FILE, ForeignConfig
from goldfinch.weights.noted import note, noted, state_of

MOST_CONFIG_BYTES = 1 << 20
_PIECE_BYTES = 1 << 22


def foreign_config(card: ModelCard) -> ForeignConfig:
    """The configuration of a card that is known to be of a model of others."""
    if not isinstance(card.config, ForeignConfig):
        raise ConfigError(f"{card.name} is a model of ours, not one of others")
    return card.config


def digests_of(files: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """(bytes, SHA-256) of files by name.

    Raises:
        OSError: one cannot be read.
    """
    out = {}
    for path in files:
        digest, size = hashlib.sha256(), 0
        with open(open_regular(path, follow=True), "rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
        out[path.name] = (size, digest.hexdigest())
    return out


def fingerprint_of(library_config: Mapping[str, Any], files: Mapping[str, tuple[int, str]]) -> str:
    """SHA-256 over the digests of the weight files and the configuration that gives them meaning."""
    meaning = {"library": LIBRARY, "config": library_config, "weights": sorted(digest for _, digest in files.values())}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def read_library_config(card: ModelCard) -> dict[str, Any]:
    """library_config.json of a model directory, if it is the one that the card names.

    Raises:
        ModelDamaged: missing, or not JSON.
        ModelChanged: another.
    """
    path = card.path / LIBRARY_CONFIG_FILE
    try:
        data = read_regular(path, MOST_CONFIG_BYTES)
        values = parse_json(data)
    except (OSError, ValueError) as error:
        raise ModelDamaged(f"cannot read {path}: {error}", hint="import the model again") from error
    if hashlib.sha256(data).hexdigest() != foreign_config(card).library_config_digest or not isinstance(values, dict):
        raise ModelChanged(card.path, f"{path} is not the one that config.json names")
    return values


def check_unchanged(card: ModelCard) -> None:
    """Refuse weights that are not those of the card; what was hashed before, and has not changed, is believed.

    Raises:
        FileNotFoundError: a file of weights is gone.
        ModelChanged: as said.
    """
    state = state_of(card)
    if noted(card) == state:
        return
    differences = differences_of(card)
    if differences:
        raise ModelChanged(card.path, f"{card.path} is not the model that its config.json describes: {differences[0]}")
    if state_of(card) == state:
        note(card, state)


def differences_of(card: ModelCard) -> list[str]:
    """What does not match the card's fingerprints, in words; empty when all is well."""
    config = foreign_config(card)
    found = digests_of(config.files_in(card.path))
    out = [
        f"{name} has {found[name][0]:,} bytes and SHA-256 {found[name][1][:16]}..., "
        f"config.json says {size:,} and {digest[:16]}..."
        for name, (size, digest) in sorted(config.files.items()) if found[name] != (size, digest)
    ]  # fmt: skip
    fingerprint = fingerprint_of(read_library_config(card), config.files)
    if not out and fingerprint != card.model_fingerprint:
        out.append(f"model_fingerprint is {fingerprint}, config.json says {card.model_fingerprint}")
    if card.tokenizer_file is not None:
        _, tokenizer = digests_of([card.path / card.tokenizer_file])[card.tokenizer_file]
        if tokenizer != card.tokenizer_fingerprint:
            out.append(f"tokenizer_fingerprint is {tokenizer}, config.json says {card.tokenizer_fingerprint}")
    if card.prefill_fingerprint != card.model_fingerprint:
        out.append("prefill_fingerprint is not model_fingerprint, though prefill runs every layer")
    return out
