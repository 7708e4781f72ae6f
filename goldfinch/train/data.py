"""Training sequences: tasks that look like what the product does, and plain text between them.

A sequence is `<bos> document question answer <end> question answer <end> ...`, encoded exactly as prefill and
ask encode it (`template.PromptTemplate`). Every batch depends on (seed, step) alone, so an interrupted
run resumes with the same data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from goldfinch.datasets.articles import Passage, read_articles, short_answer, wrap
from goldfinch.datasets.corpora import HINT, is_held_out_document, read_records
from goldfinch.datasets.definitions import definitions
from goldfinch.datasets.facts import NOT_STATED, FactMaker, harvest_fragments, harvest_names, plant
from goldfinch.datasets.lists import pairs_list, similar_facts
from goldfinch.datasets.tables import table
from goldfinch.text.template import PromptTemplate

from ..errors import CorpusDamaged, GoldFinchError
from .recipe import Recipe, Stage

WIDTHS = (50, 110)  # characters of a line in documents whose lines are broken
QUESTION_TOKENS = 80  # of a sequence for each question about an article
LEAST_PACKED = 24  # tokens; less room after a document stays empty
# `gf eval` asks about a country profile of this title (docs/samples/country-profile-mongolia.txt).
SAMPLE_TITLE = "Mongolia"
CHARS_PER_TOKEN = 3.2  # a cautious estimate: a document that is too long is cut, never the questions


class TrainingData:
    """The corpora in memory, and batches from them.

    Args:
        directory: folder with the corpora.
        recipe: which files, which weights.
        tokenizer: encode(text) -> ids.
        template: how documents and questions are joined.
    """

    def __init__(self, directory: Path, recipe: Recipe, tokenizer: Any, template: PromptTemplate) -> None:
        self.recipe, self.tokenizer, self.template = recipe, tokenizer, template
        tasks = {task for stage in recipe.stages for task in stage.mixture}
        own: set[str] = set()
        if recipe.pointer is not None:
            tasks, own = set(recipe.pointer.mixture), {"window", "strings", "kinds"}
        unknown = sorted(tasks - set(TASKS) - own)
        if unknown:
            known = ", ".join([*TASKS, *sorted(own)])
            raise GoldFinchError(f"unknown task {unknown[0]!r} in the mixture", hint=f"known: {known}")
        self.texts = [
            record["text"]
            for name in recipe.corpora
            for record in read_records(directory / f"{name}.jsonl.zst")
            if len(record["text"]) > 400 and not is_held_out_document(record["title"])
        ]
        fragments = harvest_fragments(self.texts[:400]) if recipe.varied_phrasings else []
        self.facts = FactMaker(harvest_names(self.texts[:4000], held_out=False), fragments=fragments)
        self.passages = _read_passages(directory) if "qa" in tasks else []
        self.documents = _read_documents(directory) if "docqa" in tasks else []
        self.articles = read_articles(directory, _is_for_training) if "article" in tasks else []

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (B, T), targets (B, T) and loss weights (B, T) of one step."""
        stage = self.recipe.stage_of(step)
        rng = Random(f"{self.recipe.seed}-{step}")
        names, weights = zip(*stage.mixture.items(), strict=True)
        rows = []
        for _ in range(stage.batch):
            task = rng.choices(names, weights)[0]
            try:
                document, questions = TASKS[task](self, rng, stage)
            except IndexError as error:  # chosen from what there is none of
                raise CorpusDamaged(f"the corpora hold nothing for the task {task!r}", hint=HINT) from error
            if self.recipe.wrapped and rng.random() < self.recipe.wrapped and task != "tables":
                document = wrap(document, rng.randint(*WIDTHS))
            rows.append(self._pack(rng, document, questions, stage.sequence))
        ids = torch.tensor([row[0] for row in rows])
        loss_weights = torch.tensor([row[1] for row in rows])
        return ids[:, :-1], ids[:, 1:], loss_weights[:, 1:]

    def _pack(
        self, rng: Random, document: str, questions: list[tuple[str, str]], length: int
    ) -> tuple[list[int], list[float]]:
        """Token ids and loss weights of one sequence, length + 1 each; the document gives way to the questions."""
        bos, encode = self.template.bos_token_id, self.tokenizer.encode
        ids = [bos, *encode(document)]
        asked = self._asked(questions, length // 2)
        room = length + 1 - sum(len(row.ids) for row in asked)
        if len(ids) > room:
            ids = ids[:room]
            asked = _still_answered(asked, document, self.tokenizer.decode(ids[1:]))
        weights = [1.0] * len(ids)
        for row in asked:
            ids += row.ids
            weights += row.weights
        if self.recipe.packed:
            while length + 1 - len(ids) >= LEAST_PACKED:
                left = length + 1 - len(ids)
                prose = encode(self.prose(rng, left * 6))[: left - 1]
                ids += [bos, *prose]
                weights += [0.0] + [1.0] * len(prose)
        pad = length + 1 - len(ids)
        return ids + [bos] * pad, weights + [0.0] * pad

    def _asked(self, questions: list[tuple[str, str]], room: int) -> list[_Asked]:
        """The questions that fit in `room` tokens."""
        template, encode = self.template, self.tokenizer.encode
        asked = []
        for question, answer in questions:
            q = encode(template.question_text(question))
            a = [*encode(template.answer_text(answer)), template.end_token_id]
            if len(q) + len(a) <= room:
                room -= len(q) + len(a)
                weights = [self.recipe.question_weight] * len(q) + [self.recipe.answer_weight] * len(a)
                asked.append(_Asked(answer, q + a, weights))
        return asked

    def prose(self, rng: Random, characters: int) -> str:
        """A stretch of running text that begins at a word."""
        text = rng.choice(self.texts)
        start = rng.randrange(max(1, len(text) - characters))
        if start:
            start = text.find(" ", start) + 1
        return text[start : start + characters]


@dataclass
class _Asked:
    """A question and its answer in a sequence: token ids and their loss weights."""

    answer: str
    ids: list[int]
    weights: list[float]


def _still_answered(asked: list[_Asked], document: str, kept: str) -> list[_Asked]:
    """Drop the questions whose answer was in the document but not in what was kept of it.

    Keeping them would teach the model to invent.
    """
    whole, part = (" ".join(text.split()) for text in (document, kept))
    return [row for row in asked if row.answer in part or row.answer not in whole]


def _plain_text(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    return data.prose(rng, stage.sequence * 6), []


def _planted_facts(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    facts = data.facts.facts(rng, rng.randint(*stage.facts))
    questions = [rng.choice(fact.questions) for fact in rng.sample(facts, min(len(facts), 5))]
    if rng.random() < data.recipe.absent_questions:
        questions.insert(rng.randrange(len(questions) + 1), data.facts.absent_question(rng, facts))
    room = stage.sequence - 30 * len(questions) - 22 * len(facts)
    # Half of the sequences are nearly full, the others any shorter length.
    share = 1.0 if rng.random() < 0.5 else rng.uniform(0.15, 1.0)
    return plant(rng, data.prose(rng, max(60, int(room * CHARS_PER_TOKEN * share))), facts), questions


def _register(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    most = max(4, stage.sequence // 40)
    text, pairs = data.facts.register(rng, rng.randint(3, most))
    before = data.prose(rng, rng.randint(0, 300)) + "\n\n" if rng.random() < 0.5 else ""
    return before + text, rng.sample(pairs, min(len(pairs), 5))


def _pairs(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    """A bare list, alone or between prose."""
    text, pairs = pairs_list(data.facts, rng, rng.randint(3, max(6, stage.sequence // 16)))
    before, after = (data.prose(rng, rng.randint(0, 300)) + "\n\n" if rng.random() < 0.4 else "" for _ in range(2))
    return before + text + "\n" + after, rng.sample(pairs, min(len(pairs), 6))


def _table(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    """A table with headings, alone or between prose."""
    text, pairs = table(data.facts, rng, rng.randint(2, max(4, stage.sequence // 40)))
    before, after = (data.prose(rng, rng.randint(0, 300)) + "\n\n" if rng.random() < 0.4 else "" for _ in range(2))
    return before + text + "\n" + after, rng.sample(pairs, min(len(pairs), 6))


def _similar(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    """Facts in prose that differ in one word."""
    facts = similar_facts(rng, rng.randint(2, 8))
    questions = [rng.choice(fact.questions) for fact in rng.sample(facts, min(len(facts), 5))]
    room = stage.sequence - 22 * len(questions) - 18 * len(facts)
    share = rng.uniform(0.1, 1.0)
    return plant(rng, data.prose(rng, max(60, int(room * CHARS_PER_TOKEN * share))), facts), questions


def _definitions(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    """Invented words explained somewhere in prose."""
    facts = definitions(rng, rng.randint(*stage.facts), data.facts.fragments)
    questions = [rng.choice(fact.questions) for fact in rng.sample(facts, min(len(facts), 5))]
    room = stage.sequence - 36 * len(questions) - 18 * len(facts)
    share = rng.uniform(0.1, 1.0)
    return plant(rng, data.prose(rng, max(60, int(room * CHARS_PER_TOKEN * share))), facts), questions


def _question_answering(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    """One paragraph of an article with its questions, between other paragraphs where there is room."""
    at = rng.randrange(len(data.passages))
    passage = data.passages[at]
    text = passage.text
    room = int((stage.sequence - 120) * CHARS_PER_TOKEN) - len(text)
    for offset in (1, -1, 2, -2, 3, -3, 4, -4):
        if room < 200 or rng.random() < 0.25:
            break
        other = data.passages[(at + offset) % len(data.passages)].text
        if len(other) > room or other in text:
            break
        text = f"{text}\n\n{other}" if rng.random() < 0.5 else f"{other}\n\n{text}"
        room -= len(other)
    share = data.recipe.keep_unanswerable
    questions = [(q, a) for q, a in passage.questions if a != NOT_STATED or share == 1 or rng.random() < share]
    if text is not passage.text:  # what one paragraph does not say, its neighbour may
        questions = [(q, a) for q, a in questions if a != NOT_STATED]
    rng.shuffle(questions)
    return text, questions[:6]


def _article(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    """Consecutive paragraphs of an article that fill two thirds of the sequence, and questions from all of them.

    A share of the questions (`absent_questions`) is about omitted paragraphs; the text does not answer those.
    """
    article = rng.choice(data.articles)
    characters = int(0.67 * stage.sequence * CHARS_PER_TOKEN)
    start, size = rng.randrange(len(article)), 0
    chosen: list[Passage] = []
    for passage in article[start:] + article[:start]:
        if chosen and size + len(passage.text) > characters:
            break
        chosen.append(passage)
        size += len(passage.text) + 2
    text = "\n\n".join(passage.text for passage in chosen)
    questions = [pair for passage in chosen for pair in passage.questions]
    rng.shuffle(questions)
    del questions[stage.sequence // QUESTION_TOKENS :]
    elsewhere = [pair for passage in article if passage.text not in text for pair in passage.questions]
    for at in range(len(questions)):
        if elsewhere and rng.random() < data.recipe.absent_questions:
            question, answer = rng.choice(elsewhere)
            if answer.lower() not in text.lower():
                questions[at] = (question, NOT_STATED)
    return text, questions


def _document_questions(data: TrainingData, rng: Random, stage: Stage) -> tuple[str, list[tuple[str, str]]]:
    """A stretch of a longer document and the questions that it answers."""
    document = rng.choice(data.documents)
    characters = int((stage.sequence - 100) * CHARS_PER_TOKEN)
    start = 0 if rng.random() < 0.5 else rng.randrange(max(1, len(document.text) - characters))
    text = document.text[start : start + characters]
    present = [(q, a) for q, a in document.questions if a in text]
    return text, rng.sample(present, min(len(present), 5))


TASKS = {
    "text": _plain_text,
    "facts": _planted_facts,
    "register": _register,
    "pairs": _pairs,
    "tables": _table,
    "similar": _similar,
    "definitions": _definitions,
    "qa": _question_answering,
    "docqa": _document_questions,
    "article": _article,
}


def _is_for_training(doc_id: str) -> bool:
    return not is_held_out_document(doc_id)


def _read_passages(directory: Path) -> list[Passage]:
    passages: dict[str, Passage] = {}
    for name in ("train_qa", "train_qa_unanswerable"):
        for record in read_records(directory / f"{name}.jsonl.zst"):
            if is_held_out_document(record["doc_id"]):
                continue
            answer = record["answers"][0] if record["answers"] else NOT_STATED
            if len(answer) > 120:
                continue
            passage = passages.setdefault(record["context"], Passage(record["context"], []))
            passage.questions.append((record["question"].strip(), answer))
    return [p for p in passages.values() if len(p.text) < 4000]


def _read_documents(directory: Path) -> list[Passage]:
    out = []
    for record in read_records(directory / "train_docqa.jsonl.zst"):
        if is_held_out_document(record["title"]) or record["title"] == SAMPLE_TITLE:
            continue
        pairs = [
            (qa["question"], answer) for qa in record["qas"] if (answer := short_answer(qa["answers"])) is not None
        ]
        if pairs:
            out.append(Passage(record["doc"], pairs))
    return out
