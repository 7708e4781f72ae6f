"""Questions about passages of articles that training never saw."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

from ..model import LanguageModel
from ..prefilling import document_token_ids, prefill
from ..session import Session
from ..train.corpora import is_held_out_document, read_records
from ..train.facts import NOT_STATED
from .scoring import exact_match, f1


def evaluate_questions(
    model: LanguageModel, directory: Path, *, passages: int = 300, per_passage: int = 3, seed: int = 0
) -> dict[str, Any]:
    """Exact match and F1 on held-out passages of train_qa, and how often "Not stated." is right.

    Args:
        passages: passages to ask about, drawn from whole held-out articles.
        per_passage: most questions per passage.

    Returns:
        questions, exact, f1 (answerable ones); absent_questions, absent_recall (answered "Not stated.");
        false_absent (share of answerable ones answered so).
    """
    answerable: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    absent: dict[str, list[str]] = defaultdict(list)
    for record in read_records(directory / "train_qa.jsonl.zst"):
        if is_held_out_document(record["doc_id"]) and record["source"].startswith("squad"):
            answerable[record["context"]].append((record["question"], record["answers"]))
    for record in read_records(directory / "train_qa_unanswerable.jsonl.zst"):
        if is_held_out_document(record["doc_id"]):
            absent[record["context"]].append(record["question"])
    rng = Random(f"questions-{seed}")
    chosen = rng.sample(sorted(answerable), min(passages, len(answerable)))
    exact = total = false_absent = absent_right = absent_total = 0
    f1_sum = 0.0
    for context in chosen:
        ids, span = document_token_ids(model, context)
        session = Session(model, prefill(model, ids, document_range=span))
        for question, references in rng.sample(answerable[context], min(per_passage, len(answerable[context]))):
            answer = session.ask(question, max_tokens=40).text
            exact += exact_match(answer, references)
            f1_sum += f1(answer, references)
            false_absent += answer == NOT_STATED
            total += 1
        for question in absent.get(context, [])[:per_passage]:
            absent_right += session.ask(question, max_tokens=40).text == NOT_STATED
            absent_total += 1
    return {
        "passages": len(chosen),
        "questions": total,
        "exact": exact / total,
        "f1": f1_sum / total,
        "false_absent": false_absent / total,
        "absent_questions": absent_total,
        "absent_recall": absent_right / absent_total if absent_total else None,
    }
