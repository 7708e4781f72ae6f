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

    def question_text(self, question: str) -> str:
        return f"{self.question_prefix}{question}{self.question_suffix}"

    def answer_text(self, answer: str) -> str:
        return f"{self.answer_prefix}{answer}"

    def prefix_fingerprint(self) -> str:
        """SHA-256 over what precedes the document: the part of the template that the cached tokens contain."""
        part = {"bos_token_id": self.bos_token_id, "document_prefix": self.document_prefix}
        return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PromptTemplate:
        """Build from the model directory's words.

        Raises:
            ConfigError: an unknown field.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ConfigError(f"unknown field {unknown[0]!r} in the prompt template")
        if isinstance(values.get("stop"), list):
            values = values | {"stop": tuple(values["stop"])}
        return cls(**values)
