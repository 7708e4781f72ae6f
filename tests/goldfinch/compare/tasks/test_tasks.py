"""Documents have the length that was asked for, hold their answers, and are the same ones each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from goldfinch.compare.tasks.base import ASKED, PREDICTED, Exam, Task
from goldfinch.compare.tasks.material import Material
from goldfinch.compare.tasks.registry import TASKS, tasks_of
from goldfinch.compare.tasks.scoring import edit_similarity, label, number, rouge_l, stated, words
from goldfinch.datasets.corpora import is_held_out_document
from goldfinch.errors import GoldFinchError
from goldfinch.text.tokenizer import read_tokenizer
from tests.conftest import SAMPLES
from tests.goldfinch.train.records import write_records

LENGTH = 1200


class Reads:
    """What tasks need of a model."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = read_tokenizer(path)

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text))


def held_out(prefix: str) -> Iterator[str]:
    return (name for name in (f"{prefix}{n}" for n in range(100_000)) if is_held_out_document(name))


@pytest.fixture(scope="module")
def reads(tiny_tokenizer: Path) -> Reads:
    return Reads(tiny_tokenizer)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """A data folder whose every document is held out."""
    folder = tmp_path_factory.mktemp("corpora")
    text = (SAMPLES / "us-constitution.txt").read_text()
    titles = held_out("article ")
    lead = "It is a lead of an article that sums up what the article says in its body, which follows. " * 4
    wiki = [{"title": next(titles), "text": f"Title\n\n{lead}\n{text[n * 9000 :][:8000]}"} for n in range(3)]
    books = [{"title": next(titles), "text": text[::-1][:30_000], "source": "novels"}]
    books += [
        {"title": next(titles), "text": "My fellow citizens, we meet again. " * 300, "source": "state-of-the-union"}
    ]
    for name, records in (("corpus-wikipedia-00", wiki), ("corpus-wikipedia-01", wiki[:1]), ("corpus-books", books)):
        write_records(folder / f"{name}.jsonl.zst", records)
    asked = []
    for doc_id, _ in zip(held_out("squad "), range(3), strict=False):
        for para in range(8):
            context = (
                f"Passage {para} of {doc_id} says that the gate opens at {para + 10} o'clock. " + "It rains. " * 20
            )
            record = {"doc_id": doc_id, "title": doc_id, "source": "squad-v1", "para": para, "context": context}
            asked.append(record | {"question": f"When does gate {para} open?", "answers": [f"{para + 10} o'clock"]})
    write_records(folder / "train_qa.jsonl.zst", asked)
    write_records(folder / "train_qa_unanswerable.jsonl.zst", [])
    return Material(folder)


def exam_of(task: Task, reads: Reads, material: Material, length: int = LENGTH) -> Exam:
    """The first document that is not passed over."""
    made = (task.exam(reads, material, length, number, 0) for number in range(60))
    return next(exam for exam in made if exam is None or exam.questions) or Exam("", ())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_documents(task: Task, reads: Reads, material: Material) -> None:
    exam = exam_of(task, reads, material)
    assert exam == exam_of(task, reads, material)
    assert exam.questions, "there is a document"
    tokens = reads.count(exam.document)
    assert LENGTH * (0.3 if task.name == "article" else 0.75) < tokens <= LENGTH * 1.1
    for question in exam.questions:
        assert (question.references == ()) == (task.form == PREDICTED)
        assert question.depth is None or 0 <= question.depth <= 1
        if task.category in ("needle", "several needles", "key-value list"):
            assert question.references[0] in exam.document
        if task.form == ASKED and task.score is not None:
            assert task.score(question.references[0], question.references) == 1
            assert task.score("Not stated.", question.references) < 1


def test_other_documents_are_others(reads: Reads, material: Material) -> None:
    task = TASKS["needles-7"]
    texts = {task.exam(reads, material, length, n, seed) for length, n, seed in ((900, 0, 0), (900, 1, 0), (900, 0, 1))}
    assert len(texts) == 3


def test_needles_are_spread_over_the_document(reads: Reads, material: Material) -> None:
    exam = exam_of(TASKS["needles-7"], reads, material, 8000)
    depths = [question.depth for question in exam.questions]
    assert depths == [exam.document.find(q.references[0]) / len(exam.document) for q in exam.questions]
    found = sorted(depth or 0.0 for depth in depths)
    assert all(abs(depth - n / 9) < 0.1 for n, depth in enumerate(found))


@pytest.mark.parametrize("name", ["passkey-64", "needles-64", "needles-7", "which-passage", "kind"])
def test_what_is_too_short_has_no_document(name: str, reads: Reads, material: Material) -> None:
    assert TASKS[name].exam(reads, material, 60, 0, 0) is None


def test_the_data_ends(reads: Reads, material: Material) -> None:
    for name in ("summary", "article"):
        assert TASKS[name].exam(reads, material, LENGTH, 50, 0) is None


def test_without_a_folder_some_tasks_are_left(reads: Reads) -> None:
    bare = Material(None)
    left = [task for task in TASKS.values() if bare.has(task.corpora) is None]
    assert {task.name for task in left} >= {"needles-7", "pairs", "facts", "code", "language"}
    assert bare.has(TASKS["article"].corpora) == "train_qa"
    assert all(exam_of(task, reads, bare).questions for task in left)


def test_material_is_known_by_what_is_in_it(material: Material) -> None:
    assert material.fingerprint(()) == Material(material.directory).fingerprint(())
    assert material.fingerprint(()) != Material(None).fingerprint(())
    assert material.fingerprint(("train_qa",)) != material.fingerprint(())


def test_scores() -> None:
    assert stated("The 12345.", ("12345",)) == 1
    assert stated("The extension of room 7 is 12345.", ("12345",)) == 1
    assert stated("It is 12345 or 54321.", ("12345",)) == 0
    assert stated("It is 123456.", ("12345",)) == 0
    assert stated("", ("12345",)) == 0
    assert words("in the old mill", ("old mill",)) == pytest.approx(0.8)
    assert label("A novel", ("novel", "speech")) == 1
    assert label("novel or speech", ("novel", "speech")) == 0
    assert number("Passage 12", ("12",)) == 1
    assert number("Passage 1, or 12", ("12",)) == 0
    assert number("none", ("12",)) == 0


def test_rouge_and_edit_similarity() -> None:
    """By hand: the longest common subsequence is 3 of 4 and 3 of 3 words; "abd" and "abc" share two of three letters."""
    pytest.importorskip("rouge_score")
    pytest.importorskip("rapidfuzz")
    assert rouge_l("the mill stands", ("the old mill stands",)) == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert rouge_l("", ("the old mill stands",)) == 0
    assert edit_similarity("\n  abd\nmore", ("abc",)) == pytest.approx(2 / 3)
    assert edit_similarity("", ("abc",)) == 0


def test_names_of_tasks() -> None:
    assert tasks_of(["all"]) == list(TASKS.values())
    assert [task.name for task in tasks_of(["pairs", "facts", "pairs"])] == ["pairs", "facts"]
    with pytest.raises(GoldFinchError, match="a task is 'haystack', allowed: all"):
        tasks_of(["haystack"])
