"""Reading a document and asking it, as every evaluation does it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from goldfinch.engine.base import Asking, Cache, Engine
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.models.language_model import LanguageModel


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
        engine = GoldFinchEngine(self.model)
        cache = engine.prefill(engine.document(text))
        found = _ask(engine.session(cache), questions, max_tokens)
        if self.through_file:
            again = _ask(engine.session(through_file(engine, cache)), questions, max_tokens)
            self.differences += sum(a != b for a, b in zip(found, again, strict=True))
            found = again
        self.answers += len(found)
        return found


def through_file(engine: Engine[Cache], cache: Cache) -> Cache:
    """The cache as it is after it was saved and opened again."""
    with tempfile.TemporaryDirectory(prefix="gf-eval-") as folder:
        path = Path(folder) / "document.gfc"
        engine.save(cache, path)
        return engine.open(path)


def _ask(session: Asking, questions: list[str], max_tokens: int) -> list[str]:
    return [session.ask(question, max_tokens=max_tokens).text for question in questions]
