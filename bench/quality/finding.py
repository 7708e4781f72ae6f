"""How the blocks of a document should be cut and compared: two measurements that the constants of policies/ rest on.

    python -m bench.quality.finding sizes [-m MODEL] [--characters 2000,16000] [--documents 40] [--record]
    python -m bench.quality.finding compared [--documents 6] [--tokens 40000] [--record]

"sizes" asks documents of at most so many characters, made of neighbouring passages of held-out articles, with blocks of
several least and most sizes: F1 and exact answers, and "Not stated." where nothing there answers. "compared" looks for
the passages of held-out articles in documents of many blocks: how often the first block is of the right passage
when the meaning of the best N by words is compared, and the CPU time of a first question, index included.
--record writes bench/results/finding-WHAT.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import goldfinch
from bench.places import RESULTS
from goldfinch.datasets.articles import Passage, read_articles
from goldfinch.datasets.corpora import data_directory, read_records
from goldfinch.datasets.facts import NOT_STATED
from goldfinch.engine.batch_decode import ask_many
from goldfinch.engine.session import Session
from goldfinch.evaluate.held_out import ENCYCLOPEDIA, held_out_articles
from goldfinch.evaluate.questions import held_out_questions, unanswered
from goldfinch.evaluate.scoring import exact_match, f1
from goldfinch.measure.conditions import conditions
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies import base, blocks
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.named import ALL, HYBRID, LEXICAL
from goldfinch.text.prompt import document_token_ids

# (least, most) characters of blocks; the first are what the others are compared with.
SIZES = ((500, 1200), (300, 700), (200, 450), (100, 300), (50, 200))
PER_DOCUMENT = 8
ANSWER_TOKENS = 24
# Blocks whose meaning is compared.
COMPARED = (16, 32, 48, 64, 96, 1 << 20)
# Questions per long document, and of them those whose time is taken.
PER_LONG, TIMED = 60, 12


@dataclass(frozen=True)
class Document:
    """A document with its questions; those without references are not answered there."""

    text: str
    asked: tuple[tuple[str, str | None], ...]


def documents_of(
    directory: Path,
    characters: int,
    count: int,
    wanted: Callable[[str], bool] | None = None,
    questions: int = PER_DOCUMENT,
) -> list[Document]:
    """Neighbouring passages of articles, as many as fit, and at least half as much.

    Args:
        wanted: whether an article is, by its doc_id; None for those that training never reads.
        questions: that are answered, per document; and half as many that are not.
    """
    wanted = held_out_articles(directory).__contains__ if wanted is None else wanted
    known = held_out_questions(directory, wanted)
    found: list[Document] = []
    for article in read_articles(directory, wanted):
        together: list[Passage] = []
        for passage in [*article, None]:
            length = sum(len(p.text) + 2 for p in together)
            if passage is not None and length + len(passage.text) < characters:
                together.append(passage)
                continue
            if length >= characters / 2:
                found.append(_document(together, known, len(found), questions))
            together = [] if passage is None else [passage]
    return Random(0).sample(found, min(count, len(found)))


def _document(passages: Sequence[Passage], known: Any, n: int, questions: int) -> Document:
    stated = [pair for passage in passages for pair in passage.questions]
    absent = [(question, None) for question in unanswered([passage.text for passage in passages], *known)]
    rng = Random(f"sizes-{n}")
    chosen = rng.sample(stated, min(questions, len(stated)))
    chosen_absent = rng.sample(absent, min(questions // 2, len(absent)))
    return Document("\n\n".join(passage.text for passage in passages), (*chosen, *chosen_absent))


def measure_sizes(model: LanguageModel, documents: Sequence[Document]) -> list[dict[str, Any]]:
    """One row per policy and size of blocks."""
    scores: dict[tuple[str, int, int], list[tuple[float, bool, bool, bool]]] = {}
    for n, document in enumerate(documents):
        ids, span = document_token_ids(model, document.text)
        cache = goldfinch.prefill(model, ids, document_range=span)
        questions = [question for question, _ in document.asked]
        for policy, sizes in ((ALL, SIZES[:1]), (LEXICAL, SIZES), (HYBRID, SIZES)):
            for least, most in sizes:
                with patch.multiple(blocks, LEAST=least, MOST=most):
                    answers = ask_many(
                        Session(model, replace(cache, index=None), read=policy),
                        questions,
                        max_tokens=ANSWER_TOKENS,
                        least_likelihood=0.0,
                    )
                row = scores.setdefault((policy, least, most), [])
                for (_, reference), answer in zip(document.asked, answers, strict=True):
                    expected = [NOT_STATED if reference is None else reference]
                    said = answer.text == NOT_STATED
                    row.append((f1(answer.text, expected), exact_match(answer.text, expected), said, reference is None))
        if n % 10 == 9:
            print(f"{n + 1} of {len(documents)} documents", file=sys.stderr)
    return [_row(*key, found, scores[LEXICAL if key[0] == ALL else key[0], *SIZES[0]]) for key, found in scores.items()]


def _row(policy: str, least: int, most: int, found: Sequence[Any], as_is: Sequence[Any]) -> dict[str, Any]:
    stated = [row for row in found if not row[3]]
    gains = [a[0] - b[0] for a, b in zip(found, as_is, strict=True) if not a[3]]
    said = sum(row[2] for row in found)
    absent = [row for row in found if row[3]]
    return {
        "policy": policy,
        "least": None if policy == ALL else least,
        "most": None if policy == ALL else most,
        "questions": len(stated),
        "f1": statistics.mean(row[0] for row in stated),
        "exact": statistics.mean(row[1] for row in stated),
        "gain": statistics.mean(gains),
        "standard_error": statistics.stdev(gains) / len(gains) ** 0.5,
        "absent_questions": len(absent),
        "recall": statistics.mean(row[2] for row in absent) if absent else None,
        "precision": sum(row[2] for row in absent) / said if said else None,
    }


def long_documents(model: LanguageModel, directory: Path, count: int, tokens: int) -> Iterator[tuple[str, list[Any]]]:
    """Documents of a held-out article and other articles behind it; with (question, its passage's place)."""
    others = (record["text"] for name in ENCYCLOPEDIA for record in read_records(directory / f"{name}.jsonl.zst"))
    articles = read_articles(directory, held_out_articles(directory).__contains__)
    for n, article in enumerate(articles[:count]):
        parts, asked, at = list[str](), list[Any](), 0
        for passage in article:
            asked += [(question, at, at + len(passage.text)) for question, _ in passage.questions]
            parts.append(passage.text)
            at += len(passage.text) + 2
        while at < 4 * tokens:
            parts.append(next(others))
            at += len(parts[-1]) + 2
        yield "\n\n".join(parts), Random(f"long-{n}").sample(asked, min(PER_LONG, len(asked)))


def measure_compared(model: LanguageModel, directory: Path, count: int, tokens: int) -> list[dict[str, Any]]:
    """One row per number of blocks whose meaning is compared, and one for words alone."""
    right: dict[int, list[bool]] = {n: [] for n in (0, *COMPARED)}
    times: dict[int, list[float]] = {n: [] for n in (0, *COMPARED)}
    sizes, tokenizer = list[int](), model.tokenizer
    for text, asked in long_documents(model, directory, count, tokens):
        ids = tokenizer.encode(text)
        whole = blocks.map_tokens(tokenizer, ids)
        parts, index = blocks.split_blocks(whole.text), DocumentIndex(tokenizer, ids)
        packed = index.packed()
        sizes.append(len(parts))
        for n, (question, start, end) in enumerate(asked):
            for most in right:
                with patch.object(base, "MOST_COMPARED", most):
                    fresh = DocumentIndex(tokenizer, ids, packed) if n < TIMED else index
                    started = time.process_time()
                    best = base.best_blocks(HYBRID if most else LEXICAL, fresh, question, 1)[0].block
                    if n < TIMED:
                        times[most].append(time.process_time() - started)
                right[most].append(parts[best].start < end and start < parts[best].end)
        print(f"document of {len(ids)} tokens, {len(parts)} blocks", file=sys.stderr)
    return [
        {
            "compared": "words alone" if not most else "all" if most == COMPARED[-1] else most,
            "first": statistics.mean(right[most]),
            "questions": len(right[most]),
            "cpu_s": statistics.median(times[most]),
            "blocks": sizes,
        }
        for most in right
    ]


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sizes", "compared"))
    parser.add_argument("-m", "--model", default=None)
    parser.add_argument("--data", default=None)
    parser.add_argument("--characters", default="2000,16000", type=lambda t: [int(n) for n in t.split(",")])
    parser.add_argument("--documents", type=int, default=None)
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--record", action="store_true", help="write the record")
    arguments = parser.parse_args()
    model = goldfinch.load_model(arguments.model) if arguments.model else goldfinch.load_model()
    directory = data_directory(arguments.data)
    head = {"what": f"finding: {arguments.what}", "conditions": conditions(model)}
    if arguments.what == "sizes":
        rows = []
        for characters in arguments.characters:
            documents = documents_of(directory, characters, arguments.documents or 40)
            found = measure_sizes(model, documents)
            rows += [{"characters": characters, "documents": len(documents)} | row for row in found]
    else:
        rows = measure_compared(model, directory, arguments.documents or 6, arguments.tokens)
    text = json.dumps(head | {"rows": rows}, indent=2)
    print(text)
    if arguments.record:
        (RESULTS / f"finding-{arguments.what}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
