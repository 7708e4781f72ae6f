"""Documents that people have, and questions about them: whole ones with checked questions, and kinds set aside."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from goldfinch.datasets.facts import NOT_STATED, FactMaker
from goldfinch.datasets.kinds import HELD_OUT_KINDS, KINDS, Pair
from goldfinch.engine.answer import Answer

from .asking import Reader
from .calibrating import expected_error
from .documents import rows_of, text_in
from .scoring import exact_match, names_one

ABSENT = "absent"
KINDS_ASKED = {
    "kinds set aside": HELD_OUT_KINDS,
    "kinds of the training": tuple(k for k in KINDS if k not in HELD_OUT_KINDS),
}
Report = Callable[[dict[str, Any]], None]


class Counted:
    """Answers counted by the kind of their question, and how far their confidence can be believed."""

    def __init__(self) -> None:
        self.questions, self.right = Counter[str](), Counter[str]()
        self.said = self.said_rightly = 0
        self.known: list[tuple[float, bool]] = []

    def add(self, kind: str, answer: Answer, right: bool) -> None:
        """Count one answer; "Not stated." is right where `kind` is "absent"."""
        self.questions[kind] += 1
        self.right[kind] += right
        if answer.text == NOT_STATED:
            self.said += 1
            self.said_rightly += right
        if answer.confidence is not None:
            self.known.append((answer.confidence, right))

    def record(self) -> dict[str, Any]:
        """kinds (questions and right of each), questions and right (of all that are answered), absent_questions,
        absent_recall, absent_precision (None where "Not stated." was never said), calibration_error (see
        `expected_error`; None where the model has no confidence)."""
        absent, stated = self.questions[ABSENT], [kind for kind in self.questions if kind != ABSENT]
        return {
            "kinds": {k: {"questions": self.questions[k], "right": self.right[k]} for k in stated},
            "questions": sum(self.questions[k] for k in stated),
            "right": sum(self.right[k] for k in stated),
            "absent_questions": absent,
            "absent_recall": self.right[ABSENT] / absent if absent else None,
            "absent_precision": self.said_rightly / self.said if self.said else None,
            "calibration_error": expected_error(self.known) if self.known else None,
        }


def evaluate_ordinary(reader: Reader, folder: Path) -> dict[str, Any]:
    """Documents of an ordinary day, and checked questions: about what they say, in their words or others, and about
    what they do not say. An answer is right that names an accepted form in at most ten words.

    Args:
        folder: holds the documents and questions.jsonl: file, question, answers (none: not stated), kind.

    Returns:
        documents, and as `Counted.record` has it.
    """
    asked: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows_of(folder):
        asked[row["file"]].append(row)
    counted = Counted()
    for name, rows in asked.items():
        answers = reader.ask(text_in(folder, name), [row["question"] for row in rows])
        for answer, row in zip(answers, rows, strict=True):
            right = names_one(answer.text, row["answers"]) if row["answers"] else answer.text == NOT_STATED
            counted.add(row["kind"] if row["answers"] else ABSENT, answer, right)
    return {"documents": len(asked), **counted.record()}


def evaluate_kinds(
    reader: Reader, names: Sequence[str], *, documents: int = 20, seed: int = 0, report: Report = lambda row: None
) -> list[dict[str, Any]]:
    """Made documents of the kinds that people have, with questions that are answered exactly or not at all.

    Args:
        names: held-out names.
        documents: documents of each group.

    Returns:
        for the kinds that training never saw and for the others (documents of their own): group, documents, and as
        `Counted.record` has it; its kinds are those of the documents.
    """
    rows = []
    for group, kinds in KINDS_ASKED.items():
        counted = Counted()
        for n in range(documents):
            kind, rng = kinds[n % len(kinds)], Random(f"kinds-{seed}-{group}-{n}")
            maker = FactMaker(names, held_out=True)
            text, pairs = KINDS[kind](rng, maker)
            pairs += _absent(rng, maker, text, pairs, [k for k in kinds if k != kind])
            answers = reader.ask(text, [question for question, _ in pairs])
            for answer, (_, value) in zip(answers, pairs, strict=True):
                counted.add(ABSENT if value == NOT_STATED else kind, answer, exact_match(answer.text, [value]))
        rows.append({"group": group, "documents": documents, **counted.record()})
        report(rows[-1])
    return rows


def _absent(rng: Random, maker: FactMaker, text: str, pairs: Sequence[Pair], kinds: Iterable[str]) -> list[Pair]:
    """Questions of other kinds that the document does not answer, one for every three of its own."""
    known = {question for question, _ in pairs}
    others = [pair for kind in kinds for pair in KINDS[kind](rng, maker)[1]]
    absent = [(question, NOT_STATED) for question, value in others if question not in known and value not in text]
    return rng.sample(absent, min(len(absent), len(pairs) // 3))
