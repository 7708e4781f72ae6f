"""Which answers are right, and when to say "Not stated.": fitted and recorded.

    python -m bench.quality.confidence [-m MODEL] [--policies hybrid,lexical,all] [--questions 14] [--record]

Questions about the first pages of articles that training never saw, two thirds of them answered there, are put to the
block that each policy reads, chosen among several where gf chooses so (bench.quality.choice: run it before). From its
finding score and the likelihood of the answer:

- the probability that the answer is right (`confidence` of gf ask --json), per policy, its AUC measured on articles
  that the fit has not seen;
- recall and precision of "Not stated." when less likely answers than a threshold are replaced by it, and the highest
  threshold that loses no right answer and is no worse in both than reading everything, which gf then follows.

--record writes bench/results/confidence-MODEL.json, and what gf reads of it into goldfinch/policies/records/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import goldfinch
from bench.places import RESULTS
from goldfinch.datasets.articles import read_articles
from goldfinch.datasets.corpora import data_directory
from goldfinch.datasets.facts import NOT_STATED
from goldfinch.engine.session import Session
from goldfinch.evaluate.calibrating import Answered, calibrated
from goldfinch.evaluate.held_out import held_out_articles
from goldfinch.evaluate.questions import held_out_questions, unanswered
from goldfinch.evaluate.scoring import exact_match
from goldfinch.measure.conditions import conditions
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.measured import RECORDS
from goldfinch.policies.named import ALL, AUTO
from goldfinch.text.prompt import document_token_ids

LENGTHS = (1000, 4000)
ANSWER_TOKENS = 24
THRESHOLDS = tuple(n / 20 for n in range(20))
Row = dict[str, Any]


def collect(model: LanguageModel, directory: Path, policies: Sequence[str], per_document: int) -> list[Row]:
    """Every question with the answer of each policy."""
    rows: list[Row] = []
    questions = held_out_questions(directory)
    articles = read_articles(directory, held_out_articles(directory).__contains__)
    for length in LENGTHS:
        for n, article in enumerate(articles):
            text, asked, passages = "", list[tuple[str, str | None]](), list[str]()
            for passage in article:
                longer = f"{text}\n\n{passage.text}" if text else passage.text
                if len(model.tokenizer.encode(longer)) > length:
                    break
                text = longer
                passages.append(passage.text)
                asked += [(question, answer) for question, answer in passage.questions]
            else:
                continue  # a shorter article
            asked += [(question, None) for question in unanswered(passages, *questions)]
            chosen = _mixed(Random(f"confidence-{length}-{n}"), asked, per_document)
            for row in _answers(model, text, chosen, policies):
                rows.append({"article": str(n), "length": length} | row)
            print(f"{length} tokens, article {n}: {len(rows)} questions", file=sys.stderr)
    return rows


def _mixed(rng: Random, asked: list[tuple[str, str | None]], count: int) -> list[tuple[str, str | None]]:
    """At most `count` questions, a third of them without an answer where there are enough."""
    absent = [pair for pair in asked if pair[1] is None]
    stated = [pair for pair in asked if pair[1] is not None]
    absent = rng.sample(absent, min(count // 3, len(absent)))
    return absent + rng.sample(stated, min(count - count // 3, len(stated)))


def _answers(
    model: LanguageModel, text: str, asked: Sequence[tuple[str, str | None]], policies: Sequence[str]
) -> list[Row]:
    ids, span = document_token_ids(model, text)
    cache = goldfinch.prefill(model, ids, document_range=span)
    followed = Session(model, cache).reader
    sessions = {
        policy: Session(model, cache, read=AUTO if policy == followed.policy else policy) for policy in policies
    }
    rows = []
    for question, answer in asked:
        row: Row = {"absent": answer is None, "answers": {}}
        references = [NOT_STATED if answer is None else answer]
        for policy, session in sessions.items():
            one = session.ask(question, max_tokens=ANSWER_TOKENS, least_likelihood=0.0)
            row["answers"][policy] = {
                "score": one.usage.reading.score if one.usage.reading else 0.0,
                "likelihood": one.usage.likelihood,
                "exact": exact_match(one.text, references),
                "not_stated": one.text == NOT_STATED,
            }
        rows.append(row)
    return rows


def trade_off(rows: Sequence[Row], policy: str) -> list[Row]:
    """What is answered when less likely answers than a threshold become "Not stated."."""
    found = []
    for threshold in THRESHOLDS:
        said_right = said = right = 0
        for row in rows:
            answer = row["answers"][policy]
            says = answer["not_stated"] or answer["likelihood"] < threshold
            said += says
            said_right += says and row["absent"]
            right += answer["exact"] and not says and not row["absent"]
        absent = sum(row["absent"] for row in rows)
        shares = {"recall": said_right / absent, "precision": said_right / said if said else None}
        found.append({"least_likelihood": threshold, **shares, "exact": right / (len(rows) - absent)})
    return found


def least_likelihood(found: Row, policy: str) -> float:
    """The highest threshold that loses no right answer and that makes "Not stated." no worse than with "all"; else 0.

    Args:
        found: the figures of the record, `policy` and "all" among them.
    """
    first, whole = found[policy]["not_stated"][0], found[ALL]["not_stated"][0]
    fitting = [
        row["least_likelihood"]
        for row in found[policy]["not_stated"]
        if row["exact"] >= first["exact"]
        and row["recall"] >= whole["recall"]
        and (row["precision"] or 0.0) >= (whole["precision"] or 0.0)
    ]
    return max(fitting, default=0.0)


def measured(rows: Sequence[Row], policies: Sequence[str]) -> Row:
    """The figures of the record."""
    found: Row = {"questions": len(rows), "absent_questions": sum(row["absent"] for row in rows)}
    found["articles"], found["lengths"] = len({row["article"] for row in rows}), list(LENGTHS)
    for policy in policies:
        firsts = [(row, row["answers"][policy]) for row in rows]
        answered = [Answered(row["article"], a["score"], a["likelihood"], a["exact"]) for row, a in firsts]
        found[policy] = {"confidence": asdict(calibrated(answered)), "not_stated": trade_off(rows, policy)}
        found[policy]["right"] = statistics.mean(a.right for a in answered)
    if ALL in policies:
        for policy in policies:  # what reads everything is the measure of the others, and answers as it always did
            found[policy]["least_likelihood"] = 0.0 if policy == ALL else least_likelihood(found, policy)
    return found


def ship(model: LanguageModel, found: Row, policies: Sequence[str], name: str) -> None:
    """Put what gf reads of it into the model's record."""
    assert model.card is not None
    path = RECORDS / f"{model.card.model_fingerprint}.json"
    record = json.loads(path.read_text()) if path.exists() else {"model": model.card.name, "rows": []}
    record["confidence"] = {policy: found[policy]["confidence"] for policy in policies}
    record["least_likelihood"] = {policy: found[policy].get("least_likelihood", 0.0) for policy in policies}
    record["confidence_record"] = f"bench/results/{name}"
    path.write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    """Measure, print, and write the records where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default=None)
    parser.add_argument("--data", default=None)
    parser.add_argument("--policies", default="hybrid,lexical,all")
    parser.add_argument("--questions", type=int, default=24, help="questions per document, a third without an answer")
    parser.add_argument("--record", action="store_true", help="write the records")
    arguments = parser.parse_args()
    model = goldfinch.load_model(arguments.model) if arguments.model else goldfinch.load_model()
    policies = arguments.policies.split(",")
    head = {"what": "confidence, not stated", "conditions": conditions(model)}
    rows = collect(model, data_directory(arguments.data), policies, arguments.questions)
    found = head | measured(rows, policies)
    print(json.dumps(found, indent=2))
    if arguments.record:
        name = f"confidence-{model.card.name}.json"
        (RESULTS / name).write_text(json.dumps(found, indent=2) + "\n")
        ship(model, found, policies, name)


if __name__ == "__main__":
    main()
