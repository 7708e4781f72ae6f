"""The protocol of engines: ours behind it, and one that is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest

import goldfinch
from goldfinch.caching.numerics import Numerics
from goldfinch.engine.answer import Answer, Usage
from goldfinch.engine.base import Asking, Cache, Engine, Prompt
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.errors import CacheMismatch

TEXT = "The lighthouse was built in 1871.\nIts keeper was Ada Morton.\n" * 3


class Quoting:
    """An engine without a model: its cache is the text, its answer the first line with the question's last word."""

    def __init__(self) -> None:
        self.identity: dict[str, Any] = {"model": {"name": "quoting"}}
        self.numerics = Numerics(device="cpu")

    def document(self, text: str) -> Prompt:
        return Prompt(np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64), (0, len(text.encode())))

    def question(self, text: str, *, raw: bool = False) -> list[int]:
        return list(text.encode())

    def prefill(self, prompt: Prompt, *, source: Any = None, progress: Any = None) -> str:
        return prompt.token_ids.astype(np.uint8).tobytes().decode()

    def save(self, cache: str, path: Path) -> None:
        path.write_text(cache)

    def open(self, path: Path) -> str:
        return path.read_text()

    def session(self, cache: str, *, memory_bytes: int | None = None) -> QuotingSession:
        return QuotingSession(cache)


class QuotingSession:
    def __init__(self, text: str) -> None:
        self.text, self.last_usage = text, Usage(len(text))

    def ask(self, question: str, *, raw: bool = False, **sampling: Any) -> Answer:
        word = question.strip("?").split()[-1]
        return Answer(next(line for line in self.text.split("\n") if word in line), [], self.last_usage)

    def stream(self, question: str, *, raw: bool = False, **sampling: Any) -> Iterator[str]:
        yield self.ask(question).text


def asked(engine: Engine[Cache], path: Path) -> tuple[str, str, str]:
    """The answer before and after the file, and in pieces."""
    cache = engine.prefill(engine.document(TEXT))
    engine.save(cache, path)
    session: Asking = engine.session(engine.open(path))
    question = "Who was the keeper?"
    cold = engine.session(cache).ask(question, max_tokens=8).text
    return cold, session.ask(question, max_tokens=8).text, "".join(session.stream(question, max_tokens=8))


def test_one_program_for_all_engines(tiny_model: Path, tmp_path: Path) -> None:
    ours = asked(GoldFinchEngine(goldfinch.load_model(tiny_model)), tmp_path / "document.gfc")
    assert len(set(ours)) == 1
    theirs = asked(Quoting(), tmp_path / "document.txt")
    assert set(theirs) == {"Its keeper was Ada Morton."}


def test_ours_is_what_the_functions_do(tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    engine, path = GoldFinchEngine(model), tmp_path / "document.gfc"
    prompt = engine.document(TEXT)
    ids, span = goldfinch.document_token_ids(model, TEXT)
    assert prompt.token_ids.tolist() == ids[0].tolist()
    assert prompt.document_range == span
    seen: list[tuple[int, int]] = []
    cache = engine.prefill(prompt, source={"name": "a.txt"}, progress=lambda *at: seen.append(at))
    assert seen[-1] == (cache.length, cache.length)
    assert cache.source == {"name": "a.txt"}
    assert cache.identity == engine.identity
    assert cache.numerics == engine.numerics
    engine.save(cache, path)
    with gfcache.read_cache(path) as file:
        assert file.header.model == json.loads(json.dumps(engine.identity["model"]))
    session = engine.session(engine.open(path), memory_bytes=0)
    assert not session.expands
    assert engine.question("Who?") == session.question_token_ids("Who?")
    assert engine.question("Who?", raw=True) == model.tokenizer.encode("Who?")
    with pytest.raises(CacheMismatch):
        GoldFinchEngine(goldfinch.load_model(other_model)).open(path)
