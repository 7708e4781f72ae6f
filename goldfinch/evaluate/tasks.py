"""The tasks of an evaluation by name, and the record they make together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.datasets.corpora import HINT
from goldfinch.datasets.facts import harvest_names
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.named import AUTO
from goldfinch.text.prompt import check_reads_text

from ..errors import CorpusMissing
from ..measure.conditions import conditions
from .asking import Reader
from .documents import evaluate_articles, evaluate_samples, sample_files, text_in
from .facts import evaluate_definitions, evaluate_facts
from .held_out import (
    BOOKS,
    CORPORA_OF,
    TASKS,
    held_out_novels,
    held_out_passages,
    held_out_texts,
    training_texts,
)
from .ordinary import evaluate_kinds, evaluate_ordinary
from .overlap import evaluate_overlap
from .perplexity import evaluate_perplexity, evaluate_positions
from .questions import evaluate_questions
from .retrieval import evaluate_needles, evaluate_pairs, evaluate_passkey, evaluate_tables


@dataclass
class Evaluation:
    """One evaluation of a model.

    Attributes:
        reader: the model under test.
        directory: the corpora.
        documents: documents per length of planted facts; the other retrieval tasks take fewer, in proportion.
        passages: passages to ask about.
        report: gets rows as they are done.
    """

    reader: Reader
    directory: Path
    documents: int
    passages: int
    report: Callable[[dict[str, Any]], None]

    @cached_property
    def texts(self) -> list[str]:
        """Held-out encyclopedia text."""
        return held_out_texts(self.directory)

    def facts(self) -> object:
        return evaluate_facts(self.reader, self.texts, documents=self.documents, report=self.report)

    def questions(self) -> object:
        return evaluate_questions(self.reader, self.directory, passages=self.passages)

    def articles(self) -> object:
        return evaluate_articles(self.reader, self.directory, report=self.report)

    def samples(self) -> object:
        return evaluate_samples(self.reader, self.directory / "samples")

    def ordinary(self) -> object:
        return evaluate_ordinary(self.reader, self.directory / "ordinary")

    def kinds(self) -> object:
        names = harvest_names(self.texts, held_out=True)
        return evaluate_kinds(self.reader, names, documents=self.documents, report=self.report)

    def passkey(self) -> object:
        count = max(1, self.documents // 8)
        return evaluate_passkey(self.reader, self.texts, documents=count, report=self.report)

    def pairs(self) -> object:
        names = harvest_names(self.texts, held_out=True)
        count = max(1, self.documents // 4)
        return evaluate_pairs(self.reader, names, documents=count, report=self.report)

    def tables(self) -> object:
        names = harvest_names(self.texts, held_out=True)
        count = max(1, self.documents // 2)
        return evaluate_tables(self.reader, names, documents=count, report=self.report)

    def definitions(self) -> object:
        count = max(1, self.documents // 2)
        return evaluate_definitions(self.reader, self.texts, documents=count, report=self.report)

    def needles(self) -> object:
        count = max(1, self.documents // 2)
        return evaluate_needles(self.reader, self.texts, documents=count, report=self.report)

    def perplexity(self) -> object:
        found = {"encyclopedia": self.texts, "books": held_out_novels(self.directory)}
        return {name: evaluate_perplexity(self.reader.model, texts) for name, texts in found.items() if texts}

    def positions(self) -> object:
        return evaluate_positions(self.reader.model, held_out_texts(self.directory, BOOKS) + self.texts)

    def overlap(self) -> object:
        samples = [path for path in sorted((self.directory / "samples").glob("*.*")) if path.suffix != ".jsonl"]
        held_out = {
            "texts": [*self.texts, *held_out_texts(self.directory, BOOKS)],
            "books": held_out_novels(self.directory),
            "passages": held_out_passages(self.directory),
            "samples": [text_in(path.parent, path.name) for path in samples],
        }
        return evaluate_overlap(held_out, training_texts(self.directory))


def evaluate(
    model: LanguageModel,
    directory: Path,
    *,
    tasks: Sequence[str] = TASKS,
    documents: int = 40,
    passages: int = 300,
    through_file: bool = False,
    read: Sequence[str] = (AUTO,),
    read_blocks: int | None = None,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Run tasks on held-out data.

    Args:
        directory: the corpora (see `datasets.corpora`).
        tasks: names from TASKS.
        documents, passages, report: as `Evaluation` has them.
        read: reading policies, as `Session` has them; each is asked about the same documents.
        read_blocks: how many blocks they read.
        through_file: ask every document again after saving and opening its cache, and count differing answers.

    Returns:
        a record: conditions, one entry per task, and, through the file, answers and differences.

    Raises:
        TokenizerError: the model has no tokenizer.
        CorpusMissing: a file that one of the tasks reads is not there; known before the first begins.
    """
    check_reads_text(model)
    check_files(directory, tasks)
    record: dict[str, Any] = {"what": "quality on held-out data", "conditions": conditions(model)}
    prefilled: dict[str, DocumentCache] | None = {} if len(read) > 1 else None
    for policy in read:
        reader = Reader(model, through_file=through_file, read=policy, read_blocks=read_blocks, prefilled=prefilled)
        found = _run(Evaluation(reader, directory, documents, passages, report), tasks)
        if len(read) == 1:
            return record | {"read": {"policy": policy, "blocks": read_blocks}} | found
        record.setdefault("read", {})[policy] = {"blocks": read_blocks} | found
    return record


def _run(evaluation: Evaluation, tasks: Sequence[str]) -> dict[str, Any]:
    reader = evaluation.reader
    found = {task: getattr(evaluation, task)() for task in tasks}
    if reader.through_file:
        found["through_file"] = {"answers": reader.answers, "differences": reader.differences}
    return found


def check_files(directory: Path, tasks: Sequence[str]) -> None:
    """Refuse a folder that lacks a file of a task, before hours are spent on others.

    Raises:
        CorpusMissing: naming the task and the file.
    """
    for task in tasks:
        files = [directory / f"{name}.jsonl.zst" for name in CORPORA_OF[task]]
        if task in ("samples", "ordinary"):
            files += sample_files(directory / task)
        for path in files:
            if not path.exists():
                raise CorpusMissing(f"the task {task} reads {path}, which is not there", hint=HINT)
