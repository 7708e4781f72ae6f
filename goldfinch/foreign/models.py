"""A model of others, as the engine takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from goldfinch.text.template import PromptTemplate
from goldfinch.weights.foreign_config import ForeignConfig, LayerShape, Schedule


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
