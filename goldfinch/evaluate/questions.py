"""Questions about passages of articles that training never saw, beside a baseline that only copies."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from goldfinch.datasets.corpora import read_records
from goldfinch.datasets.facts import NOT_STATED

from .asking import Reader
from .calibrating import expected_error
from .held_out import held_out_articles
from .scoring import exact_match, f1, normalise

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class Tally:
    """Exact matches and F1 over answered questions."""

    def __init__(self) -> None:
        self.questions = self.exact = 0
        self.f1 = 0.0

    def add(self, answer: str, references: Sequence[str]) -> None:
        self.questions += 1
        self.exact += exact_match(answer, references)
        self.f1 += f1(answer, references)

    def shares(self, suffix: str = "") -> dict[str, float]:
        """exact and f1, 0 to 1."""
        return {f"exact{suffix}": self.exact / self.questions, f"f1{suffix}": self.f1 / self.questions}


def copied_sentence(context: str, question: str) -> str:
    """The sentence that shares most words with the question: what a program without a model would show."""
    words = set(normalise(question).split())
    return max(_SENTENCE.split(context), key=lambda sentence: len(words & set(normalise(sentence).split())))


def evaluate_questions(
    reader: Reader, directory: Path, *, passages: int = 300, per_passage: int = 3, seed: int = 0
) -> dict[str, Any]:
    """Exact match and F1 on held-out passages of train_qa, and how often "Not stated." is right.

    Args:
        passages: passages to ask about, drawn from whole held-out articles.
        per_passage: most questions per passage.

    Returns:
        questions, exact, f1 (answerable ones), exact_copying and f1_copying (the baseline's); absent_questions,
        absent_recall (share of the unanswerable ones answered "Not stated."), absent_precision (share of such answers
        that were right), false_absent (share of the answerable ones answered so); calibration_error (see
        `expected_error`, over all of them; None where the model has no confidence).
    """
    answerable, absent = held_out_questions(directory)
    rng = Random(f"questions-{seed}")
    chosen = rng.sample(sorted(answerable), min(passages, len(answerable)))
    found, copying, known = Tally(), Tally(), list[tuple[float, bool]]()
    false_absent = absent_right = absent_total = 0
    for context in chosen:
        asked = rng.sample(answerable[context], min(per_passage, len(answerable[context])))
        unanswerable = absent.get(context, [])[:per_passage]
        given = reader.ask(context, [question for question, _ in asked] + unanswerable)
        expected = [references for _, references in asked] + [[NOT_STATED]] * len(unanswerable)
        known += [
            (answer.confidence, exact_match(answer.text, references))
            for answer, references in zip(given, expected, strict=True)
            if answer.confidence is not None
        ]
        answers = [answer.text for answer in given]
        for (question, references), answer in zip(asked, answers, strict=False):
            found.add(answer, references)
            copying.add(copied_sentence(context, question), references)
            false_absent += answer == NOT_STATED
        absent_right += sum(answer == NOT_STATED for answer in answers[len(asked) :])
        absent_total += len(unanswerable)
    said = absent_right + false_absent
    return {
        "passages": len(chosen),
        "questions": found.questions,
        **found.shares(),
        **copying.shares("_copying"),
        "false_absent": false_absent / found.questions,
        "absent_questions": absent_total,
        "absent_recall": absent_right / absent_total if absent_total else None,
        "absent_precision": absent_right / said if said else None,
        "calibration_error": expected_error(known) if known else None,
    }


Answerable = dict[str, list[tuple[str, list[str]]]]


def held_out_questions(
    directory: Path, wanted: Callable[[str], bool] | None = None
) -> tuple[Answerable, dict[str, list[str]]]:
    """By passage: questions with their answers, and questions that it does not answer.

    Args:
        wanted: whether an article is, by its doc_id; None for those that training never reads.
    """
    answerable: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    absent: dict[str, list[str]] = defaultdict(list)
    wanted = held_out_articles(directory).__contains__ if wanted is None else wanted
    for record in read_records(directory / "train_qa.jsonl.zst"):
        if wanted(record["doc_id"]):
            answerable[record["context"]].append((record["question"], record["answers"]))
    for record in read_records(directory / "train_qa_unanswerable.jsonl.zst"):
        if wanted(record["doc_id"]):
            absent[record["context"]].append(record["question"])
    return answerable, absent


def unanswered(passages: Sequence[str], answerable: Answerable, absent: dict[str, list[str]]) -> list[str]:
    """Questions that some passages together do not answer.

    What one passage does not answer was asked about another of the same article: where that one stands beside it, the
    question is answered.

    Args:
        passages: the whole document.
        answerable, absent: from `held_out_questions`.
    """
    answered = {question.strip() for passage in passages for question, _ in answerable.get(passage, ())}
    asked = (question for passage in passages for question in absent.get(passage, ()))
    return [question for question in asked if question.strip() not in answered]
