"""Of the best few blocks, which one to answer from: what a model says of each before it answers, weighed and recorded.

    python -m bench.quality.choice [-m MODEL] [--documents 40] [--record]

The finding puts the right block first in some five of six questions, and among the best four in nearly all. A model
can be asked about each: before the first token of its answer it says how likely "Not stated." is, how well its
pointer's best row goes on, and how much it would copy (`policies.measured.Evidence`). The weights are fitted, as a
conditional logit (McFadden 1974), to whether a block holds the answer, on articles that neither training nor the
evaluation sees and on made documents of kinds that training knows. They are tried on held-out articles cut at two
lengths, on ordinary and on whole documents: the first block, the chosen one, two read together, and the best that any
choice could do.

--record writes bench/results/choice-MODEL.json, and, where it gains, what gf follows into goldfinch/policies/records/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import goldfinch
from bench.places import RESULTS
from bench.quality.finding import Document, documents_of
from goldfinch.datasets.corpora import data_directory, is_for_choosing, is_held_out_document, read_records
from goldfinch.datasets.facts import NOT_STATED, FactMaker, harvest_names
from goldfinch.datasets.kinds import HELD_OUT_KINDS, KINDS
from goldfinch.engine.reading import Reading
from goldfinch.engine.session import Session
from goldfinch.evaluate.calibrating import Watched, fitted_choice, with_margin
from goldfinch.evaluate.documents import rows_of, text_in
from goldfinch.evaluate.scoring import exact_match, f1, names_one
from goldfinch.measure.conditions import conditions
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.base import Chosen
from goldfinch.policies.measured import RECORDS, Choice, Evidence
from goldfinch.policies.named import HYBRID
from goldfinch.text.prompt import document_token_ids

CANDIDATES = 4
CHARACTERS = (4000, 16000)
# Questions per document that is fitted to.
ASKED = 24
ANSWER_TOKENS = 24
# A choice is followed where it gains at least so many standard errors on held-out articles.
LEAST_GAIN = 2.0
Row = dict[str, Any]


def watched(model: LanguageModel, documents: Iterable[Document]) -> list[Watched]:
    """Every question with the evidence of its best blocks, and whether each holds the answer; nothing is decoded."""
    rows: list[Watched] = []
    for document in documents:
        session = opened(model, document.text, candidates=CANDIDATES)
        for question, answer in document.asked:
            readings = session.reader.readings(question)
            if len(readings) < 2:
                continue
            texts = [session.reader.index.text(reading.found[0].block).lower() for reading in readings]
            holds = [answer is not None and answer.lower() in text for text in texts]
            rows.append(Watched(evidence_of(session, question, readings), tuple(holds), answer is None))
    return rows


def evidence_of(session: Session, question: str, readings: Sequence[Reading]) -> tuple[Evidence, ...]:
    """What the model says of each of several blocks."""
    return tuple(evidence for _, evidence in session.weighed(session.question_token_ids(question), readings))


def opened(model: LanguageModel, text: str, **reading: Any) -> Session:
    """A session on a text."""
    ids, span = document_token_ids(model, text)
    return Session(model, goldfinch.prefill(model, ids, document_range=span), read=HYBRID, **reading)


def kind_documents(directory: Path, count: int) -> list[Document]:
    """Two documents of kinds that training knows behind each other, with questions, some of them unanswered."""
    texts = [r["text"] for r in read_records(directory / "corpus-wikipedia-00.jsonl.zst")][:400]
    names, kinds = harvest_names(texts, held_out=False), [kind for kind in KINDS if kind not in HELD_OUT_KINDS]
    found = []
    for n in range(count):
        rng, maker = Random(f"choice-{n}"), FactMaker(names)
        parts = [KINDS[kind](rng, maker) for kind in rng.sample(kinds, 2)]
        text = "\n\n".join(text for text, _ in parts)
        asked = [pair for _, pairs in parts for pair in pairs]
        known = {question for question, _ in asked}
        others = [pair for kind in kinds for pair in KINDS[kind](rng, maker)[1]]
        absent = [question for question, value in others if question not in known and value not in text]
        chosen = rng.sample([(q, v) for q, v in asked if v != NOT_STATED], min(8, len(asked) // 2))
        asked_absent = [(question, None) for question in rng.sample(absent, min(3, len(absent)))]
        found.append(Document(text, (*chosen, *asked_absent)))
    return found


def tried(model: LanguageModel, documents: Sequence[tuple[str, list[Row]]], choice: Choice, right: Right) -> Row:
    """What the first block, the chosen one and two together answer, and the best of all answers.

    Args:
        documents: texts, and of each questions and their accepted answers.
        right: how an answer is scored.
    """
    found: list[Row] = []
    for text, asked in documents:
        session = opened(model, text, candidates=CANDIDATES)
        together = Session(model, session.cache, read=HYBRID, read_blocks=2)
        for row in asked:
            question, expected = row["question"], row["answers"] or [NOT_STATED]
            readings = session.reader.readings(question)
            best = choice.best(evidence_of(session, question, readings)) if len(readings) > 1 else 0

            def answer(reading: Reading, question: str = question, session: Session = session) -> str:
                read = Chosen(HYBRID, reading.found) if reading.found else "all"
                return Session(model, session.cache, read=read).ask(question, max_tokens=ANSWER_TOKENS).text

            first = answer(readings[0])
            answers = {"first": first, "chosen": answer(readings[best]) if best else first}
            answers["two"] = together.ask(question, max_tokens=ANSWER_TOKENS).text
            one: Row = {"absent": not row["answers"], "moved": best > 0}
            for name, words in answers.items():
                one[name], one[f"{name}_silent"] = right(words, expected), words == NOT_STATED
            one["perfect"] = max(one["first"], one["chosen"])
            for reading in readings[1:] if row["answers"] else ():
                if one["perfect"] < 1:
                    one["perfect"] = max(one["perfect"], right(answer(reading), expected))
            found.append(one)
    return summed(found)


def summed(found: Sequence[Row]) -> Row:
    """Means over the answered questions, the gain of choosing with its standard error, and "Not stated."."""
    stated, absent = [row for row in found if not row["absent"]], [row for row in found if row["absent"]]
    gains = [row["chosen"] - row["first"] for row in stated]
    means = {name: statistics.mean(row[name] for row in stated) for name in ("first", "chosen", "two", "perfect")}
    shares = {}
    for name in ("first", "chosen", "two"):
        said, rightly = (sum(row[f"{name}_silent"] for row in rows) for rows in (found, absent))
        shares[name] = {"recall": rightly / max(len(absent), 1), "precision": rightly / said if said else None}
    return {
        "questions": len(stated),
        "moved": sum(row["moved"] for row in found),
        **means,
        "gain": statistics.mean(gains),
        "standard_error": statistics.stdev(gains) / len(gains) ** 0.5,
        "absent_questions": len(absent),
        "not_stated": shares,
    }


Right = Callable[[str, Sequence[str]], float]


def named(answer: str, references: Sequence[str]) -> float:
    """Whether an answer names an accepted form, as the evaluation of ordinary documents has it."""
    return float(answer == NOT_STATED if list(references) == [NOT_STATED] else names_one(answer, references))


def of_folder(folder: Path) -> list[tuple[str, list[Row]]]:
    """Documents of a folder with their questions."""
    asked: dict[str, list[Row]] = {}
    for row in rows_of(folder):
        asked.setdefault(row["file"], []).append(row)
    return [(text_in(folder, name), rows) for name, rows in asked.items()]


def ship(model: LanguageModel, choice: Choice, name: str, *, used: bool) -> None:
    """Put what gf follows into the model's record."""
    assert model.card is not None
    path = RECORDS / f"{model.card.model_fingerprint}.json"
    record = json.loads(path.read_text()) if path.exists() else {"model": model.card.name, "rows": []}
    for row in record["rows"]:
        row.pop("likelihood_weight", None)
        row.pop("choice", None)
        row["candidates"] = 1
        if used and row["policy"] == HYBRID and row["blocks"] == 1:
            row |= {"candidates": CANDIDATES, "choice": asdict(choice)}
    record["choice_record"] = f"bench/results/{name}"
    path.write_text(json.dumps(record, indent=2) + "\n")


def measure(model: LanguageModel, directory: Path, count: int) -> tuple[Choice, Row]:
    """The choice, and the record without its head; fitted to and tried on `count` documents of each length at most."""

    def kept(key: str) -> bool:
        return is_for_choosing(key) and not is_held_out_document(key)

    rows: list[Watched] = []
    for characters in CHARACTERS:
        rows += watched(model, documents_of(directory, characters, count, kept, ASKED))
        print(f"{characters} characters: {len(rows)} questions to fit to", file=sys.stderr, flush=True)
    rows += watched(model, kind_documents(directory, count))
    choice, margins = with_margin(fitted_choice(rows), rows)
    record: Row = {
        "candidates": CANDIDATES,
        "fitted_to": {"questions": sum(not row.absent for row in rows), "absent": sum(row.absent for row in rows)},
        "choice": asdict(choice),
        "margins": [asdict(margin) for margin in margins],
    }
    print(record, file=sys.stderr, flush=True)
    for characters in CHARACTERS:
        documents = documents_of(directory, characters, count)
        asked = [
            (d.text, [{"question": q, "answers": [] if a is None else [a]} for q, a in d.asked]) for d in documents
        ]
        record[f"articles_{characters}"] = tried(model, asked, choice, f1)
        print(characters, record[f"articles_{characters}"], file=sys.stderr, flush=True)
    record["ordinary"] = tried(model, of_folder(directory / "ordinary"), choice, named)
    record["samples"] = tried(model, of_folder(directory / "samples"), choice, lambda a, r: float(exact_match(a, r)))
    return choice, record


def main() -> None:
    """Fit, try, print, and write the records where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default=None)
    parser.add_argument("--data", default=None)
    parser.add_argument("--documents", type=int, default=40, help="documents of each length")
    parser.add_argument("--record", action="store_true", help="write the records")
    arguments = parser.parse_args()
    model = goldfinch.load_model(arguments.model) if arguments.model else goldfinch.load_model()
    head = {"what": "which of several blocks to answer from", "conditions": conditions(model)}
    choice, record = measure(model, data_directory(arguments.data), arguments.documents)
    articles = [record[f"articles_{characters}"] for characters in CHARACTERS]
    record["used"] = all(row["gain"] >= 0 for row in articles) and any(
        row["gain"] >= LEAST_GAIN * row["standard_error"] > 0 for row in articles
    )
    print(json.dumps(head | record, indent=2))
    if arguments.record:
        name = f"choice-{model.card.name}.json"
        (RESULTS / name).write_text(json.dumps(head | record, indent=2) + "\n")
        ship(model, choice, name, used=record["used"])


if __name__ == "__main__":
    main()
