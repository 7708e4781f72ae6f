"""How often gf ask --cite names the line of a planted fact, or of a cell: python -m bench.quality.cite

Held-out encyclopedia text, wrapped at 80 characters, with five facts of unseen names and phrasings planted in it; and
tables with unseen headings and names.
"""

from __future__ import annotations

import argparse
import json
from random import Random
from typing import Any

import goldfinch
from bench.places import add_record, of_embedded, write_record
from goldfinch.datasets.articles import wrap
from goldfinch.datasets.corpora import data_directory
from goldfinch.datasets.facts import FactMaker, harvest_names
from goldfinch.datasets.tables import table
from goldfinch.engine.cite import MOST_CITATIONS, cite, line_shares
from goldfinch.evaluate.facts import document_with_facts
from goldfinch.evaluate.held_out import held_out_texts
from goldfinch.evaluate.scoring import exact_match
from goldfinch.measure.conditions import conditions

RESULT = of_embedded("cite")
LINE_CHARACTERS = 80


def measure(model: Any, texts: list[str], maker: FactMaker, length: int, documents: int) -> dict[str, Any]:
    """Shares over all facts of documents of one length."""
    found = {
        "questions": 0,
        "right": 0,
        "first": 0,
        "line": 0,
        "among_first_three": 0,
        "among_three_lines": 0,
        "among_when_right": 0,
        "lines_cited": 0,
    }
    for n in range(documents):
        rng = Random(f"cite-{length}-{n}")
        prose, facts = document_with_facts(model, rng, texts, maker, length, five_digits=True)
        text = wrap(prose, LINE_CHARACTERS)
        ids, span = goldfinch.document_token_ids(model, text)
        session = goldfinch.Session(model, goldfinch.prefill(model, ids, document_range=span))
        lines = text.split("\n")
        for fact in facts:
            for question, value in fact.questions:
                place = next((i for i, line in enumerate(lines, 1) if value in line), None)
                if place is None:  # the value itself was wrapped
                    continue
                answer = session.ask(question, max_tokens=24)
                cited = cite(session, question, answer.token_ids)
                shares, _ = line_shares(session, question, answer.token_ids)
                found["among_three_lines"] += place - 1 in shares.argsort(descending=True)[:3].tolist()
                hits = [c.first_line <= place <= c.last_line for c in cited]
                right = exact_match(answer.text, [value])
                found["questions"] += 1
                found["right"] += right
                found["first"] += any(hits[:1])
                found["line"] += any(c.line == place for c in cited[:1])
                found["among_first_three"] += any(hits)
                found["among_when_right"] += any(hits) and right
                found["lines_cited"] += sum(c.last_line - c.first_line + 1 for c in cited)
    asked = found["questions"]
    return {
        "length": length,
        "documents": documents,
        "questions": asked,
        "answered_exactly": found["right"] / asked,
        "first": found["first"] / asked,
        "line": found["line"] / asked,
        "among_first_three": found["among_first_three"] / asked,
        "among_three_single_lines": found["among_three_lines"] / asked,
        "among_first_three_when_right": found["among_when_right"] / max(found["right"], 1),
        "lines_cited_per_answer": found["lines_cited"] / asked,
    }


def measure_tables(model: Any, names: list[str], rows: int, tables: int, asked: int = 10) -> dict[str, Any]:
    """Shares over cells of tables of so many rows."""
    total = right = first = line = line_when_right = 0
    for n in range(tables):
        rng = Random(f"cite-table-{rows}-{n}")
        text, pairs = table(FactMaker(names, held_out=True), rng, rows, held_out=True)
        ids, span = goldfinch.document_token_ids(model, text)
        session = goldfinch.Session(model, goldfinch.prefill(model, ids, document_range=span))
        top = len(text.splitlines()) - rows  # lines of headings
        for index in rng.sample(range(len(pairs)), min(asked, len(pairs))):
            question, value = pairs[index]
            place = top + 1 + index // (len(pairs) // rows)
            answer = session.ask(question, max_tokens=24)
            cited = cite(session, question, answer.token_ids)[:1]
            good = exact_match(answer.text, [value])
            hit = any(c.line == place for c in cited)
            total, right, line = total + 1, right + good, line + hit
            first += any(c.first_line <= place <= c.last_line for c in cited)
            line_when_right += hit and good
    shares = {"answered_exactly": right, "first": first, "line": line}
    found = {name: count / total for name, count in shares.items()}
    when_right = line_when_right / max(right, 1)
    return {"rows": rows, "tables": tables, "questions": total, **found, "line_when_right": when_right}


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--lengths", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--rows", type=int, nargs="+", default=[5, 15, 50], help="of tables")
    add_record(parser, RESULT)
    arguments = parser.parse_args()
    model = goldfinch.load_model()
    texts = held_out_texts(data_directory(arguments.data), ("corpus-wikipedia-00", "corpus-wikipedia-01"))
    names = harvest_names(texts, held_out=True)
    maker = FactMaker(names, held_out=True)
    rows, tables = [], []
    for length in arguments.lengths:
        rows.append(measure(model, texts, maker, length, arguments.documents))
        print(json.dumps(rows[-1]), flush=True)
    for count in arguments.rows:
        tables.append(measure_tables(model, names, count, arguments.documents))
        print(json.dumps(tables[-1]), flush=True)
    record = {
        "what": "lines cited for planted facts",
        "conditions": conditions(model),
        "line_characters": LINE_CHARACTERS,
        "most_citations": MOST_CITATIONS,
        "rows": rows,
        "tables": tables,
    }
    write_record(arguments.record, record)


if __name__ == "__main__":
    main()
