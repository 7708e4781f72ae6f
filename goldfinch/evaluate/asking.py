"""Reading a document and asking it, as every evaluation does it."""

from __future__ import annotations

from gfcache.files.temporary import temporary_folder

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.engine.answer import Answer
from goldfinch.engine.base import Cache, Engine
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.named import AUTO


class Reader:
    """Pre-fills documents and answers questions about them, greedily.

    Args:
        model: the model under test.
        through_file: save each cache, open it again and ask that; every answer is compared with the one given without
            saving.
        read: the reading policy, and read_blocks how many blocks it reads; as `Session` has them.
        prefilled: caches by text, shared by readers of several policies; None keeps none.

    Attributes:
        answers: answers given.
        differences: answers from the file that were not those without it; 0 unless something is broken.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        through_file: bool = False,
        read: str = AUTO,
        read_blocks: int | None = None,
        prefilled: dict[str, DocumentCache] | None = None,
    ) -> None:
        self.model, self.through_file = model, through_file
        self.read, self.read_blocks, self._prefilled = read, read_blocks, prefilled
        self.answers = self.differences = 0

    def answers_to(self, text: str, questions: list[str], *, max_tokens: int = 40) -> list[str]:
        """The answers to questions about one document, in words."""
        return [answer.text for answer in self.ask(text, questions, max_tokens=max_tokens)]

    def ask(self, text: str, questions: list[str], *, max_tokens: int = 40) -> list[Answer]:
        """The answers to questions about one document."""
        engine = GoldFinchEngine(self.model)
        cache = self._cache(engine, text)
        found = self._ask(engine, cache, questions, max_tokens)
        if self.through_file:
            again = self._ask(engine, through_file(engine, cache), questions, max_tokens)
            self.differences += sum(a.token_ids != b.token_ids for a, b in zip(found, again, strict=True))
            found = again
        self.answers += len(found)
        return found

    def _cache(self, engine: GoldFinchEngine, text: str) -> DocumentCache:
        if self._prefilled is not None and text in self._prefilled:
            return self._prefilled[text]
        cache = engine.prefill(engine.document(text))
        if self._prefilled is not None:
            self._prefilled[text] = cache
        return cache

    def _ask(self, engine: GoldFinchEngine, cache: DocumentCache, asked: list[str], max_tokens: int) -> list[Answer]:
        session = engine.session(cache, read=self.read, read_blocks=self.read_blocks)
        return [session.ask(question, max_tokens=max_tokens) for question in asked]


def through_file(engine: Engine[Cache], cache: Cache) -> Cache:
    """The cache as it is after it was saved and opened again."""
    with temporary_folder("eval") as folder:
        path = folder / "document.gfc"
        engine.save(cache, path)
        return engine.open(path)
