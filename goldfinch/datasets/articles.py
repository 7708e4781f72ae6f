"""Passages with questions, the articles they come from, and lines of a given width."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .corpora import read_records


def wrap(text: str, width: int) -> str:
    """The text with lines of at most `width` characters, broken between words."""
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return "\n".join(textwrap.fill(line, width, **options) for line in text.split("\n"))


@dataclass
class Passage:
    """A document with (question, answer) pairs; an answer may be NOT_STATED."""

    text: str
    questions: list[tuple[str, str]]


def read_articles(directory: Path, wanted: Callable[[str], bool]) -> list[list[Passage]]:
    """The paragraphs of every article with a wanted doc_id, in their order."""
    articles: dict[str, dict[int, Passage]] = {}
    for record in read_records(directory / "train_qa.jsonl.zst"):
        if "para" not in record or not wanted(record["doc_id"]):
            continue
        paragraphs = articles.setdefault(record["doc_id"], {})
        passage = paragraphs.setdefault(record["para"], Passage(record["context"], []))
        if len(record["answers"][0]) <= 120:
            passage.questions.append((record["question"].strip(), record["answers"][0]))
    return [[paragraphs[n] for n in sorted(paragraphs)] for paragraphs in articles.values()]
