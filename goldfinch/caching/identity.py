"""Which model a cache belongs to, and refusing one that belongs to another. Knows no torch."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from gfcache import Header, layout

from goldfinch.errors import CacheMismatch
from goldfinch.text.template import PromptTemplate
from goldfinch.weights.fingerprints import fingerprints

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel

# Fingerprints of models without a card, with the state of the weights that they were taken of.
_FINGERPRINTS: weakref.WeakKeyDictionary[LanguageModel, tuple[object, tuple[str, str]]] = weakref.WeakKeyDictionary()


def identity_of(model: LanguageModel) -> dict[str, Any]:
    """The identity that a cache of this model carries: fingerprints of model, tokenizer and template."""
    card = model.card
    if card is None:
        name, template = "unnamed", PromptTemplate()
        prefill_fingerprint, model_fingerprint = _fingerprints_of(model)
    else:
        name, template = card.name, card.template
        prefill_fingerprint, model_fingerprint = card.prefill_fingerprint, card.model_fingerprint
    return {
        "model": {
            "name": name,
            "model_type": model.config.model_type,
            "config": model.config.to_dict(),
            "prefill_fingerprint": prefill_fingerprint,
            "model_fingerprint": model_fingerprint,
        },
        "tokenizer": {
            "fingerprint": model.tokenizer.fingerprint if model.tokenizer is not None else None,
            "vocab_size": model.config.vocab_size,
        },
        "template": {"prefix_fingerprint": template.prefix_fingerprint(), "fingerprint": template.fingerprint()},
    }


def _fingerprints_of(model: LanguageModel) -> tuple[str, str]:
    """Fingerprints of a model that has no card: taken once, and again when training has changed the weights."""
    weights = model.state_dict()
    now = tuple((tensor.data_ptr(), tensor._version) for tensor in weights.values())
    known = _FINGERPRINTS.get(model)
    if known is None or known[0] != now:
        known = _FINGERPRINTS[model] = now, fingerprints(model.config, weights)
    return known[1]


def check_belongs(header: Header, model: LanguageModel) -> None:
    """Refuse a cache of another model, tokenizer or template, before any value is read.

    Raises:
        CacheMismatch: naming the first identity that differs.
    """
    check_identity(header, identity_of(model))


def check_identity(header: Header, own: dict[str, Any]) -> None:
    """Refuse a cache of another model, tokenizer or template than `own` (`identity_of`).

    Raises:
        CacheMismatch: naming the first identity that differs.
    """
    config = own["model"]["config"]
    hint = "name the model that made it with -m, or pre-fill the document again with this one"
    pairs = [("prefill_fingerprint", header.model.get("prefill_fingerprint"), own["model"]["prefill_fingerprint"])]
    # Sizes follow from these, and who wrote the file could claim others beside the right fingerprints.
    pairs += [(f"config.{name}", header.model["config"].get(name), config.get(name)) for name in layout.SHAPING]
    pairs.append(("layers", header.model.get("layers"), own["model"].get("layers")))
    if any(s.required and s.depends_on == "model" for s in header.sections):
        pairs.append(("model_fingerprint", header.model.get("model_fingerprint"), own["model"]["model_fingerprint"]))
    pairs += [
        ("tokenizer_fingerprint", header.tokenizer.get("fingerprint"), own["tokenizer"]["fingerprint"]),
        ("prefix_fingerprint", header.template.get("prefix_fingerprint"), own["template"]["prefix_fingerprint"]),
    ]
    for name, found, expected in pairs:
        if found != expected:
            raise CacheMismatch(name, _short(found), _short(expected), hint=hint)


def _short(value: object) -> str:
    """A fingerprint or a field of the configuration, for a message; empty for None."""
    return "" if value is None else f"{value!s:.16}"
