"""The prompt as token ids: what the template puts before a document, and the document."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from goldfinch.errors import EmptyInput, QuestionTooLong, TokenizerError

from .template import PromptTemplate
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.models.language_model import LanguageModel

# Tail and question pass the GOLD layers in one piece, so time and memory grow with the square of its length.
MOST_QUESTION_TOKENS, MOST_QUESTION_CHARACTERS = 4096, 1 << 16


def document_prompt(tokenizer: Tokenizer, template: PromptTemplate, text: str) -> tuple[list[int], tuple[int, int]]:
    """Token ids of a document with what precedes it, and the (start, end) of the document's own.

    Raises:
        EmptyInput: the text is empty or blank.
    """
    if not text.strip():
        raise EmptyInput("the document is empty: there is nothing to pre-fill")
    prefix = [] if template.bos_token_id is None else [template.bos_token_id]
    if template.document_prefix:
        prefix += tokenizer.encode(template.document_prefix)
    ids = prefix + tokenizer.encode(text)
    return ids, (len(prefix), len(ids))


def check_reads_text(model: LanguageModel) -> None:
    """Refuse a model without a tokenizer.

    Raises:
        TokenizerError: as said.
    """
    if model.tokenizer is None:
        raise TokenizerError(
            "this model has no tokenizer, so it cannot read text",
            hint="gf model import and gf model init take one: --tokenizer FILE",
        )


def document_token_ids(model: LanguageModel, text: str) -> tuple[Tensor, tuple[int, int]]:
    """Tokens of a document as prefill takes them, with what the prompt template puts before it.

    Returns:
        token_ids (1, T) int64 and the (start, end) of the document's own tokens.

    Raises:
        TokenizerError: the model directory has no tokenizer.
        EmptyInput: the text is empty or blank.
    """
    import torch

    check_reads_text(model)
    ids, own = document_prompt(model.tokenizer, template_of(model), text)
    return torch.tensor([ids], dtype=torch.int64), own


def question_token_ids(model: LanguageModel, question: str, *, raw: bool = False) -> list[int]:
    """Tokens of a question in the model's template; as it is when `raw`.

    Raises:
        TokenizerError: the model directory has no tokenizer.
        QuestionTooLong: as said.
    """
    tokenizer, text = model.tokenizer, question if raw else template_of(model).question_text(question)
    if tokenizer is None:
        raise TokenizerError("this model has no tokenizer, so it cannot read a question")
    return check_question_tokens(question, lambda: tokenizer.encode(text))


def check_question_tokens(question: str, encode: Callable[[], list[int]]) -> list[int]:
    """The tokens of a question, encoded only if it is short enough to be.

    Raises:
        QuestionTooLong: as said.
    """
    check_question(question)
    ids = encode()
    if len(ids) > MOST_QUESTION_TOKENS:
        raise QuestionTooLong(len(ids), MOST_QUESTION_TOKENS, "tokens")
    return ids


def check_question(question: str) -> None:
    """Refuse a question by its characters, before anything is loaded for it.

    Raises:
        QuestionTooLong: as said.
    """
    if len(question) > MOST_QUESTION_CHARACTERS:
        raise QuestionTooLong(len(question), MOST_QUESTION_CHARACTERS, "characters")


def template_of(model: LanguageModel) -> PromptTemplate:
    """The prompt template of a model; one without a card has the default."""
    template: PromptTemplate = PromptTemplate() if model.card is None else model.card.template
    return template
