"""Prompts of models of others: three strings, and how document and question become tokens between them.

<document_prefix> DOCUMENT newline | <question_prefix> QUESTION <question_suffix> | answer
           cached by prefill       |        encoded when asking               |  generated

The document ends with a line break of its own, so that its tokens do not depend on what follows it: joint tokenisation
cuts "...\\n" | "Question" there, too, with the byte-pair tokenizers that were tried.
Control tokens are recognised in the three strings alone; a document that spells one holds its letters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from goldfinch.errors import EmptyInput, ModelRefused
from goldfinch.text.template import PromptTemplate
from goldfinch.text.tokenizer import BytePairTokenizer
from goldfinch.weights.directory import ModelCard
from goldfinch.weights.foreign_config import ForeignConfig

from .chat_template import Rendered

# One dummy question: it shows the form of an answer, and tells nothing of the document.
_EXAMPLE = "Question: What is this text?\nAnswer: an article\n"


class ForeignTokenizer(Protocol):
    """The tokenizer of a model of others.

    Attributes:
        vocab_size: highest id + 1.
        fingerprint: SHA-256 of its file.
        added_tokens: ids of control tokens and the like, by text.
    """

    vocab_size: int
    fingerprint: str
    added_tokens: dict[str, int]

    def encode(self, text: str) -> list[int]:
        """Ids of a document or question: text that spells a control token stays text."""

    def encode_template(self, text: str) -> list[int]:
        """Ids of a string of the template, whose control tokens are meant."""

    def decode(self, token_ids: list[int]) -> str:
        """Text without control tokens."""


def plain_template(beginning: str, end_token_id: int | None) -> PromptTemplate:
    """The prompt for models that were not trained to chat, and for small ones.

    Args:
        beginning: text of the token that sequences begin with; empty for none.
    """
    return PromptTemplate(
        None, end_token_id, beginning, f"{_EXAMPLE}Question: ", "\nAnswer:", answer_prefix=" ", stop=("\n",)
    )


def chat_prompt(rendered: Rendered, end_token_id: int | None) -> PromptTemplate:
    """The prompt of the model's own chat template."""
    return PromptTemplate(
        None, end_token_id, rendered.before, rendered.between, rendered.after, answer_prefix="", stop=()
    )


def document_ids(tokenizer: ForeignTokenizer, template: PromptTemplate, text: str) -> tuple[list[int], tuple[int, int]]:
    """Tokens of a document with what precedes it, and the (start, end) of the document's own, its last line break
    included.

    Raises:
        EmptyInput: the text is empty or blank.
    """
    if not text.strip():
        raise EmptyInput("the document is empty: there is nothing to pre-fill")
    prefix = tokenizer.encode_template(template.document_prefix) if template.document_prefix else []
    ids = prefix + tokenizer.encode(text if text.endswith("\n") else text + "\n")
    return ids, (len(prefix), len(ids))


def question_ids(
    tokenizer: ForeignTokenizer, template: PromptTemplate, question: str, *, raw: bool = False
) -> list[int]:
    """Tokens of a question in the prompt; of the question alone when `raw`.

    Words of the prompt beside the question are encoded with it, up to the next control token, as a joint text is.
    """
    if raw:
        return tokenizer.encode(question)
    before, after = template.question_prefix, template.question_suffix
    cut = max((before.rfind(text) + len(text) for text in tokenizer.added_tokens if text in before), default=0)
    end = min((after.find(text) for text in tokenizer.added_tokens if text in after), default=len(after))
    ids = tokenizer.encode_template(before[:cut]) if cut else []
    ids = ids + tokenizer.encode(before[cut:] + question + after[:end])
    return ids + (tokenizer.encode_template(after[end:]) if after[end:] else [])


def tokenizer_of(card: ModelCard, config: ForeignConfig) -> BytePairTokenizer | None:
    """The tokenizer of a model directory; None where it has none.

    Raises:
        TokenizerDamaged: it cannot be used.
    """
    if card.tokenizer_file is None:
        return None
    prompts = {**config.prompts, "own": card.template}  # which may have been changed since
    return open_tokenizer(card.path / card.tokenizer_file, prompts, config.stop_token_ids, config.vocab_size)


def open_tokenizer(
    path: Path, prompts: Mapping[str, PromptTemplate], stop_token_ids: Collection[int], rows: int
) -> BytePairTokenizer:
    """A tokenizer.json, with all added tokens that a prompt uses, or that end an answer, closed to documents.

    So are those that the model has no row for: Gemma 3 has one for images, which its models of text lack.

    Args:
        rows: of the model's embedding.

    Raises:
        TokenizerDamaged: it cannot be used.
        ModelRefused: text, or a prompt, may hold a token that the model has no row for.
    """
    spoken = "".join(
        part for one in prompts.values() for part in (one.document_prefix, one.question_prefix, one.question_suffix)
    )
    tokenizer = BytePairTokenizer(path, every_byte=False)
    stops = set(stop_token_ids)
    control = {
        text for text, token_id in tokenizer.added_tokens.items()
        if (text in spoken and text.strip()) or token_id in stops or token_id >= rows
    }  # fmt: skip
    if control:
        tokenizer = BytePairTokenizer(path, every_byte=False, control=control)
    added, highest = set(tokenizer.added_tokens.values()), tokenizer.vocab_size - 1
    while highest in added:
        highest -= 1
    highest = max([highest, *(tokenizer.encode_template(spoken) if spoken else [])])
    if highest >= rows:
        raise ModelRefused(f"the tokenizer {path} has ids up to {highest:,}, the model {rows:,} rows for them")
    return tokenizer
