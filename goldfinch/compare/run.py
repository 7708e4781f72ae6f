"""Models by methods, over tasks and lengths: one pre-fill for all methods of a document, what is there not done again.

Documents are taken in rounds, one of each task and length in turn, so that the questions are spread over all cells when
the time ends. What is done next follows from the rows alone: a run that is started again goes on where it was, and one
that is finished does nothing and has the same report.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gfcache
import torch
from gfcache.files.temporary import temporary_folder

from goldfinch.engine.base import Engine
from goldfinch.errors import GoldFinchError
from goldfinch.evaluate.policies import TEXT
from goldfinch.version import __version__

from .asking import Kitchen, ask, bytes_of, is_untrained
from .methods import BENCHMARK, FULL, READING, Method
from .rows import VERSION, Key, Row, Rows
from .tasks.base import ASKED, Exam, Task
from .tasks.material import Material
from .tasks.scoring import missing

# Questions of a cell below which it carries no conclusion.
ENOUGH = 100
# Families that need a question, and why they have no part in tasks of text to continue.
OF_QUESTIONS = {READING: "it reads text to continue whole", BENCHMARK: "there is no question to read"}
# Positions that a question and its prompt may take, of a model whose context ends.
_ROOM = 256
# Documents in a row that are passed over, after which a task has no more.
_MOST_PASSED_OVER = 50
# How the time of a document grows with its length, where none of that length was timed yet.
_GROWTH = 1.3
# What a machine that is short of memory, or a file system, may say of one method and not of the next.
NO_DOCUMENT = "no document of this length can be made of the data"
FAILURES = (GoldFinchError, gfcache.CacheFormatError, torch.OutOfMemoryError, MemoryError, OSError)


@dataclass(frozen=True)
class Options:
    """What is compared.

    Attributes:
        methods, tasks, lengths: each with each; the full cache is among the methods.
        questions: of a cell, after which it gets no further document.
        seed: of the documents.
        budget_s: seconds for a model; None for all questions.
    """

    methods: Sequence[Method]
    tasks: Sequence[Task]
    lengths: Sequence[int]
    questions: int = ENOUGH
    seed: int = 0
    budget_s: float | None = None


@dataclass(frozen=True)
class NotRun:
    """What is missing in a report, and why; None stands for all."""

    reason: str
    method: str | None = None
    task: str | None = None
    tokens: int | None = None


@dataclass
class Compared:
    """What came of one model.

    Attributes:
        name: of it.
        about: kind, shape, numerics and fingerprint, for people.
        untrained: its weights are random: bytes and speed are true, quality is not.
        rows: of this comparison, in the order in which they were taken.
        not_run: what is missing.
    """

    name: str
    about: dict[str, str]
    untrained: bool
    rows: list[Row] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)

    def lacks(self, reason: str, **what: Any) -> None:
        """Note what is missing, once."""
        one = NotRun(reason, **what)
        if one not in self.not_run:
            self.not_run.append(one)


@dataclass(frozen=True)
class Step:
    """How far a model is: seconds spent of those that it will take, as far as that is known, and what is done now."""

    spent_s: float
    total_s: float | None
    words: str


@dataclass
class _Group:
    """Documents of one task and length."""

    task: Task
    tokens: int
    methods: list[Method]
    number: int = 0
    asked: int = 0
    over: bool = False
    seconds: list[float] = field(default_factory=list)


class ModelRun:
    """The comparison of one model.

    Args:
        engine: of the model.
        name: of it.
        options: what is compared.
        material: what documents are made of.
        rows: of this and of earlier runs.
        tell: gets steps.
    """

    def __init__(
        self,
        engine: Engine[Any],
        name: str,
        options: Options,
        material: Material,
        rows: Rows,
        tell: Callable[[Step], None] = lambda step: None,
    ) -> None:
        self._engine, self._options, self._material, self._rows, self._tell = engine, options, material, rows, tell
        text = (TEXT / "constitution.txt").read_text(encoding="utf-8")
        self.found = Compared(name, _about(engine), is_untrained(engine, text))
        self.spent_s = 0.0
        self._groups = self._planned()

    def run(self) -> Compared:
        """Measure until there are enough questions, or the time is spent."""
        for method in self._options.methods:
            if (reason := method.obstacle(self._engine)) is not None:
                self.found.lacks(reason, method=method.name)
        gc.collect()
        gc.freeze()  # peaks of memory are measured after a collection, which need not look at libraries each time
        try:
            while any(not group.over for group in self._groups):
                for group in (one for one in self._groups if not one.over):
                    self._document(group)
        finally:
            gc.unfreeze()
        return self.found

    def _planned(self) -> list[_Group]:
        """What can be asked, short documents first."""
        able = [method for method in self._options.methods if method.obstacle(self._engine) is None]
        unscored, groups = missing(), []
        for tokens in sorted(self._options.lengths):
            for task in self._options.tasks:
                lacking, limit = self._material.has(task.corpora), self._engine.most_tokens
                if lacking is not None:
                    self.found.lacks(f"the data folder has no {lacking}", task=task.name)
                elif task.measure in unscored:
                    self.found.lacks(unscored[task.measure], task=task.name)
                elif limit is not None and tokens + task.max_tokens + _ROOM > limit:
                    self.found.lacks(f"the model has {limit:,} positions", tokens=tokens)
                else:
                    methods = [one for one in able if task.form == ASKED or one.family not in OF_QUESTIONS]
                    for method in (one for one in able if one not in methods):
                        self.found.lacks(OF_QUESTIONS[method.family], method=method.name, task=task.name)
                    groups.append(_Group(task, tokens, methods))
        return groups

    def _document(self, group: _Group) -> None:
        """The next document of a group, unless all is there, the data has no more, or the time is spent."""
        budget, expected = self._options.budget_s, self._expected(group)
        for _ in range(_MOST_PASSED_OVER):
            keys = {method.name: self._key(group, method) for method in group.methods}
            known = {name: row for name, key in keys.items() if (row := self._rows.get(key)) is not None}
            if len(known) < len(keys):
                if budget is not None and self.spent_s + expected > budget:
                    if known:  # of a document that was not finished
                        break
                    self._stop(group, "the time was spent")
                    return
                started = time.perf_counter()
                exam = group.task.exam(self._engine, self._material, group.tokens, group.number, self._options.seed)
                if exam is None:
                    self._stop(group, NO_DOCUMENT)
                    return
                if not exam.questions:
                    group.number += 1
                    continue
                words = f"{group.task.name}, {group.tokens:,} tokens, document {group.number + 1}"
                self._tell(Step(self.spent_s, self._total(), words))
                known |= self._measured(group, exam, {n: k for n, k in keys.items() if n not in known}, started)
            break
        else:
            self._stop(group, NO_DOCUMENT)
            return
        self._take(group, [known[method.name] for method in group.methods if method.name in known])

    def _take(self, group: _Group, rows: list[Row]) -> None:
        group.number += 1
        if not rows:  # every method failed
            group.over = True
            return
        self.found.rows += rows
        seconds = sum(row.spent_s for row in rows)
        self.spent_s += seconds
        group.seconds.append(seconds)
        group.asked += len(rows[0].scores)
        if group.asked >= self._options.questions:
            group.over = True

    def _stop(self, group: _Group, reason: str) -> None:
        group.over = True
        if not group.asked:
            self.found.lacks(reason, task=group.task.name, tokens=group.tokens)

    def _expected(self, group: _Group) -> float:
        """Seconds that the next document will take: as those before it, else as those of the next shorter length."""
        if group.seconds:
            return sum(group.seconds) / len(group.seconds)
        timed = [one for one in self._groups if one.seconds and one.tokens < group.tokens]
        if not timed:
            return 0.0
        like = max(timed, key=lambda one: (one.task is group.task, one.tokens))
        return sum(like.seconds) / len(like.seconds) * (group.tokens / like.tokens) ** _GROWTH

    def _total(self) -> float | None:
        """Seconds of all documents, never more than the budget; None, or the budget, while some are not known."""
        left = 0.0
        for group in (one for one in self._groups if not one.over):
            each = max(group.asked / max(len(group.seconds), 1), 1.0)
            if not (expected := self._expected(group)):
                return self._options.budget_s
            left += expected * max(self._options.questions - group.asked, 0) / each
        total = self.spent_s + left
        return total if self._options.budget_s is None else min(total, self._options.budget_s)

    def _measured(self, group: _Group, exam: Exam, keys: dict[str, Key], started: float) -> dict[str, Row]:
        """Rows of a document, by method; what fails is noted, and not tried again at this task and length."""
        engine, rows = self._engine, dict[str, Row]()
        with temporary_folder("compare") as folder:
            full = folder / "full.gfc"
            try:
                began = time.perf_counter()
                cache = engine.prefill(engine.document(exam.document))
                engine.save(cache, full)
            except FAILURES as error:
                self.found.lacks(_words(error), task=group.task.name, tokens=group.tokens)
                group.over = True
                return {}
            prefill_s, length = time.perf_counter() - began, cache.length
            del cache
            kitchen = Kitchen(engine, full)
            for method in [one for one in group.methods if one.name in keys]:
                path = folder / "method.gfc"
                try:
                    as_it_is = method.family in (FULL, READING)
                    making_s = 0.0 if as_it_is else kitchen.make(method, path)
                    sizes = bytes_of(full if as_it_is else path)
                    asks_full = as_it_is or method.family == BENCHMARK  # which has the bytes of as many rows in a file
                    asked = ask(engine, group.task, exam, method, full if asks_full else path)
                except FAILURES as error:
                    self.found.lacks(_words(error), method=method.name, task=group.task.name, tokens=group.tokens)
                    group.methods = [one for one in group.methods if one is not method]
                    continue
                path.unlink(missing_ok=True)
                now = time.perf_counter()
                row = _row(keys[method.name], length, asked, sizes, (prefill_s, making_s, now - started))
                self._rows.add((row,))  # at once: of a document with thirty methods much is done before the last
                rows[method.name], started = row, now
        return rows

    def _key(self, group: _Group, method: Method) -> Key:
        engine, identity = self._engine, self._engine.identity
        return Key(
            model=identity["model"]["model_fingerprint"],
            tokenizer=str(identity["tokenizer"]["fingerprint"]),
            template=engine.card.template.fingerprint(),
            numerics=json.dumps(engine.numerics.to_dict(), sort_keys=True),
            method=method.name,
            settings=method.settings,
            task=group.task.name,
            tokens=group.tokens,
            seed=self._options.seed,
            document=group.number,
            data=self._material.fingerprint(group.task.corpora),
            version=f"{__version__} {VERSION}",
        )


def compared(
    openers: Sequence[Callable[[], Engine[Any]]],
    options: Options,
    material: Material,
    rows: Rows,
    budget_s: float | None = None,
    tell: Callable[[str, float, float | None], None] = lambda words, spent_s, total_s: None,
) -> list[Compared]:
    """Measure models one after the other; the time that one leaves is shared among those to come.

    Args:
        openers: each gives the engine of a model, which is loaded when it is its turn.
        options, material, rows: as of `ModelRun`.
        budget_s: seconds for all of them; None for as long as it takes.
        tell: gets what begins, the seconds that were spent, and those that all will take, where that is known.
    """
    found, spent = list[Compared](), 0.0
    for n, opened in enumerate(openers):
        left = None if budget_s is None else max(budget_s - spent, 0.0) / (len(openers) - n)
        engine = opened()
        name = str(engine.card.name)
        if name in [one.name for one in found]:
            name = f"{name} {engine.card.model_fingerprint:.8}"
        before = f"{name}: " if len(openers) == 1 else f"{n + 1}/{len(openers)} {name}: "

        def step(one: Step, before: str = before, spent: float = spent) -> None:
            total = one.total_s if len(openers) == 1 else budget_s
            tell(before + one.words, spent + one.spent_s, total)

        run = ModelRun(engine, name, replace(options, budget_s=left), material, rows, step)
        found.append(run.run())
        spent += run.spent_s
    return found


def _row(key: Key, length: int, asked: Any, sizes: dict[str, int], seconds: tuple[float, float, float]) -> Row:
    prefill_s, making_s, spent_s = seconds
    return Row(
        key, length, asked.scores, asked.depths, asked.answer_tokens, sizes, prefill_s, making_s, asked.load_s,
        asked.first_token_s, asked.decode_tok_s, asked.peak_bytes, spent_s,
    )  # fmt: skip


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _about(engine: Engine[Any]) -> dict[str, str]:
    model, numerics = engine.identity["model"], engine.numerics.to_dict()
    config = model["config"]
    return {
        "kind": str(model.get("model_type") or config.get("model_type") or "model"),
        "shape": f"{config['n_layer']} x {config['d_model']}, vocabulary {config['vocab_size']:,}",
        "numerics": ", ".join(f"{name} {value}" for name, value in numerics.items() if value is not None),
        "fingerprint": str(model["model_fingerprint"])[:16],
    }
