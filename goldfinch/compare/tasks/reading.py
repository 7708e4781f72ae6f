"""Questions to text that people wrote: one article, several passages, which passage, which kind of text."""

from __future__ import annotations

import re
from random import Random

from goldfinch.datasets.articles import Passage
from goldfinch.evaluate.documents import first_pages
from goldfinch.evaluate.held_out import BOOKS, ENCYCLOPEDIA, QUESTIONS
from goldfinch.evaluate.prose import HasTokenizer

from .base import Exam, Place, Question, Task
from .material import Material
from .retrieval import depth_of
from .scoring import label, number, words

ASKED_OF_ARTICLE, ASKED_OF_MANY, ASKED_PASSAGES, ASKED_KINDS = 10, 5, 5, 5
# Characters of a paragraph that is worth naming, and of an example to be classified.
_PARAGRAPH, _EXAMPLE = (200, 1500), 240
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def article(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """The first pages of an article, and questions that people asked about its paragraphs (SQuAD)."""
    order = Random(f"articles-{place.tokens}").sample(range(len(material.articles)), len(material.articles))
    found = [first_pages(model, material.articles[n], place.tokens) for n in order]
    long_enough = [(text, asked) for text, asked in found if asked]
    rounds, number_of = divmod(place.number, len(long_enough)) if long_enough else (0, 0)
    if not long_enough or rounds > 1:
        return None
    text, asked = long_enough[number_of]
    shuffled = Random(f"questions-{place.tokens}-{number_of}").sample(asked, len(asked))
    part = shuffled[rounds * ASKED_OF_ARTICLE : (rounds + 1) * ASKED_OF_ARTICLE]  # a second round asks others
    return Exam(text, tuple(Question(q, (answer,), depth_of(text, answer)) for q, answer in part)) if part else None


def passages(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """Passages of different articles, numbered, and questions about some of them: all others mislead."""
    rng = place.rng
    every = [one for paragraphs in material.articles for one in paragraphs if one.questions]
    text, chosen = "", list[Passage]()
    for passage in rng.sample(every, len(every)):
        longer = f"{text}Document {len(chosen) + 1}:\n{passage.text}\n\n"
        if len(model.tokenizer.encode(longer)) > place.tokens:
            break
        text, chosen = longer, [*chosen, passage]
    if len(chosen) < 2:
        return None
    asked = [rng.choice(one.questions) for one in rng.sample(chosen, min(ASKED_OF_MANY, len(chosen)))]
    return Exam(text, tuple(Question(question, (answer,), depth_of(text, answer)) for question, answer in asked))


def which_passage(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """Numbered paragraphs; each question gives a sentence and asks for the number of its paragraph."""
    rng, text, chosen = place.rng, "", list[str]()
    while len(chosen) < 1000:
        paragraph = _paragraph(rng, material.texts)
        longer = f"{text}Passage {len(chosen) + 1}: {paragraph}\n\n"
        if len(model.tokenizer.encode(longer)) > place.tokens:
            break
        text, chosen = longer, [*chosen, paragraph]
    if len(chosen) < 2:
        return None
    asked = []
    for n in rng.sample(range(len(chosen)), min(ASKED_PASSAGES, len(chosen))):
        sentence = max(_SENTENCE.split(chosen[n]), key=len)
        question = f'What is the number of the passage that says: "{sentence}"'
        asked.append(Question(question, (str(n + 1),), text.find(sentence) / len(text)))
    return Exam(text, tuple(asked))


def kinds(model: HasTokenizer, material: Material, place: Place) -> Exam | None:
    """Examples of texts with the kind that each is of, and others whose kind is asked."""
    rng, labels = place.rng, sorted(material.kinds)
    if len(labels) < 2:
        return None
    lines = list[str]()
    while len(model.tokenizer.encode("".join(lines))) < place.tokens - 100 and len(lines) < 1000:
        kind = rng.choice(labels)
        lines.append(f"Text: {_excerpt(rng, material.kinds[kind])}\nKind of text: {kind}\n\n")
    if len(lines) < 2 * len(labels):
        return None
    asked = []
    for _ in range(ASKED_KINDS):
        kind = rng.choice(labels)
        question = f'Which kind of text is this, {", ".join(labels[:-1])} or {labels[-1]}: "{{}}"'
        others = tuple(other for other in labels if other != kind)
        asked.append(Question(question.format(_excerpt(rng, material.kinds[kind])), (kind, *others)))
    return Exam("".join(lines), tuple(asked))


def _paragraph(rng: Random, texts: list[str]) -> str:
    least, most = _PARAGRAPH
    while True:
        found = [p for p in rng.choice(texts).split("\n") if least <= len(p) <= most]
        if found:
            return " ".join(rng.choice(found).split())


def _excerpt(rng: Random, texts: list[str]) -> str:
    text = rng.choice(texts)
    start = rng.randrange(max(1, len(text) - 2 * _EXAMPLE))
    begin = text.find(" ", start) + 1
    return " ".join(text[begin : begin + _EXAMPLE].rsplit(" ", 1)[0].split())


TASKS = (
    Task(
        "article", "single document", "F1", "the first pages of an article, and questions that people asked about it",
        article, words, 40, corpora=(*QUESTIONS, *ENCYCLOPEDIA),
    ),
    Task(
        "passages", "multi document", "F1", "passages of different articles, and questions about some of them",
        passages, words, 40, corpora=(*QUESTIONS, *ENCYCLOPEDIA),
    ),
    Task(
        "which-passage", "passage retrieval", "accuracy", "numbered paragraphs, and sentences to find again",
        which_passage, number, 8, corpora=ENCYCLOPEDIA,
    ),
    Task(
        "kind", "few-shot classification", "accuracy", "examples of texts with their kind, and others to be told",
        kinds, label, 8, corpora=(*ENCYCLOPEDIA, *BOOKS),
    ),
)  # fmt: skip
