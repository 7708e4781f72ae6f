"""Passages with questions, the articles they come from, and lines of a given width."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .corpora import read_records

MOST_ANSWER_CHARACTERS = 120


def wrap(text: str, width: int) -> str:
    """The text with lines of at most `width` characters, broken between words."""
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return "\n".join(textwrap.fill(line, width, **options) for line in text.split("\n"))


@dataclass
class Passage:
    """A document with (question, answer) pairs; an answer may be NOT_STATED."""

    text: str
    questions: list[tuple[str, str]]


def short_answer(answers: Sequence[str]) -> str | None:
    """The first of several accepted answers; None where there is none, or it is long."""
    return answers[0] if answers and len(answers[0]) <= MOST_ANSWER_CHARACTERS else None


def read_articles(directory: Path, wanted: Callable[[str], bool]) -> list[list[Passage]]:
    """The paragraphs of every article with a wanted doc_id, in their order."""
    articles: dict[str, dict[int, Passage]] = {}
    for record in read_records(directory / "train_qa.jsonl.zst"):
        if "para" not in record or not wanted(record["doc_id"]):
            continue
        paragraphs = articles.setdefault(record["doc_id"], {})
        passage = paragraphs.setdefault(record["para"], Passage(record["context"], []))
        answer = short_answer(record["answers"])
        if answer is not None:
            passage.questions.append((record["question"].strip(), answer))
    return [[paragraphs[n] for n in sorted(paragraphs)] for paragraphs in articles.values()]
