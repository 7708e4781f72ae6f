"""What the evaluation asks about is in nothing that training reads."""

from __future__ import annotations

from pathlib import Path

from goldfinch.datasets.corpora import is_held_out_document
from goldfinch.evaluate import held_out
from tests.goldfinch.train.records import write_records


def names(prefix: str, kept: bool, count: int) -> list[str]:
    """Names that are held out, or not."""
    found = (f"{prefix}{n}" for n in range(10_000) if is_held_out_document(f"{prefix}{n}") == kept)
    return [next(found) for _ in range(count)]


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    (kept,), (trained,) = names("Text ", True, 1), names("Text ", False, 1)
    clean, leaked = names("squad/A_", True, 2)
    (seen,) = names("squad/A_", False, 1)
    titles = {doc_id: doc_id.removeprefix("squad/") for doc_id in (clean, leaked, seen)}
    leaked_title = titles[leaked].replace("_", " ")
    assert not is_held_out_document(leaked_title)
    texts = {kept: "held out " * 500, trained: "trained on " * 500, leaked_title: "the article as a text " * 300}
    write_records(tmp_path / "corpus-wikipedia-00.jsonl.zst", [{"title": n, "text": t} for n, t in texts.items()])
    write_records(tmp_path / "corpus-wikipedia-01.jsonl.zst", [])
    novels = [
        {"title": kept, "text": "a novel", "source": "novels"},
        {"title": trained, "text": "b", "source": "novels"},
    ]
    speech = {"title": kept, "text": "a speech", "source": held_out.SPEECHES}
    write_records(tmp_path / "corpus-books.jsonl.zst", [*novels, speech])
    (story,) = names("tale/", True, 1)
    titles[story] = "Story"
    rows = [
        {
            "source": doc_id.split("/")[0],
            "doc_id": doc_id,
            "title": title,
            "context": f"About {doc_id}.",
            "question": "?",
            "answers": ["it"],
        }
        for doc_id, title in titles.items()
    ]
    write_records(tmp_path / "train_qa.jsonl.zst", rows)
    write_records(tmp_path / "train_qa_unanswerable.jsonl.zst", [])
    write_records(
        tmp_path / "train_docqa.jsonl.zst", [{"title": trained, "doc": "a document"}, {"title": kept, "doc": "x"}]
    )

    assert held_out.held_out_texts(tmp_path) == [texts[kept]]
    assert held_out.held_out_articles(tmp_path) == {clean}
    assert held_out.held_out_passages(tmp_path) == [f"About {clean}."]
    assert held_out.held_out_novels(tmp_path) == ["a novel"]
    read = list(held_out.training_texts(tmp_path))
    assert read == [texts[trained], texts[leaked_title], "b", f"About {seen}.", "a document"]
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / held_out.NOVEL).write_text("another novel")
    assert held_out.held_out_novels(tmp_path) == ["a novel", "another novel"]
