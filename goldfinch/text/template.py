"""How a document and a question become one sequence of tokens.

<bos> document_prefix DOCUMENT | question_prefix QUESTION question_suffix | answer <end>
       cached by prefill       |  encoded when asking                     |  generated
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from goldfinch.errors import ConfigError

from .json_files import is_count, is_text

# Limits of what a template may hold; it may come from a stranger.
MOST_TEXT, MOST_STOP, MOST_STOPS = 32_768, 256, 32
# Fields that are text.
TEXTS = ("document_prefix", "question_prefix", "question_suffix", "answer_prefix")


@dataclass(frozen=True)
class PromptTemplate:
    """The prompt of a model directory.

    Attributes:
        bos_token_id: token before the document, or None.
        end_token_id: token that ends an answer, or None.
        document_prefix: text before the document.
        question_prefix, question_suffix: text around the question.
        answer_prefix: text that a training answer begins with (a blank, so that words keep their token).
        stop: strings that end an answer.
    """

    bos_token_id: int | None = None
    end_token_id: int | None = None
    document_prefix: str = ""
    question_prefix: str = "\n\nQuestion: "
    question_suffix: str = "\nAnswer:"
    answer_prefix: str = " "
    stop: tuple[str, ...] = ("\n",)

    def __post_init__(self) -> None:
        for name in TEXTS:
            value = getattr(self, name)
            if not is_text(value, MOST_TEXT):
                raise ConfigError(
                    f"{name} of the prompt template is {value!r:.40}, allowed: text of up to {MOST_TEXT:,} characters, "
                    "without halves of surrogate pairs"
                )
        for name in ("bos_token_id", "end_token_id"):
            value = getattr(self, name)
            if value is not None and not is_count(value, 1 << 31):
                raise ConfigError(f"{name} of the prompt template is {value!r:.40}, allowed: a token id, or null")
        stops = isinstance(self.stop, tuple) and len(self.stop) <= MOST_STOPS
        if not stops or not all(text and is_text(text, MOST_STOP) for text in self.stop):
            raise ConfigError(
                f"stop of the prompt template is {self.stop!r:.40}, allowed: up to {MOST_STOPS} texts of 1 to "
                f"{MOST_STOP} characters"
            )

    def check_token_ids(self, vocab_size: int) -> None:
        """Refuse token ids that a model of this vocabulary does not have.

        Raises:
            ConfigError: naming the field.
        """
        for name in ("bos_token_id", "end_token_id"):
            value = getattr(self, name)
            if value is not None and value >= vocab_size:
                raise ConfigError(f"{name} of the prompt template is {value}, allowed: 0 to {vocab_size - 1}")

    def question_text(self, question: str) -> str:
        return f"{self.question_prefix}{question}{self.question_suffix}"

    def answer_text(self, answer: str) -> str:
        return f"{self.answer_prefix}{answer}"

    def prefix_fingerprint(self) -> str:
        """SHA-256 over what precedes the document: the part of the template that the cached tokens contain."""
        part = {"bos_token_id": self.bos_token_id, "document_prefix": self.document_prefix}
        return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 over all that an answer depends on: every field but `answer_prefix`, which only training uses."""
        part = {name: value for name, value in self.to_dict().items() if name != "answer_prefix"}
        return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PromptTemplate:
        """Build from the model directory's words.

        Raises:
            ConfigError: an unknown field, or a value that is not allowed.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"the prompt template is {values!r:.40}, allowed: a JSON object")
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ConfigError(f"unknown field {unknown[0]!r:.40} in the prompt template")
        if isinstance(values.get("stop"), list):
            values = values | {"stop": tuple(values["stop"])}
        return cls(**values)
