"""Opening: which model a cache asks for, and a session on it.

A file is refused as foreign or damaged, and its model looked for, before torch is imported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gfcache

from goldfinch.errors import CacheMismatch, ModelNotFound
from goldfinch.policies.named import AUTO
from goldfinch.weights.directory import Made, ModelCard, find_model, find_model_by_fingerprint
from goldfinch.weights.foreign_config import ForeignConfig

if TYPE_CHECKING:
    from goldfinch.engine.base import Engine
    from goldfinch.policies.base import Chosen

# A loaded model, of ours or of others: `engine_of` knows what to do with it.
Model = Any
# From the directory or name of a model and the dtype that a cache was computed in ("f32", ...; None where the file does
# not tell) to the model.
Load = Callable[[str, str | None], Model]
# Takes what a reader of messages should know.
Remark = Callable[[str], object]


def load_as_computed(place: str, dtype: str | None) -> Model:
    """The model on the CPU, in the dtype of the cache; f32 where the file does not tell. A `Load`."""
    return load(find_model(place), dtype=dtype or "f32")


def load(
    card: ModelCard, *, device: str = "cpu", dtype: str = "f32", layout: str = "auto", light: bool = False
) -> Model:
    """Load a model, of ours or of others.

    Args:
        card: of its directory.
        device: "cpu", "cuda", "cuda:N".
        dtype: compute dtype as files name it: "f32", "bf16", "f64".
        layout: how a model of others keeps documents: a name of `policies.named.LAYOUTS`.
        light: without torch, which nothing stands against (`library.light`).

    Raises:
        the errors of `weights.loading.load_model` and of `foreign.models.load`.
    """
    if card.is_foreign:
        from goldfinch.foreign.models import load as load_foreign

        return load_foreign(card.path, device=device, dtype=dtype, layout=layout)
    if light:
        from goldfinch.weights.light import load_light

        return load_light(card)
    import torch

    from goldfinch.weights.loading import load_model

    dtypes = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16}
    return load_model(card.path, device=device, dtype=dtypes[dtype])


def usual_dtypes(card: ModelCard, device: str) -> tuple[str, ...]:
    """The dtypes that a model computes in where nothing names one, as files name them, that of new caches first.

    Of a model of others it is the one that is quicker here, by timing; caches of another machine may have the other.

    Args:
        device: "cpu", "cuda", "cuda:N".
    """
    if card.is_foreign:
        from goldfinch.measure.precision import quickest_dtype

        return ("bf16", "f32") if quickest_dtype(device) == "bf16" else ("f32", "bf16")
    return ("f32" if device == "cpu" else "bf16",)


def engine_of(model: Model) -> Engine[Any]:
    """What a loaded model can do. This file is the one place that tells models of ours from those of others."""
    from goldfinch.models.running.sequences import Sequences

    if isinstance(model, Sequences):
        from goldfinch.engine.goldfinch import GoldFinchEngine

        return GoldFinchEngine(model)  # type: ignore[arg-type]
    from goldfinch.foreign.running.engine import ForeignEngine

    return ForeignEngine(model)


def tokenizer_of(card: ModelCard) -> Any:
    """The tokenizer of a model that has one, without the model.

    Raises:
        FileNotFoundError, TokenizerDamaged.
    """
    if isinstance(card.config, ForeignConfig):
        from goldfinch.foreign.prompts import tokenizer_of as foreign_tokenizer

        return foreign_tokenizer(card, card.config)
    from goldfinch.text.tokenizer import read_tokenizer

    return read_tokenizer(card.path / str(card.tokenizer_file))


def prompt_of(card: ModelCard, tokenizer: Any, text: str) -> tuple[list[int], tuple[int, int]]:
    """Token ids of a document as a model reads it, and the (start, end) of its own.

    Args:
        tokenizer: of the model (`tokenizer_of`).

    Raises:
        EmptyInput: the text is empty or blank.
    """
    if card.is_foreign:
        from goldfinch.foreign.prompts import document_ids

        return document_ids(tokenizer, card.template, text)
    from goldfinch.text.prompt import document_prompt

    return document_prompt(tokenizer, card.template, text)


def planned_by(header: gfcache.Header, card: ModelCard, wanted: str) -> list[int]:
    """Positions of checkpoints that the model of a cache would give it now, without loading it.

    Args:
        card: of the model.
        wanted: as in `Engine.plan_checkpoints`.
    """
    from goldfinch.caching.numerics import Numerics

    tokens, dtype = header.tokens, str(header.compute_dtype)
    if header.model.get("blocks"):
        return []  # each block is one to resume from
    if isinstance(card.config, ForeignConfig):
        from goldfinch.foreign.checkpoints import planned_positions

        return planned_positions(card.config, dtype, tokens, wanted)
    from goldfinch.engine.checkpoints import block_tokens_by, plan_checkpoints

    block = block_tokens_by(Numerics.from_dict(header.numerics))
    return plan_checkpoints(card.config, tokens, wanted, gfcache.layout.DTYPES[dtype], block)


def find_model_of(header: gfcache.Header, *, exact: bool = False) -> ModelCard:
    """The model that wrote a cache.

    Args:
        exact: not one that shares only the layers of prefill with it, which may answer but not renew the cache.

    Raises:
        ModelNotFound: none here has its fingerprint.
    """
    card = find_model_by_fingerprint(*astuple(made_by(header)))
    if card is None or (exact and card.model_fingerprint != header.model["model_fingerprint"]):
        raise ModelNotFound(
            f"no model here made this cache: it was written by {header.model.get('name')!r} "
            f"({header.model['model_fingerprint' if exact else 'prefill_fingerprint'][:16]})",
            hint="put its directory under GF_MODELS_DIR" + ("" if exact else ", or name it with -m"),
        )
    return card


def made_by(header: gfcache.Header) -> Made:
    """The fingerprints of the model that wrote a cache."""
    return Made(
        header.model["prefill_fingerprint"], header.model["model_fingerprint"], header.template.get("fingerprint")
    )


def model_asked(header: gfcache.Header, model: str | None, *, remark: Remark = warnings.warn) -> ModelCard:
    """The model that a cache is to be used with: the one that is named, or else the one that wrote it.

    Args:
        model: directory or name; of several models of one name, the one that wrote the cache.

    Raises:
        ModelNotFound, ModelDamaged.
    """
    return find_model(model, made=made_by(header), remark=remark) if model else find_model_of(header)


def check_template(header: gfcache.Header, card: ModelCard) -> None:
    """Refuse to answer with another prompt template than the model had when it wrote the cache.

    What precedes the document is compared wherever a cache is used (`identity.check_belongs`); the rest matters to
    answers alone. Caches of before it was noted, and of another model with the same prefill layers, say nothing of it.

    Raises:
        CacheMismatch: the template differs.
    """
    made, own = made_by(header), card.template.fingerprint()
    if made.model_fingerprint == card.model_fingerprint and made.template_fingerprint not in (None, own):
        raise CacheMismatch(
            "template.fingerprint", f"{made.template_fingerprint:.16}", f"{own:.16}",
            hint=f"the prompt template of {card.name} has changed since; name the model with -m to answer with the "
            "new one",
        )  # fmt: skip


def open_with_model(
    file: gfcache.CacheFile,
    load: Load = load_as_computed,
    *,
    model: str | None = None,
    strict: bool = False,
    asking: bool = False,
    remark: Remark = warnings.warn,
    detail: Remark | None = None,
) -> tuple[Model, Any]:
    """Find and load the model of an open file, and read the cache in it.

    Args:
        load: gives the model.
        model: directory or name; by default the model that wrote the cache.
        strict: refuse other numerics instead of remarking on them.
        asking: as of `open_cache`.
        detail: takes what is said of other numerics; by default as `remark`.

    Raises:
        ModelNotFound, ModelDamaged, DeviceError: no model.
        CacheMismatch: the cache belongs to another model, or, when `strict`, has other numerics.
        gfcache.CacheFormatError: damaged.
    """
    header = file.header
    loaded = load(str(model_asked(header, model, remark=remark).path), header.compute_dtype)
    engine = engine_of(loaded)
    cache = engine.read(file, asking=asking)
    if engine.card is not None and header.model["model_fingerprint"] != engine.card.model_fingerprint:
        remark("this model shares only the prefill layers with the one that wrote the cache")
    check_numerics(cache, loaded, strict=strict, remark=detail or remark)
    return loaded, cache


def check_numerics(cache: Any, model: Model, *, strict: bool, remark: Remark = warnings.warn) -> None:
    """Remark on a cache that was computed with other numerics than the model's.

    Raises:
        CacheMismatch: `strict`, which is to refuse it.
    """
    difference = engine_of(model).difference(cache.numerics, packing=False)
    if difference is not None:
        field, found, expected = difference
        if strict:
            raise CacheMismatch(f"numerics.{field}", found, expected, hint="leave out --strict to accept rounding")
        remark(f"the cache was computed with {field} {found}, this run uses {expected}: answers may differ slightly")


def open_session(
    cache: gfcache.CacheFile | Path | str,
    load: Load = load_as_computed,
    *,
    model: str | None = None,
    strict: bool = False,
    memory_bytes: int | None = None,
    read: str | Chosen | None = None,
    read_blocks: int | None = None,
    templated: bool = True,
    remark: Remark = warnings.warn,
    detail: Remark | None = None,
) -> Any:
    """A session on a cache file; arguments and errors as of `open_with_model` and `Session`.

    Args:
        templated: questions will be put into the prompt template, so it must be the one that the cache was made with,
            unless `model` names a model, and with it its template (`check_template`).
    """
    with ExitStack() as stack:
        if not isinstance(cache, gfcache.CacheFile):
            cache = stack.enter_context(gfcache.read_cache(cache))
        if templated and model is None:
            check_template(cache.header, find_model_of(cache.header))
        loaded, opened = open_with_model(
            cache, load, model=model, strict=strict, asking=True, remark=remark, detail=detail
        )
        return session_on(loaded, opened, memory_bytes=memory_bytes, read=read, read_blocks=read_blocks)


def session_on(
    model: Model,
    cache: Any,
    *,
    memory_bytes: int | None = None,
    read: str | Chosen | None = None,
    read_blocks: int | None = None,
) -> Any:
    """A session; see `Session` for the memory and the reading, whose defaults are its own."""
    return engine_of(model).session(cache, memory_bytes=memory_bytes, read=read or AUTO, read_blocks=read_blocks)


class LazyModel:
    """A model that is loaded when it is first needed: what is found fresh needs none.

    Args:
        card: of the model.
        device: where it will compute: "cpu", "cuda", "cuda:N".
        dtype: compute dtype as files name it: "f32", "bf16", "f64".
        load: loads it.
    """

    def __init__(self, card: ModelCard, device: str, dtype: str, load: Callable[[], Model]) -> None:
        self.card, self.device, self.dtype = card, device, dtype
        self._load = load
        self._model: Model = None

    @classmethod
    def of(cls, model: Model) -> LazyModel:
        """A model that is loaded, from a model directory."""
        engine = engine_of(model)
        return cls(engine.card, str(engine.device), engine.dtype, lambda: model)

    def __call__(self) -> Model:
        if self._model is None:
            self._model = self._load()
        return self._model
