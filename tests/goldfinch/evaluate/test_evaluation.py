"""The evaluation measures what it says: on answers known beforehand, on a model that answers, through the file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from gfcli.app import run
from goldfinch.datasets.articles import Passage
from goldfinch.datasets.facts import NOT_STATED, FactMaker
from goldfinch.datasets.tables import table
from goldfinch.engine.answer import Answer, Usage
from goldfinch.evaluate import documents, facts, questions, retrieval
from goldfinch.evaluate.asking import Reader
from goldfinch.evaluate.prose import insert_at, prose_of
from goldfinch.policies.named import ALL, ATTENTION, HYBRID, LEXICAL
from goldfinch.policies.vectors import vectors_at_hand
from tests.conftest import SAMPLES
from tests.goldfinch.evaluate.conftest import PROSE


def test_statements_stand_at_their_depth() -> None:
    prose = "A b c. D e f. G h i. J k l."
    assert insert_at(prose, [(0.0, "First."), (1.0, "Last. ")]) == "First. " + prose + "Last. "
    assert insert_at(prose, [(0.5, "Middle.")]) == "A b c. D e f. Middle. G h i. J k l."


def test_prose_has_the_length_asked_for(mini) -> None:
    from random import Random

    for tokens in (50, 1000):
        found = len(mini.tokenizer.encode(prose_of(mini, Random(0), [PROSE], tokens)))
        assert 0.98 * tokens - 2 <= found <= tokens


def test_the_baseline_copies_the_closest_sentence() -> None:
    context = "Harwick was founded in 1204. Its market is held on Mondays. The mayor is Ann Gray."
    assert questions.copied_sentence(context, "Who is the mayor of the town?") == "The mayor is Ann Gray."
    assert questions.copied_sentence(context, "On which day is the market held?") == "Its market is held on Mondays."


def test_what_a_neighbour_answers_is_answered() -> None:
    answerable = {"One.": [("Who was first? ", ["Ann"])], "Two.": [("Who was second?", ["Bob"])]}
    absent = {"Two.": ["Who was first?", "Who was third?"]}
    assert questions.unanswered(["Two."], answerable, absent) == ["Who was first?", "Who was third?"]
    assert questions.unanswered(["One.", "Two."], answerable, absent) == ["Who was third?"]


def test_questions_about_whole_documents(mini, tmp_path: Path) -> None:
    (tmp_path / "house.txt").write_text("The colour of the house is blue. The code of the gate is 48213.")
    rows = [("What is the code of the gate?", ["48213"]), ("Who built the ship?", ["Nobody did"])]
    lines = [json.dumps({"file": "house.txt", "question": q, "answers": a}) for q, a in rows]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines) + "\n")
    (row,) = documents.evaluate_samples(Reader(mini), tmp_path)
    assert (row["document"], row["questions"], row["exact"]) == ("house.txt", 2, 0.5)
    assert 10 < row["tokens"] < 40


class Scripted(Reader):
    """Answers from a list, so that the counting is what is tested."""

    def __init__(self, model, reply) -> None:
        super().__init__(model)
        self.reply = reply

    def ask(self, text: str, asked: list[str], *, max_tokens: int = 40) -> list[Answer]:
        return [Answer(self.reply(text, question), [], Usage(1)) for question in asked]


def test_passkey_counts_by_depth(mini) -> None:
    def first_half_only(text: str, question: str) -> str:
        at = text.index("The pass key is ")
        return text[at + 16 :].split(".")[0] if at < len(text) / 2 else "12"

    rows = retrieval.evaluate_passkey(
        Scripted(mini, first_half_only), [PROSE], lengths=(400,), digit_counts=(5,), documents=2
    )
    assert rows[0]["questions"] == 20
    assert rows[0]["by_depth"] == [1.0] * 5 + [0.0] * 5
    assert rows[0]["exact"] == 0.5


def test_pairs_and_needles_count(mini) -> None:
    def look_up(text: str, question: str) -> str:
        if question.startswith("What is the value of "):
            key = question[len("What is the value of ") : -1]
            return next(line.split(": ")[1] for line in text.splitlines() if line.startswith(key + ": "))
        colour = question.split()[3]
        return text.split(f"The {colour} pass key is ")[1][:5] if colour != "red" else "no"

    names = [f"Name{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
    pairs = retrieval.evaluate_pairs(Scripted(mini, look_up), names, counts=(10, 150), documents=1)
    assert [(row["exact"], row["questions"]) for row in pairs] == [(1.0, 10), (1.0, 10)]
    needles = retrieval.evaluate_needles(Scripted(mini, look_up), [PROSE], counts=(12,), lengths=(500,), documents=3)
    assert needles[0]["all_exact"] == 0.0
    assert needles[0]["exact"] == pytest.approx(11 / 12)


def test_tables_and_definitions_count(mini) -> None:
    names = [f"Name{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
    told: dict[str, str] = {}

    def known(text: str, question: str) -> str:
        return told[question] if told[question] in text else "no"

    for n in range(3):
        rng = Random(f"tables-0-5-{n}")
        told |= dict(table(FactMaker(names, held_out=True), rng, 5, held_out=True)[1])
    rows = retrieval.evaluate_tables(Scripted(mini, known), names, counts=(5,), documents=3, asked=4)
    assert rows == [{"rows": 5, "exact": 1.0, "questions": 12}]
    silent = retrieval.evaluate_tables(Scripted(mini, lambda t, q: "no"), names, counts=(5,), documents=3, asked=4)
    assert silent[0]["exact"] == 0.0

    def look_up(text: str, question: str) -> str:
        word = re.search(r"(?:what an?|What is an?) (\w+)", question)
        assert word is not None
        said = re.search(rf"{word[1]} (?:for|denotes) ([^.]*)\.", text)
        assert said is not None
        return said[1] if word[1][0] < "m" else "no"

    found = facts.evaluate_definitions(Scripted(mini, look_up), [PROSE], lengths=(300,), documents=8)
    assert found[0]["questions"] == 40
    assert 0.1 < found[0]["exact"] < 0.9


def test_questions_count_what_is_not_stated(mini, monkeypatch) -> None:
    held_out = ({"A cat sat. A dog ran.": [("Who sat?", ["a cat"])]}, {"A cat sat. A dog ran.": ["Who flew?"]})
    monkeypatch.setattr(questions, "held_out_questions", lambda directory: held_out)
    right = questions.evaluate_questions(Scripted(mini, lambda t, q: "The cat" if "sat" in q else NOT_STATED), Path())
    assert (right["exact"], right["f1"], right["absent_recall"], right["absent_precision"]) == (1, 1, 1, 1)
    assert right["f1_copying"] == pytest.approx(2 / 3)
    silent = questions.evaluate_questions(Scripted(mini, lambda t, q: NOT_STATED), Path())
    assert (silent["exact"], silent["false_absent"], silent["absent_precision"]) == (0, 1, 0.5)


def test_articles_are_cut_at_paragraphs_and_asked_about_what_is_left(mini, monkeypatch) -> None:
    paragraphs = [f"Number {n} is here. {PROSE[:300]}" for n in range(8)]
    article = [Passage(text, [(f"Which number? {n}", f"Number {n}")]) for n, text in enumerate(paragraphs)]
    monkeypatch.setattr(documents, "held_out_articles", lambda directory: frozenset({"a", "b"}))
    by_id = {"a": article, "b": article[:1], "c": article}
    monkeypatch.setattr(documents, "read_articles", lambda directory, wanted: [by_id[i] for i in by_id if wanted(i)])
    seen: list[str] = []

    def answer(text: str, question: str) -> str:
        seen.append(text)
        return question.replace("Which number?", "Number") if "3" not in question else "none"

    rows = documents.evaluate_articles(Scripted(mini, answer), Path(), lengths=(400, 10_000))
    (row,) = rows  # the whole article is shorter than 10,000 tokens, and the other one than 400
    text = seen[0]
    count = len(text.split("\n\n"))
    assert text == "\n\n".join(paragraphs[:count])
    assert len(mini.tokenizer.encode(text)) <= 400 < len(mini.tokenizer.encode("\n\n".join(paragraphs[: count + 1])))
    assert (row["length"], row["documents"], row["questions"]) == (400, 1, count)
    assert count >= 4
    assert row["exact"] == pytest.approx((count - 1) / count)


@pytest.mark.parametrize("policy", [ALL, LEXICAL, ATTENTION, *([HYBRID] if vectors_at_hand() else [])])
def test_answers_through_the_file_are_compared(policy: str, mini, monkeypatch) -> None:
    reader = Reader(mini, through_file=True, read=policy)
    text = (SAMPLES / "lighthouse-handbook.txt").read_text()
    reader.answers_to(text[:6000], ["What is the pass key?", "Who lived there?"], max_tokens=8)
    assert (reader.answers, reader.differences) == (2, 0)
    real, calls, other = Reader._ask, list[int](), [Answer("other", [7], Usage(1))]
    monkeypatch.setattr(Reader, "_ask", lambda *a: calls.append(1) or (real(*a) if len(calls) == 1 else other))
    assert reader.answers_to(PROSE, ["What is the pass key?"], max_tokens=8) == ["other"]
    assert (reader.answers, reader.differences) == (3, 1)


def test_an_unknown_task_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gfcli", "eval", "--task", "chess"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "chess" in done.stderr
    assert "passkey" in done.stderr


def test_missing_corpora_are_named_and_described(tmp_path: Path, tiny_model: Path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("GF_DATA_DIR", raising=False)
    command = ["eval", "-m", str(tiny_model), "--task", "questions"]
    for arguments, code in (([], 2), (["--data", str(tmp_path / "no")], 2), (["--data", str(tmp_path)], 4)):
        assert run([*command, *arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert "--data or GF_DATA_DIR" in err
        assert "train_qa" in err
