"""Reading a document and asking it, as every evaluation does it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from goldfinch.caching.document_cache import open_cache
from goldfinch.engine.prefill import prefill
from goldfinch.engine.session import Session
from goldfinch.models.language_model import LanguageModel
from goldfinch.text.prompt import document_token_ids


class Reader:
    """Pre-fills documents and answers questions about them, greedily.

    Args:
        model: the model under test.
        through_file: save each cache, open it again and ask that; every answer is compared with the one given without
            saving.

    Attributes:
        answers: answers given.
        differences: answers from the file that were not those without it; 0 unless something is broken.
    """

    def __init__(self, model: LanguageModel, *, through_file: bool = False) -> None:
        self.model, self.through_file = model, through_file
        self.answers = self.differences = 0

    def answers_to(self, text: str, questions: list[str], *, max_tokens: int = 40) -> list[str]:
        """The answers to questions about one document."""
        ids, span = document_token_ids(self.model, text)
        cache = prefill(self.model, ids, document_range=span)
        found = _ask(Session(self.model, cache), questions, max_tokens)
        if self.through_file:
            with tempfile.TemporaryDirectory(prefix="gf-eval-") as folder:
                path = Path(folder) / "document.gfc"
                cache.save(path)
                again = _ask(Session(self.model, open_cache(path, self.model)), questions, max_tokens)
            self.differences += sum(a != b for a, b in zip(found, again, strict=True))
            found = again
        self.answers += len(found)
        return found


def _ask(session: Session, questions: list[str], max_tokens: int) -> list[str]:
    return [session.ask(question, max_tokens=max_tokens).text for question in questions]
