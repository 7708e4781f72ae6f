"""Documents with questions for training as it is read: every kind that training knows, each with many questions.

Document number n depends on (seed, n) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

from goldfinch.datasets.articles import Passage, read_articles, wrap
from goldfinch.datasets.corpora import is_for_choosing, is_held_out_document
from goldfinch.datasets.facts import NOT_STATED, plant
from goldfinch.datasets.kinds import kind_document
from goldfinch.datasets.strings import string_facts
from goldfinch.datasets.swapping import AnswerSwapper

from ..data import CHARS_PER_TOKEN, TASKS, WIDTHS, TrainingData
from ..recipe import Stage

# Tokens of a document, about, and how often it has so many.
LENGTHS = (300, 600, 1000, 1600, 3200)
SHARES = (0.23, 0.32, 0.26, 0.12, 0.07)
# Questions asked of one stretch of an article.
MOST_QUESTIONS = 20
SEPARATOR = "\n\n"
# Kinds whose questions were written by people, about articles that a model may know by heart.
OF_ARTICLES = ("window", "qa", "docqa")

Document = tuple[str, list[tuple[str, str]]]


@dataclass
class AsRead:
    """Documents in their order.

    Args:
        data: the corpora, and the tasks that make documents of them.
        directory: of the corpora.
        mixture: weight per kind: "window" (paragraphs of an article that follow each other), "strings", "kinds"
            (documents that people have), and the tasks of `data.TASKS`.
        seed: of the order.
        wrapped: share of the documents with hard line breaks.
        absent: share of the questions about a stretch of an article that are about its other paragraphs.
        swapped: share of the answers in articles that are exchanged for others of their shape.
    """

    data: TrainingData
    directory: Path
    mixture: dict[str, float]
    seed: int
    wrapped: float = 0.3
    absent: float = 0.1
    swapped: float = 0.0

    def __post_init__(self) -> None:
        kept = {passage.text for article in self.articles_to_choose_by for passage in article}
        self.data.passages = [passage for passage in self.data.passages if passage.text not in kept]

    @cached_property
    def articles(self) -> list[list[Passage]]:
        """Those that training sees."""
        return read_articles(self.directory, lambda key: not is_held_out_document(key) and not is_for_choosing(key))

    @cached_property
    def articles_to_choose_by(self) -> list[list[Passage]]:
        """Those that neither training nor the evaluation sees."""
        return read_articles(self.directory, lambda key: not is_held_out_document(key) and is_for_choosing(key))

    @cached_property
    def _swapper(self) -> AnswerSwapper:
        passages = (passage for article in self.articles for passage in article)
        return AnswerSwapper((answer for passage in passages for _, answer in passage.questions), self.swapped)

    def document(self, n: int) -> Document:
        """Document number n: its text and (question, answer) pairs, an answer may be NOT_STATED."""
        rng = Random(f"as-read-{self.seed}-{n}")
        kinds, weights = zip(*self.mixture.items(), strict=True)
        kind, length = rng.choices(kinds, weights)[0], rng.choices(LENGTHS, SHARES)[0]
        if kind == "window":
            text, questions = window(rng, self.articles, length, self.absent)
        else:
            text, questions = self._other(kind, rng, length)
        if self.swapped and kind in OF_ARTICLES:
            text, questions = self._swapper.swapped(rng, text, questions)
        if kind != "tables" and rng.random() < self.wrapped:
            text = wrap(text, rng.randint(*WIDTHS))
        return text, questions

    def _other(self, kind: str, rng: Random, length: int) -> Document:
        if kind == "strings":
            return self._strings(rng, length)
        if kind == "kinds":
            return self._kinds(rng)
        return TASKS[kind](self.data, rng, Stage(1, length, 1, {kind: 1.0}, facts=(3, 10)))

    def _kinds(self, rng: Random) -> Document:
        """One document that people have, alone or beside another."""
        text, asked = kind_document(self.data.facts, rng)
        if rng.random() < 0.4:
            other, others = kind_document(self.data.facts, rng)
            if not {question for question, _ in asked} & {question for question, _ in others}:
                text = SEPARATOR.join(rng.sample((text, other), 2))
                asked = [pair for pair in asked + others if pair[1] != NOT_STATED]
        return text, asked

    def document_to_choose_by(self, n: int) -> Document:
        """Document number n of those that training does not see."""
        rng = Random(f"choose-{self.seed}-{n}")
        return window(rng, self.articles_to_choose_by, rng.choices(LENGTHS, SHARES)[0])

    def _strings(self, rng: Random, length: int) -> Document:
        """Long strings in prose."""
        facts = string_facts(self.data.facts, rng, rng.randint(2, 8))
        asked = [rng.choice(fact.questions) for fact in facts]
        return plant(rng, self.data.prose(rng, int(length * CHARS_PER_TOKEN * 0.7)), facts), asked


def window(rng: Random, articles: list[list[Passage]], tokens: int, absent_share: float = 0.1) -> Document:
    """Paragraphs of an article that follow each other, and questions from all of them and from others of it."""
    article = rng.choice(articles)
    start, size = rng.randrange(len(article)), 0
    chosen: list[Passage] = []
    for passage in article[start:] + article[:start]:
        if chosen and size + len(passage.text) > tokens * CHARS_PER_TOKEN * 1.25:
            break
        chosen.append(passage)
        size += len(passage.text)
    text = SEPARATOR.join(passage.text for passage in chosen)
    questions = [pair for passage in chosen for pair in passage.questions]
    elsewhere = [pair for passage in article if passage.text not in text for pair in passage.questions]
    absent = [(q, NOT_STATED) for q, answer in elsewhere if answer.lower() not in text.lower()]
    asked = rng.sample(questions, min(len(questions), MOST_QUESTIONS))
    return text, asked + rng.sample(absent, min(len(absent), round(absent_share * len(asked))))
