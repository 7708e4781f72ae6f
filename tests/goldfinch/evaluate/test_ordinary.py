"""Ordinary documents: what is counted as right, "Not stated." and confidence, and what has never been trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goldfinch.datasets.facts import NOT_STATED
from goldfinch.datasets.kinds import HELD_OUT_KINDS
from goldfinch.engine.answer import Answer, Usage
from goldfinch.errors import CorpusDamaged, CorpusMissing, GoldFinchError
from goldfinch.evaluate.asking import Reader
from goldfinch.evaluate.documents import evaluate_samples
from goldfinch.evaluate.ordinary import evaluate_kinds, evaluate_ordinary
from tests.endless import guarded, put

NAMES = [f"Name{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
ROWS = (
    {"file": "inn.txt", "question": "What does a room cost?", "answers": ["45"], "kind": "literal"},
    {"file": "inn.txt", "question": "Who runs it?", "answers": ["Ann Gray", "Mrs Gray"], "kind": "paraphrase"},
    {"file": "inn.txt", "question": "Is there a pool?", "answers": [], "kind": "absent"},
    {"file": "bus.csv", "question": "When does it leave?", "answers": ["7:15"], "kind": "table"},
)


class Told(Reader):
    """Answers from a function, so that the counting is what is tested."""

    def __init__(self, model, reply) -> None:
        super().__init__(model)
        self.reply = reply

    def ask(self, text: str, asked: list[str], *, max_tokens: int = 40) -> list[Answer]:
        return [self.reply(text, question) for question in asked]


def test_ordinary_documents_are_counted_by_kind_of_question(mini, tmp_path: Path) -> None:
    (tmp_path / "inn.txt").write_text("A room is 45 pounds. Ann Gray keeps the inn.")
    (tmp_path / "bus.csv").write_text("from,at\nHarwick,7:15\n")
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    said = {
        "What does a room cost?": ("£45 a night", 0.9), "Who runs it?": (NOT_STATED, 0.2),
        "Is there a pool?": (NOT_STATED, 0.9), "When does it leave?": ("8:00", 0.2),
    }  # fmt: skip
    found = evaluate_ordinary(Told(mini, lambda t, q: Answer(said[q][0], [], Usage(1), said[q][1])), tmp_path)
    assert (found["documents"], found["questions"], found["right"]) == (2, 3, 1)
    assert found["kinds"] == {
        "literal": {"questions": 1, "right": 1},
        "paraphrase": {"questions": 1, "right": 0},
        "table": {"questions": 1, "right": 0},
    }
    assert (found["absent_questions"], found["absent_recall"], found["absent_precision"]) == (1, 1.0, 0.5)
    assert found["calibration_error"] == pytest.approx((abs(0.9 * 2 - 2) + abs(0.2 * 2)) / 4)


def test_made_documents_are_of_kinds_set_aside_and_of_the_others(mini) -> None:
    seen: list[str] = []

    def silent(text: str, question: str) -> Answer:
        seen.append(text)
        return Answer(NOT_STATED, [], Usage(1))

    aside, known = evaluate_kinds(Told(mini, silent), NAMES, documents=6)
    assert (aside["group"], set(aside["kinds"])) == ("kinds set aside", set(HELD_OUT_KINDS))
    assert len(known["kinds"]) == 6
    assert not set(known["kinds"]) & set(HELD_OUT_KINDS)
    for row in (aside, known):
        assert row["right"] == 0
        assert row["absent_recall"] == 1
        assert 0.1 < row["absent_precision"] < 0.4  # the share of absent questions
        assert row["calibration_error"] is None
    assert len(set(seen)) == 12
    aside_again, _ = evaluate_kinds(Told(mini, silent), NAMES, documents=6)
    assert aside_again == aside


def test_the_model_itself_is_asked_about_ordinary_documents(mini, tmp_path: Path) -> None:
    (tmp_path / "gate.txt").write_text("The colour of the house is blue. The code of the gate is 48213.")
    row = {"file": "gate.txt", "question": "What is the code of the gate?", "answers": ["48213"], "kind": "literal"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(row) + "\n")
    found = evaluate_ordinary(Reader(mini), tmp_path)
    assert found["right"] == 1
    assert 0 <= found["calibration_error"] <= 1


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "link", "nowhere", "", ".", "a\0b"])
def test_only_documents_of_the_folder_are_read(name: str, mini, tmp_path: Path) -> None:
    folder = tmp_path / "ordinary"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("A secret.")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    (folder / "questions.jsonl").write_text(json.dumps(ROWS[0] | {"file": name}) + "\n")
    for evaluate in (evaluate_ordinary, evaluate_samples):
        with pytest.raises((CorpusDamaged, CorpusMissing, IsADirectoryError)):
            evaluate(Told(mini, lambda text, question: Answer("45", [], Usage(1))), folder)


@pytest.mark.parametrize(
    "row",
    [[], "x", {"file": 7}, {"file": "inn.txt", "question": 1}, ROWS[0] | {"answers": [1]}, ROWS[0] | {"kind": []}],
)
def test_a_question_of_another_form_is_named_with_its_line(row: object, mini, tmp_path: Path) -> None:
    (tmp_path / "inn.txt").write_text("A room costs 45.")
    (tmp_path / "questions.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(CorpusDamaged, match="line 2"):
        evaluate_ordinary(Told(mini, lambda text, question: Answer("45", [], Usage(1))), tmp_path)


@pytest.mark.parametrize("name", ["questions.jsonl", "inn.txt"])
def test_a_device_is_no_document(name: str, mini, tmp_path: Path) -> None:
    (tmp_path / "inn.txt").write_text("A room costs 45.")
    (tmp_path / "questions.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    put(tmp_path / name, "device")
    with guarded(), pytest.raises(GoldFinchError):
        evaluate_ordinary(Told(mini, lambda text, question: Answer("45", [], Usage(1))), tmp_path)
