"""Quantisation as the papers' code does it, while document and question are read: nothing that a file could hold.

A cache in a file was rounded before any question is known, so that questions read rounded rows. The code of KIVI
(arXiv 2402.02750) attends to rows as computed while it reads a prompt, the question with it, and quantises behind it:
the first token of an answer has seen the full cache. That of FlexGen (2303.06865), as the benchmark 2407.01527 runs it,
quantises every row before anything attends to it, so that what upper layers keep of a document rests on quantised rows
of lower ones, and keeps nothing unquantised. Both here, for a comparison alone. Rows of question and answer stay as
computed with KIVI, whose last 128 rows do.

Notation: T document tokens, H heads, D channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from gfcache import layout
from gfcache.codecs.tokens import Where
from torch import Tensor

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.engine.session import Session
from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.running.coding import rounded_values
from goldfinch.foreign.running.files import ForeignCache
from goldfinch.foreign.running.session import ForeignSession
from goldfinch.foreign.running.states import SequenceState, put_in, taken_out
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import GrowingBuffer, ModelState
from goldfinch.policies.named import ALL

KIVI, FLEXGEN = ("kivi2", "kivi4"), ("flexgen4",)
# Codecs whose papers' code reads otherwise than a file of theirs is read.
AS_CODE = (*KIVI, *FLEXGEN)


class KiviSession(Session):
    """Reads a question from rows as computed, and decodes its answer from rounded ones.

    Args:
        model: of ours.
        whole, rounded: the cache as computed, and as a file of the codec gives it back.
    """

    def __init__(self, model: LanguageModel, whole: DocumentCache, rounded: DocumentCache) -> None:
        super().__init__(model, whole, read=ALL)
        self._later = Session(model, rounded, read=ALL).document_state

    def start(
        self, token_ids: list[int], state: ModelState | None = None, *, copies: bool = True
    ) -> tuple[Tensor, ModelState]:
        logits, after = super().start(token_ids, state, copies=copies)
        if isinstance(after.memory, GoldMemory) and isinstance(self._later.memory, GoldMemory):
            return logits, replace(after, memory=replace(after.memory, document=self._later.memory.document))
        layers = list(after.layers)
        for n, rounded in enumerate(self._later.layers):
            if rounded.keys.length:
                keys, values = (
                    GrowingBuffer.of(torch.cat([first.rows, own.rows[:, first.length :]], dim=1))
                    for first, own in ((rounded.keys, layers[n].keys), (rounded.values, layers[n].values))
                )
                layers[n] = replace(layers[n], keys=keys, values=values)
        return logits, replace(after, layers=tuple(layers))


class KiviForeignSession(ForeignSession):
    """The same of a model of others."""

    def __init__(self, model: ForeignModel, whole: ForeignCache, rounded: ForeignCache) -> None:
        super().__init__(model, whole, read=ALL)
        self._later = rounded.state

    def start(
        self, token_ids: list[int], most_tokens: int = 0, state: SequenceState | None = None
    ) -> tuple[Tensor, Any]:
        logits, layers = super().start(token_ids, most_tokens, state)
        T = self._later.position
        with torch.inference_mode():
            for layer, shape, held in zip(layers.layers, self.model.layers, self._later.layers, strict=True):
                if shape.kind == "full":
                    layer.keys[0, :, :T], layer.values[0, :, :T] = held.keys, held.values
        return logits, layers


class FlexGenSession(ForeignSession):
    """Every row is rounded before anything attends to it: those of the document, of questions and of answers.

    Args:
        model: of others.
        whole: the cache of a document, of which the token ids count.
        codec: that rounds each row for itself.
    """

    def __init__(self, model: ForeignModel, whole: ForeignCache, codec: str) -> None:
        self._rounds = _rounding(whole, codec)
        layers = self._attached(
            put_in(lambda: library.new_cache(model.network), model.layers, None, whole.length), model
        )
        step = model.block_tokens if model.schedule == "blocks" else whole.length
        for at in range(0, whole.length, step):
            ids = torch.from_numpy(whole.token_ids[at : at + step])
            library.forward(model.network, ids, layers, at, last=True)
        super().__init__(model, replace(whole, state=taken_out(layers, model.layers, whole.length)), read=ALL)

    def resumed(self, state: SequenceState, capacity: int) -> Any:
        return self._attached(super().resumed(state, capacity), self.model)

    def _attached(self, layers: Any, model: ForeignModel) -> Any:
        """A cache of the library that rounds what it takes in."""
        for layer, shape in zip(layers.layers, model.layers, strict=True):
            if shape.kind == "full":
                layer.update = self._rounds(layer.update)
        return layers


def _rounding(cache: ForeignCache, codec: str) -> Callable[[Any], Any]:
    """What makes of a layer's `update` one that rounds keys and values (1, H, n, D) first."""
    head_dim = cache.identity["model"]["config"]["head_dim"]
    keys, values = (Where(kind, 0, head_dim) for kind in (layout.KV_KEYS, layout.KV_VALUES))  # none turns keys back

    def rounds(update: Any) -> Any:
        def inner(k: Tensor, v: Tensor, *more: Any, **named: Any) -> Any:
            return update(rounded_values(k, codec, keys), rounded_values(v, codec, values), *more, **named)

        return inner

    return rounds


def obstacle_to_asking(model: LanguageModel | ForeignModel, codec: str) -> str | None:
    """Why a model cannot be asked so, None where it can."""
    if codec not in FLEXGEN or not isinstance(model, LanguageModel):
        return None
    if model.config.n_gold:
        return f"what is kept of a document rests on no key, so that the code of {codec} reads as from its file"
    return f"of models of ours {codec} is read from files alone"


def session_of(engine: Any, whole: Any, form: Any) -> Any:
    """Questions to a document as the papers' code reads it.

    Args:
        engine: of its model.
        whole: the cache as computed.
        form: with the codec, one of AS_CODE.
    """
    codec = form.coding.rows
    if codec in FLEXGEN:
        return FlexGenSession(engine.model, whole, codec)
    kind = KiviSession if isinstance(engine.model, LanguageModel) else KiviForeignSession
    return kind(engine.model, whole, engine.coded(whole, form))
