"""What training never reads: texts, books, articles with questions; and what it reads, for comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from goldfinch.datasets.corpora import is_held_out_document, read_records
from goldfinch.text.inputs import MOST_DOCUMENT_BYTES, read_named

ENCYCLOPEDIA = ("corpus-wikipedia-00", "corpus-wikipedia-01")
BOOKS = ("corpus-books",)
SPEECHES = "state-of-the-union"  # a source within the books
ARTICLES = "squad"  # the sources of articles with questions begin so
QUESTIONS = ("train_qa", "train_qa_unanswerable")
DOCUMENTS = ("train_docqa",)
NOVEL = "treasure-island-ch1-3.txt"  # of the samples, which no corpus holds


def held_out_texts(directory: Path, corpora: Sequence[str] = ENCYCLOPEDIA) -> list[str]:
    """Long texts that training never reads."""
    return [
        record["text"]
        for name in corpora
        for record in read_records(directory / f"{name}.jsonl.zst")
        if is_held_out_document(record["title"]) and len(record["text"]) > 3000
    ]


def held_out_novels(directory: Path) -> list[str]:
    """Novels that training never reads: held-out parts of the corpus, and the sample."""
    novels = [
        record["text"]
        for record in read_records(directory / f"{BOOKS[0]}.jsonl.zst")
        if is_held_out_document(record["title"]) and record.get("source") != SPEECHES
    ]
    sample = directory / "samples" / NOVEL
    return [*novels, *([read_named(sample, MOST_DOCUMENT_BYTES).decode()] if sample.exists() else [])]


@cache
def held_out_articles(directory: Path) -> frozenset[str]:
    """doc_ids of the articles with questions that training never reads, neither as questions nor as plain text."""
    titles = {
        record["title"]
        for name in ENCYCLOPEDIA
        if (path := directory / f"{name}.jsonl.zst").exists()
        for record in read_records(path)
        if not is_held_out_document(record["title"])
    }
    return frozenset(
        record["doc_id"]
        for name in QUESTIONS
        for record in read_records(directory / f"{name}.jsonl.zst")
        if record["source"].startswith(ARTICLES)
        and is_held_out_document(record["doc_id"])
        and record["title"].replace("_", " ") not in titles
    )


def held_out_passages(directory: Path) -> list[str]:
    """Their paragraphs, each once."""
    kept = held_out_articles(directory)
    rows = read_records(directory / "train_qa.jsonl.zst")
    return sorted({record["context"] for record in rows if record["doc_id"] in kept})


def training_texts(directory: Path) -> Iterator[str]:
    """All that training reads: the texts of every corpus, the passages and the documents with questions."""
    for name in (*ENCYCLOPEDIA, *BOOKS):
        for record in read_records(directory / f"{name}.jsonl.zst"):
            if not is_held_out_document(record["title"]):
                yield record["text"]
    contexts = {
        record["context"]
        for record in read_records(directory / "train_qa.jsonl.zst")
        if not is_held_out_document(record["doc_id"])
    }
    yield from sorted(contexts)
    for record in read_records(directory / "train_docqa.jsonl.zst"):
        if not is_held_out_document(record["title"]):
            yield record["doc"]


# Every task, and the corpora that it reads.
CORPORA_OF = {
    "facts": ENCYCLOPEDIA,
    "questions": QUESTIONS,
    "articles": QUESTIONS,
    "samples": (),
    "ordinary": (),
    "kinds": ENCYCLOPEDIA,
    "passkey": ENCYCLOPEDIA,
    "pairs": ENCYCLOPEDIA,
    "tables": ENCYCLOPEDIA,
    "definitions": ENCYCLOPEDIA,
    "needles": ENCYCLOPEDIA,
    "perplexity": (*ENCYCLOPEDIA, *BOOKS),
    "positions": (*ENCYCLOPEDIA, *BOOKS),
    "overlap": (*ENCYCLOPEDIA, *BOOKS, *QUESTIONS, *DOCUMENTS),
}


TASKS = tuple(CORPORA_OF)
