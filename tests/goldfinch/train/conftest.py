"""A toy recipe and corpora for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from goldfinch.models.presets import presets
from goldfinch.train.recipe import Recipe, Stage
from tests.conftest import SAMPLES

from .records import write_records


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    texts = {p.stem: p.read_text() for p in SAMPLES.glob("*.txt")}
    write_records(folder / "corpus-wikipedia-00.jsonl.zst", [{"title": n, "text": t} for n, t in texts.items()])
    write_records(folder / "corpus-books.jsonl.zst", [{"title": n, "text": t} for n, t in texts.items()])
    passage = texts["lighthouse-handbook"][:1500]
    row = {"context": passage, "question": "Who built it?", "doc_id": "a", "title": "t", "source": "squad"}
    other = {
        "context": texts["lighthouse-handbook"][1500:2500],
        "question": "Who kept bees?",
        "answers": ["Abel Hartnoll"],
    }
    rows = [row | {"answers": ["Josiah Pellow"], "para": 1}, row | other | {"para": 0}]
    write_records(folder / "train_qa.jsonl.zst", rows)
    write_records(folder / "train_qa_unanswerable.jsonl.zst", [row | {"answers": [], "question": "Who sold it?"}])
    qas = [{"question": "Where?", "answers": ["headland"]}]
    write_records(folder / "train_docqa.jsonl.zst", [{"doc": passage, "title": "t", "source": "s", "qas": qas}])
    return folder


@pytest.fixture
def recipe(tiny_tokenizer: Path) -> Recipe:
    mixture = {"text": 0.2, "facts": 0.2, "register": 0.1, "pairs": 0.1, "similar": 0.1, "qa": 0.2, "docqa": 0.1}
    return Recipe(
        name="toy",
        model=replace(presets()["goldfinch-tiny"], vocab_size=300),
        tokenizer=str(tiny_tokenizer),
        stages=(Stage(4 * 96 * 2, 96, 2, mixture), Stage(4 * 128 * 2, 128, 2, mixture)),
        warmup_steps=2,
        corpora=("corpus-wikipedia-00", "corpus-books"),
    )
