"""Changing a model directory on purpose: new values, or what stands there by now, with fingerprints taken again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gfcache.files.replace import replacing_output

from goldfinch.errors import CheckpointError, ConfigError, WeightsMismatch
from goldfinch.models.config import ModelConfig
from goldfinch.text.template import TEXTS, PromptTemplate
from goldfinch.text.tokenizer import read_tokenizer

from .directory import ASSETS, CONFIG_FILE, ModelCard, check_name, directory_of, read_card
from .files import check_finite
from .fingerprints import fingerprints
from .loading import fitting_weights
from .noted import note, state_of
from .parts import weights_file_of

_COMPARED = ("name", "template_fingerprint", "tokenizer_fingerprint", "prefill_fingerprint", "model_fingerprint")


def change_model(path_or_name: str, changes: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Write new values into a model directory's card and take its fingerprints again (`gf model set`).

    Args:
        changes: texts by field: "name", "template.FIELD" or "config.FIELD". Fields of text take it as it is, or a JSON
            text; the others take JSON. Without any, what stands there is adopted.

    Returns:
        (field, old, new) of what is different now, fingerprints included.

    Raises:
        ModelNotFound, ModelDamaged: no model, or one that cannot be understood.
        ConfigError: an unknown field, or a value that is not allowed.
        CheckpointError: the embedded model; weights that cannot be read, or do not fit the configuration.
        TokenizerError: a tokenizer that cannot be read.
    """
    path = directory_of(path_or_name)
    if path.resolve().parent == ASSETS.resolve():
        raise CheckpointError(f"{path} comes with gf and is not changed", hint="copy the folder and change the copy")
    old = read_card(path, adopt=True)
    card = _with(old, changes)
    check_name(card.name)
    card.template.check_token_ids(card.config.vocab_size)
    card = _fingerprinted(card)
    with replacing_output(path / CONFIG_FILE, None, follow=False) as stream:
        stream.write(card.to_json().encode())
    written = read_card(path)
    note(written, state_of(written))
    return [
        (name, f"{getattr(old, name)!s:.16}", f"{getattr(written, name)!s:.16}")
        for name in _COMPARED
        if getattr(old, name) != getattr(written, name)
    ] + _changed_fields(old, written)


def _changed_fields(old: ModelCard, new: ModelCard) -> list[tuple[str, str, str]]:
    out = []
    for part in ("template", "config"):
        before, after = getattr(old, part).to_dict(), getattr(new, part).to_dict()
        out += [(f"{part}.{n}", json.dumps(before[n]), json.dumps(after[n])) for n in after if before[n] != after[n]]
    return out


def _with(card: ModelCard, changes: Mapping[str, str]) -> ModelCard:
    values: dict[str, Any] = {"template": card.template.to_dict(), "config": card.config.to_dict()}
    name = card.name
    for field, text in changes.items():
        part, _, inner = field.partition(".")
        if field == "name":
            name = text
        elif part in values and inner in values[part]:
            values[part][inner] = value_of(field, inner, text)
        else:
            known = ["name", *(f"{p}.{n}" for p in values for n in values[p])]
            raise ConfigError(f"unknown field {field!r:.60}, known: {', '.join(known)}")
    config, template = ModelConfig.from_dict(values["config"]), PromptTemplate.from_dict(values["template"])
    return replace(card, name=name, config=config, template=template)


def value_of(field: str, inner: str, text: str) -> Any:
    """The value that a text gives to a field of template or configuration.

    Raises:
        ConfigError: neither a text field, nor JSON.
    """
    is_text = inner in (*TEXTS, "time_mix", "upper_time_mix", "channel_mix")
    if is_text and not (text.startswith('"') or text == "null"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{field} is {text!r:.60}, allowed: a value in JSON") from error
    return [value] if inner == "stop" and isinstance(value, str) else value


def _fingerprinted(card: ModelCard) -> ModelCard:
    """The card with the fingerprints of what stands in the directory."""
    _, weights = fitting_weights(card.own_config, weights_file_of(card.path))
    check_finite(weights)
    prefill_fingerprint, model_fingerprint = fingerprints(card.own_config, weights)
    tokenizer_fingerprint = None
    if card.tokenizer_file is not None:
        tokenizer = read_tokenizer(card.path / card.tokenizer_file)
        tokenizer_fingerprint = tokenizer.fingerprint
        if tokenizer.vocab_size > card.config.vocab_size:
            raise WeightsMismatch(
                f"the tokenizer has {tokenizer.vocab_size:,} tokens, the model's embedding {card.config.vocab_size:,}"
            )
    return replace(
        card, prefill_fingerprint=prefill_fingerprint, model_fingerprint=model_fingerprint,
        tokenizer_fingerprint=tokenizer_fingerprint,
    )  # fmt: skip
