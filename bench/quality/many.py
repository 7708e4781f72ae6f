"""One question to many documents: is the right one found, how much later is the answer, how large is the index.

    python -m bench.quality.many [--documents 1000] [--questions 400] [--record]

The documents have about 2,000 tokens: the beginnings of held-out articles, about which people have asked, among texts
of an encyclopedia. They are pre-filled into a library of their own. Each question is put to all of them. Times of an
answer from the library and of one from a single cache alternate within one run, with the model loaded, and as whole
commands. FTS5 of SQLite, fed with the same stems, stands beside.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from gfcache import Store

import goldfinch
from bench.places import of_embedded
from goldfinch.datasets.articles import read_articles
from goldfinch.datasets.corpora import data_directory, read_records
from goldfinch.evaluate.held_out import ENCYCLOPEDIA, held_out_articles
from goldfinch.library.find import Collection, Texts, members_of_library, open_words
from goldfinch.library.library import Library
from goldfinch.library.opening import open_session
from goldfinch.measure.conditions import conditions
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.base import Chosen
from goldfinch.policies.blocks import split_blocks
from goldfinch.policies.named import HYBRID, LEXICAL
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.policies.words import words_of
from goldfinch.text.documents import document_of_bytes

RECORD = of_embedded("many")
TOKENS, LEAST_TOKENS = 2000, 1200
REPEATS = 7
MOST_ANSWER = 24
# Of a document, by number, and a question about it.
Asked = tuple[int, str]


def make_documents(model: LanguageModel, directory: Path, count: int) -> tuple[list[str], list[Asked]]:
    """Texts of about TOKENS tokens, and questions about the first of them."""
    texts, asked = list[str](), list[Asked]()
    for article in read_articles(directory, held_out_articles(directory).__contains__):
        text, questions = "", list[str]()
        for passage in article:
            longer = f"{text}\n\n{passage.text}" if text else passage.text
            if len(model.tokenizer.encode(longer)) > TOKENS:
                break
            text, questions = longer, [*questions, *(question for question, _ in passage.questions)]
        if len(model.tokenizer.encode(text)) >= LEAST_TOKENS:
            asked += [(len(texts), question) for question in questions]
            texts.append(text)
    for name in ENCYCLOPEDIA:
        for record in read_records(directory / f"{name}.jsonl.zst"):
            if len(texts) == count:
                return texts, asked
            ids = model.tokenizer.encode(record["text"][: 6 * TOKENS])
            if len(ids) >= TOKENS:
                texts.append(model.tokenizer.decode(ids[:TOKENS]))
    return texts, asked


def fill(library: Library, model: LanguageModel, texts: Sequence[str]) -> None:
    """Pre-fill every text into the library."""
    for n, text in enumerate(texts):
        library.get(model, document_of_bytes(text.encode(), f"{n}.txt", Path("/documents") / f"{n}.txt"))
        if sys.stderr.isatty() and n % 20 == 0:
            print(f"\r{n}/{len(texts)}", end="", file=sys.stderr)


def opened(store: Store, *, by_likeness: bool | None = None) -> Collection:
    """The library as a question finds it."""
    entries = store.entries()
    members, _ = members_of_library(store, entries)
    return Collection(members, open_words(store, entries), Texts(), in_store=True, by_likeness=by_likeness)


def found_first(collection: Collection, asked: Sequence[Asked]) -> dict[str, Any]:
    """How often the right document comes first, and is one of three."""
    first = among = 0
    started = time.perf_counter()
    for number, question in asked:
        names = [places[0].member.name for places in islice(collection.documents(question), 3)]
        first += names[:1] == [f"/documents/{number}.txt"]
        among += f"/documents/{number}.txt" in names
    seconds = (time.perf_counter() - started) / len(asked)
    return {"first": first / len(asked), "among_three": among / len(asked), "seconds_per_question": seconds}


def with_fts5(folder: Path, texts: Sequence[str], asked: Sequence[Asked]) -> dict[str, Any]:
    """The same with FTS5: contentless, fed with our stems, all details kept, as its BM25 counts them."""
    path = folder / "fts5.sqlite3"
    connection = sqlite3.connect(path)
    tokenizer = "tokenize='unicode61 remove_diacritics 0'"
    connection.execute(f"CREATE VIRTUAL TABLE words USING fts5(stems, content='', {tokenizer})")
    owners = list[int]()
    for n, text in enumerate(texts):
        for block in split_blocks(text):
            stems = " ".join(words_of(block.text(text)))
            connection.execute("INSERT INTO words (rowid, stems) VALUES (?, ?)", (len(owners), stems))
            owners.append(n)
    connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    connection.commit()
    connection.execute("VACUUM")
    right, started = 0, time.perf_counter()
    for number, question in asked:
        wanted = " OR ".join(f'"{word}"' for word in sorted(set(words_of(question))))
        query = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT 1"
        row = connection.execute(query, (wanted,)).fetchone()
        right += row is not None and owners[row[0]] == number
    seconds = (time.perf_counter() - started) / len(asked)
    connection.close()
    return {"first": right / len(asked), "seconds_per_question": seconds, "bytes": path.stat().st_size}


def times(store: Store, model: LanguageModel, asked: Sequence[Asked]) -> dict[str, Any]:
    """Seconds of an answer from a single cache, and of one from the library, in turn, with the model loaded."""
    paths = {entry.source_name: store.path(entry) for entry in store.entries()}

    def one(number: int, question: str) -> None:
        open_session(paths[f"{number}.txt"], lambda *_: model).ask(question, max_tokens=MOST_ANSWER)

    def many(_: int, question: str) -> None:
        collection = opened(store)
        places = next(collection.documents(question))
        chosen = Chosen(HYBRID if collection.by_likeness else LEXICAL, (places[0].found,))
        open_session(places[0].member.path, lambda *_: model, read=chosen).ask(question, max_tokens=MOST_ANSWER)

    return _alternating(one, many, asked)


def command_times(store: Store, asked: Sequence[Asked]) -> dict[str, Any]:
    """The same as whole commands, each a process of its own."""
    paths = {entry.source_name: store.path(entry) for entry in store.entries()}
    environment = os.environ | {"GF_CACHE_DIR": str(store.root)}

    def ask(*arguments: str) -> None:
        command = [sys.executable, "-m", "gfcli", "ask", "-n", str(MOST_ANSWER), *arguments]
        subprocess.run(command, env=environment, capture_output=True, check=True)

    return _alternating(
        lambda number, question: ask("--cache", str(paths[f"{number}.txt"]), question),
        lambda _, question: ask("--library", question),
        asked,
    )


def _alternating(
    one: Callable[[int, str], None], many: Callable[[int, str], None], asked: Sequence[Asked]
) -> dict[str, Any]:
    rows: dict[str, list[float]] = {"one": [], "many": []}
    for n in range(REPEATS + 1):
        for name, run in (("one", one), ("many", many)):
            started = time.perf_counter()
            run(*asked[n % len(asked)])
            if n:  # the first is a warm-up
                rows[name].append(time.perf_counter() - started)
    later = [b - a for a, b in zip(rows["one"], rows["many"], strict=True)]
    found = {name: {"median": statistics.median(s), "min": min(s), "max": max(s)} for name, s in rows.items()}
    return found | {"later": statistics.median(later), "ratio": found["many"]["median"] / found["one"]["median"]}


def measure(model: LanguageModel, directory: Path, count: int, most_questions: int, root: Path) -> dict[str, Any]:
    """The record, without its head."""
    texts, asked = make_documents(model, directory, count)
    Random(0).shuffle(asked)
    asked = asked[:most_questions]
    store = Store(root / "cache")
    with Library(store) as library:
        started = time.perf_counter()
        fill(library, model, texts)
        filled_s = time.perf_counter() - started
        index = store.words(None).path
        index_bytes, text_bytes = index.stat().st_size, sum(len(text.encode()) for text in texts)
        row: dict[str, Any] = {
            "documents": len(texts),
            "questions": len(asked),
            "articles": len({number for number, _ in asked}),
            "text_bytes": text_bytes,
            "index_bytes": index_bytes,
            "index_share": index_bytes / text_bytes,
            "prefill_s": filled_s,
        }
        index.unlink()
        started = time.perf_counter()
        opened(store)
        row["index_rebuild_s"] = time.perf_counter() - started
        started = time.perf_counter()
        opened(store)
        row["index_open_s"] = time.perf_counter() - started
        row[LEXICAL] = found_first(opened(store, by_likeness=False), asked)
        if vectors_at_hand():
            row[HYBRID] = found_first(opened(store, by_likeness=True), asked)
        row["fts5"] = with_fts5(root, texts, asked)
        row["fts5"]["share"] = row["fts5"]["bytes"] / text_bytes
        row["answer_s"] = times(store, model, asked)
        row["command_s"] = command_times(store, asked)
    return row


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=None)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    arguments = parser.parse_args()
    model = goldfinch.load_model()
    with tempfile.TemporaryDirectory(prefix="gf-many-") as folder:
        os.environ["XDG_DATA_HOME"] = folder  # what is known of these caches is of no use afterwards
        row = measure(model, data_directory(arguments.data), arguments.documents, arguments.questions, Path(folder))
    text = json.dumps({"what": "one question to many documents", "conditions": conditions(model), **row}, indent=2)
    print(text)
    if arguments.record:
        RECORD.write_text(text + "\n")


if __name__ == "__main__":
    main()
