"""How a document and a question become one sequence, and what of it a cache depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from goldfinch.errors import ConfigError
from goldfinch.text.template import PromptTemplate

TEMPLATE = PromptTemplate(bos_token_id=0, document_prefix="Text: ", stop=("\n", "Q:"))


def test_words_of_a_model_directory_come_back() -> None:
    assert PromptTemplate.from_dict(TEMPLATE.to_dict() | {"stop": ["\n", "Q:"]}) == TEMPLATE
    with pytest.raises(ConfigError, match="colour"):
        PromptTemplate.from_dict(TEMPLATE.to_dict() | {"colour": "gold"})


def test_a_cache_depends_on_what_precedes_the_document() -> None:
    prefix = TEMPLATE.prefix_fingerprint()
    assert replace(TEMPLATE, document_prefix="").prefix_fingerprint() != prefix
    assert replace(TEMPLATE, bos_token_id=1).prefix_fingerprint() != prefix
    assert replace(TEMPLATE, question_prefix="Q: ", end_token_id=3, stop=()).prefix_fingerprint() == prefix


def test_questions_and_answers() -> None:
    assert TEMPLATE.question_text("Who?") == "\n\nQuestion: Who?\nAnswer:"
    assert TEMPLATE.answer_text("Nobody.") == " Nobody."
