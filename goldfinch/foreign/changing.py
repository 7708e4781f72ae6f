"""Changing the model directory of a model of others on purpose (`gf model set`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gfcache.files.replace import replacing_output

from goldfinch.errors import ConfigError
from goldfinch.text.template import PromptTemplate
from goldfinch.weights.changing import value_of
from goldfinch.weights.directory import CONFIG_FILE, ModelCard, check_name, read_card
from goldfinch.weights.noted import note, state_of

from . import library
from .configuration import clean_config
from .directories import digests_of, fingerprint_of, foreign_config, read_library_config
from .importing import tried_network
from .prompts import tokenizer_of

_COMPARED = ("name", "model_fingerprint", "tokenizer_fingerprint")


def change_foreign(path: Path, changes: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Write new values into the card of a model of others, and take its fingerprints again.

    Args:
        changes: texts by field: "name", "prompt" (plain or chat) or "template.FIELD". Without any, what stands there is
            adopted: other weights are tried again.

    Returns:
        (field, old, new) of what is different now.

    Raises:
        ConfigError: an unknown field, or a value that is not allowed.
        ModelRefused, CheckpointError: weights that are adopted and are not taken.
    """
    old = read_card(path, adopt=True)
    card = _with(old, changes)
    check_name(card.name)
    card.template.check_token_ids(card.config.vocab_size)
    if not changes:
        card = _adopted(card)
    with replacing_output(path / CONFIG_FILE, None, follow=False) as stream:
        stream.write(card.to_json().encode())
    written = read_card(path)
    note(written, state_of(written))
    before, after = old.template.to_dict(), written.template.to_dict()
    fields = [(f"template.{n}", json.dumps(before[n]), json.dumps(after[n])) for n in after if before[n] != after[n]]
    return [
        (name, f"{getattr(old, name)!s:.16}", f"{getattr(written, name)!s:.16}")
        for name in _COMPARED
        if getattr(old, name) != getattr(written, name)
    ] + fields


def _with(card: ModelCard, changes: Mapping[str, str]) -> ModelCard:
    config, template, name, prompt = foreign_config(card), card.template.to_dict(), card.name, None
    for field, text in changes.items():
        part, _, inner = field.partition(".")
        if field == "name":
            name = text
        elif field == "prompt":
            if text not in config.prompts:
                raise ConfigError(f"prompt is {text!r:.40}, allowed: {', '.join(config.prompts) or 'none'}")
            prompt, template = text, config.prompts[text].to_dict()
        elif part == "template" and inner in template:
            template[inner] = value_of(field, inner, text)
            prompt = "own"
        else:
            known = ["name", "prompt", *(f"template.{n}" for n in template)]
            raise ConfigError(f"unknown field {field!r:.60}, known: {', '.join(known)}")
    return replace(
        card, name=name, template=PromptTemplate.from_dict(template),
        config=config if prompt is None else replace(config, prompt=prompt),
    )  # fmt: skip


def _adopted(card: ModelCard) -> ModelCard:
    """The card with the digests of what stands there, which is tried again where it differs."""
    config = foreign_config(card)
    library_config = clean_config(read_library_config(card))
    files = config.files_in(card.path)
    digests = digests_of(files)
    if digests != dict(config.files):
        tensors = library.read_tensors(files)
        check = tried_network(library.network_of(library_config, tensors), library_config, tensors)
        config = replace(config, files=digests, schedule=check.schedule, check=check.figures)
    fingerprint = fingerprint_of(library_config, digests)
    card = replace(card, config=config, prefill_fingerprint=fingerprint, model_fingerprint=fingerprint)
    tokenizer = tokenizer_of(card, config)
    return replace(card, tokenizer_fingerprint=None if tokenizer is None else tokenizer.fingerprint)
