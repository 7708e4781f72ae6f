"""Questions about documents of several pages: held-out articles cut at different lengths, and whole real documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from random import Random
from typing import Any

from goldfinch.datasets.articles import Passage, read_articles
from goldfinch.datasets.corpora import HINT, record_of
from goldfinch.errors import CorpusDamaged, CorpusMissing
from goldfinch.text.inputs import MOST_DOCUMENT_BYTES, MOST_LIST_BYTES, read_named

from .asking import Reader
from .held_out import held_out_articles
from .prose import HasTokenizer
from .questions import Tally, copied_sentence

SAMPLE_QUESTIONS = "questions.jsonl"
LENGTHS = (500, 1000, 2000, 4000, 8000)


def evaluate_articles(
    reader: Reader,
    directory: Path,
    *,
    lengths: Sequence[int] = LENGTHS,
    per_article: int = 25,
    seed: int = 0,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """The first pages of articles that training never saw, and questions from all of their paragraphs.

    Args:
        lengths: maximum tokens of a document; a shorter article is skipped at that length.
        per_article: most questions about one document.

    Returns:
        per length: documents, questions, exact and f1, exact_copying and f1_copying (the sentence that shares most
        words with the question).
    """
    kept = held_out_articles(directory)
    articles, rows = read_articles(directory, kept.__contains__), []
    for length in lengths:
        found, copying, documents = Tally(), Tally(), 0
        for n, article in enumerate(articles):
            text, questions = first_pages(reader.model, article, length)
            if not questions:
                continue
            rng = Random(f"articles-{seed}-{length}-{n}")
            asked = rng.sample(questions, min(per_article, len(questions)))
            answers = reader.answers_to(text, [question for question, _ in asked])
            for answer, (question, reference) in zip(answers, asked, strict=True):
                found.add(answer, [reference])
                copying.add(copied_sentence(text, question), [reference])
            documents += 1
        if documents:
            row = {"length": length, "documents": documents, "questions": found.questions}
            rows.append({**row, **found.shares(), **copying.shares("_copying")})
            report(rows[-1])
    return rows


def first_pages(model: HasTokenizer, article: Sequence[Passage], length: int) -> tuple[str, list[tuple[str, str]]]:
    """Paragraphs up to `length` tokens and their questions; nothing when the article has fewer tokens."""
    text = ""
    questions: list[tuple[str, str]] = []
    for passage in article:
        longer = f"{text}\n\n{passage.text}" if text else passage.text
        if len(model.tokenizer.encode(longer)) > length:
            return text, questions
        text, questions = longer, [*questions, *passage.questions]
    return "", []


def sample_files(folder: Path) -> list[Path]:
    """What `evaluate_samples` reads of a folder: the questions, and, where they are, the documents that they name."""
    questions = folder / SAMPLE_QUESTIONS
    names = dict.fromkeys(row["file"] for row in rows_of(folder)) if questions.exists() else ()
    return [questions, *(folder / name for name in names)]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The questions about the documents of a folder, each with its file and its answers.

    Raises:
        CorpusDamaged: a line is no question, or names no file of the folder.
    """
    path = folder / SAMPLE_QUESTIONS
    rows = []
    for number, line in enumerate(read_named(path, MOST_LIST_BYTES).splitlines(), 1):
        row = record_of(line, f"{path}: line {number:,}")
        if not is_below(row["file"]):
            raise CorpusDamaged(
                f"{path}: line {number:,}: 'file' is {row['file']!r:.80}, expected a file of its folder"
            )
        rows.append(row)
    return rows


def is_below(name: str) -> bool:
    """Whether a relative path, as it is written, does not lead out of its folder."""
    parts = PurePath(name).parts
    return bool(parts) and not PurePath(name).is_absolute() and ".." not in parts and "\0" not in name


def text_in(folder: Path, name: str) -> str:
    """A document of a folder.

    Raises:
        CorpusMissing, CorpusDamaged: it is not there, leads out of the folder, or is no text.
        InputRefused: a device, or larger than a document may be.
    """
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise CorpusDamaged(f"{path} is a link that leads out of {folder}", hint=HINT)
        return read_named(path, MOST_DOCUMENT_BYTES).decode()
    except FileNotFoundError as error:
        raise CorpusMissing(f"{path}: no such document", hint=HINT) from error
    except UnicodeDecodeError as error:
        raise CorpusDamaged(f"{path}: not UTF-8, at byte {error.start}", hint=HINT) from error


def evaluate_samples(reader: Reader, folder: Path) -> list[dict[str, Any]]:
    """Whole real documents, thousands of tokens long, and checked questions about them.

    Args:
        folder: holds the documents and questions.jsonl: file, question, answers.

    Returns:
        per document its name, tokens, questions, exact and f1.
    """
    asked: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for row in rows_of(folder):
        asked[row["file"]].append((row["question"], row["answers"]))
    rows = []
    for name, pairs in asked.items():
        text, found = text_in(folder, name), Tally()
        answers = reader.answers_to(text, [question for question, _ in pairs])
        for answer, (_, references) in zip(answers, pairs, strict=True):
            found.add(answer, references)
        tokens = len(reader.model.tokenizer.encode(text))
        rows.append({"document": name, "tokens": tokens, "questions": found.questions, **found.shares()})
    return rows
