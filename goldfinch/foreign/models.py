"""A model of others, as the engine takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from goldfinch.text.template import PromptTemplate

# What a layer keeps of the tokens before: all keys and values, those of a window, a state alone, nothing.
LayerKind = Literal["full", "sliding", "linear", "none"]
# How a document may be computed: in blocks of any size; or in one piece, and what follows token by token.
Schedule = Literal["blocks", "whole_then_steps"]


@dataclass(frozen=True)
class LayerShape:
    """What one layer keeps of a sequence, batch 1.

    Attributes:
        kind: what the attention of the layer keeps; "linear" for a layer that has states and no attention. A layer
            with both (Falcon-H1) is "full" or "sliding" and has `states`.
        kv_heads, head_dim, value_dim: of keys (kv_heads, rows, head_dim) and values (kv_heads, rows, value_dim); 0
            without attention.
        window: rows that a query sees, its own among them, where kind is "sliding"; window - 1 are kept.
        states: shape by role ("conv", "recurrent"; a second of a kind is "conv.1"), without the batch.
        state_dtypes: dtype by role: "f32", "bf16", "f64".
    """

    kind: LayerKind
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int = 0
    window: int | None = None
    states: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    state_dtypes: Mapping[str, str] = field(default_factory=dict)


class ForeignTokenizer(Protocol):
    """The tokenizer of a model of others.

    Attributes:
        vocab_size: highest id + 1.
        fingerprint: SHA-256 of its file.
    """

    vocab_size: int
    fingerprint: str

    def encode(self, text: str) -> list[int]:
        """Ids of a document or question: text that spells a control token stays text."""

    def encode_template(self, text: str) -> list[int]:
        """Ids of a string of the template, whose control tokens are meant."""

    def decode(self, token_ids: list[int]) -> str:
        """Text without control tokens."""


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """A loaded model of others.

    Attributes:
        network: a transformers PreTrainedModel in evaluation mode, without gradients.
        name: of its model directory.
        path: the model directory, which may lead to the weights elsewhere.
        config: what our config.json says of it.
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
    """

    network: Any
    name: str
    path: Path
    config: Any
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
