"""Whether a model of others writes questions that are worth training on.

    python -m bench.others.teacher MODEL -o FILE [--examples 200]     questions, to judge by hand
    python -m bench.others.teacher --judged FILE [--record]           what was found of them

For an answer in a passage that training may see, the model writes a question, shown a passage with two of them. It then
answers its question from the passage; what it answers back is kept. Someone reads the questions and puts into each
line's "judged": "fine"; "loose", where the passage answers otherwise or more than that; "wrong", where it does not; "no
question". Beside it stands the question that a person asked.

Greedy, in f32. The record holds counts alone, no text of the passages.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from bench.places import RESULTS, write_record
from goldfinch.datasets.articles import read_articles
from goldfinch.datasets.corpora import data_directory, is_for_choosing, is_held_out_document
from goldfinch.engine.sampling import Sampling
from goldfinch.evaluate.scoring import f1
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.running.batch import Row, decode_together
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.library.opening import load
from goldfinch.measure.conditions import git_commit
from goldfinch.policies.named import WHOLE
from goldfinch.text.template import PromptTemplate
from goldfinch.weights.directory import find_model

RESULT = RESULTS / "teacher.json"
EXAMPLES, TOGETHER, MOST_TOKENS = 200, 10, 24
JUDGED = ("fine", "loose", "wrong", "no question")
# Of the answer that comes back, to be kept.
LEAST_F1 = 0.5
SHOWN = (
    "Text: The harbour of Ostby was dug in 1871 by the merchant Karl Lind, who had made his money in herring. It holds "
    "forty boats.\nAnswer: Karl Lind\nQuestion: Who had the harbour of Ostby built?\n\n"
    "Text: The harbour of Ostby was dug in 1871 by the merchant Karl Lind, who had made his money in herring. It holds "
    "forty boats.\nAnswer: forty\nQuestion: How many boats fit into the harbour?\n\nText: "
)


def examples(directory: Path, count: int) -> list[dict[str, str]]:
    """Passages that training may see, each with an answer and the question that a person asked."""
    rng = Random("teacher")
    articles = read_articles(directory, lambda key: not is_held_out_document(key) and not is_for_choosing(key))
    passages = [passage for article in articles for passage in article if passage.questions]
    found = []
    for passage in rng.sample(passages, count):
        question, answer = rng.choice(passage.questions)
        found.append({"passage": passage.text, "answer": answer, "asked": question})
    return found


def answered(model: ForeignModel, template: PromptTemplate, asked: list[tuple[str, str]]) -> list[str]:
    """What the model says to (document, question) pairs behind a template."""
    engine, sampling, found = ForeignEngine(replace(model, template=template)), Sampling(max_tokens=MOST_TOKENS), []
    for start in range(0, len(asked), TOGETHER):
        rows = list[Row]()
        for document, question in asked[start : start + TOGETHER]:
            session = engine.session(engine.prefill(engine.document(document)))
            rows.append(Row.of(session, question, False, sampling, session.reader.read(question)))
        decode_together(engine.model, rows)
        found += [row.answering.answer().text.strip() for row in rows]
    return found


def write_questions(model: ForeignModel, rows: list[dict[str, Any]]) -> None:
    """Note in each row the question that the model writes, what it answers to it, and whether that is kept."""
    plain = model.config.prompts["plain"]
    writing = replace(plain, document_prefix=SHOWN, question_prefix="\nAnswer: ", question_suffix="\nQuestion:")
    questions = answered(model, writing, [(row["passage"], row["answer"]) for row in rows])
    pairs = [(row["passage"], question) for row, question in zip(rows, questions, strict=True)]
    for row, question, back in zip(rows, questions, answered(model, plain, pairs), strict=True):
        row |= {"written": question, "answered": back, "kept": f1(back, [row["answer"]]) >= LEAST_F1, "judged": ""}


def counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many were judged what, of all and of those that are kept."""
    unjudged = [n for n, row in enumerate(rows, 1) if row["judged"] not in JUDGED]
    if unjudged:
        raise SystemExit(f"line {unjudged[0]} is not judged: one of {', '.join(JUDGED)}")
    kept = [row for row in rows if row["kept"]]
    return {"examples": len(rows), "kept": len(kept)} | {
        name: {judged: Counter(row["judged"] for row in some)[judged] for judged in JUDGED}
        for name, some in (("all", rows), ("of the kept", kept))
    }


def main() -> None:
    """Write questions, or count what was judged of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="name or directory of a model of others")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE")
    parser.add_argument("--examples", type=int, default=EXAMPLES, metavar="N")
    parser.add_argument("--data", default=None)
    parser.add_argument("--judged", type=Path, metavar="FILE")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    if options.judged:
        rows = [json.loads(line) for line in options.judged.read_text().splitlines()]
        result = counted(rows)
        print(json.dumps(result, indent=1))
        if options.record:
            what = "questions that a model of others wrote for given answers, read and judged by hand"
            write_record(RESULT, {"what": what, "teacher": rows[0]["teacher"], "commit": git_commit()} | result)
        return
    if not (options.model and options.output):
        parser.error("give a model and -o FILE, or --judged FILE")
    model: Any = load(find_model(options.model), dtype="f32", layout=WHOLE)
    rows = [row | {"teacher": model.name} for row in examples(data_directory(options.data), options.examples)]
    write_questions(model, rows)
    options.output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main()
