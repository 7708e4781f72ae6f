"""Answers from documents in blocks beside those of the model itself: python -m bench.quality.blocks MODEL [--record]

Each document is pre-filled in blocks, saved and opened again. Each question is answered from the file, and by the
library's own `generate` on prompt, block and question in one row of tokens, without gf: the greedy text has to be
equal, and the logits of every token. Documents: the ordinary ones of GF_DATA_DIR, and the text that comes with gf.
--documents measures some of them; with --record their rows take the place of those in the record.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.places import RESULTS, add_record, write_record
from goldfinch.datasets.corpora import data_directory
from goldfinch.evaluate.documents import rows_of, text_in
from goldfinch.evaluate.policies import TEXT
from goldfinch.evaluate.scoring import names_one
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.foreign.running.session import ForeignSession
from goldfinch.library.opening import engine_of, load
from goldfinch.measure.conditions import git_commit, processor
from goldfinch.policies.named import BLOCKS, LEXICAL
from goldfinch.weights.directory import find_model

RESULT = RESULTS / "blocks-answers.json"
SHIPPED = "constitution.txt"
# 100 in all, with those of the ordinary documents.
SHIPPED_QUESTIONS = 34
MOST_TOKENS = 12
# A logit of one pass and of several differs by rounding: at most this much in f32.
MOST_DIFFERENCE = 1e-4

Asked = list[tuple[str, list[str]]]


def documents(folder: Path) -> dict[str, tuple[str, Asked]]:
    """Text and questions with their answers (none: not stated) by name."""
    asked: dict[str, Asked] = defaultdict(list)
    for row in rows_of(folder):
        asked[row["file"]].append((row["question"], row["answers"]))
    found = {name: (text_in(folder, name), rows) for name, rows in asked.items()}
    rows = json.loads((TEXT / "questions.json").read_text(encoding="utf-8"))[:SHIPPED_QUESTIONS]
    text = (TEXT / SHIPPED).read_text(encoding="utf-8")
    return found | {SHIPPED: (text, [(row["question"], [row["answer"]]) for row in rows])}


def itself(engine: ForeignEngine, token_ids: Sequence[int], tokens: int) -> tuple[list[int], torch.Tensor]:
    """Token ids that the library generates behind others, without those that end an answer, and the logits of each."""
    model = engine.model
    out = model.network.generate(
        torch.tensor([list(token_ids)]), do_sample=False, max_new_tokens=tokens, pad_token_id=0, output_logits=True,
        return_dict_in_generate=True, eos_token_id=list(model.stop_token_ids) or None,
    )  # fmt: skip
    ids = out.sequences[0, len(token_ids) :].tolist()
    return [one for one in ids if one not in model.stop_token_ids], torch.stack([one[0] for one in out.logits])


def compared(session: ForeignSession, engine: ForeignEngine, question: str, right: list[str]) -> dict[str, Any]:
    """One question from the file and to the model itself."""
    cache, reader = session.cache, session.reader
    assert cache.blocks is not None
    answer = session.ask(question, max_tokens=MOST_TOKENS)
    state = reader.state(reader.read(question))
    ids = session.question_token_ids(question)
    logits, _ = session.start([*ids, *answer.token_ids], state=state)
    prompt = cache.token_ids[: cache.document_range[0]].tolist()
    block = cache.blocks.token_ids[reader.read(question).found[0].block]
    own, theirs = itself(engine, [*prompt, *block, *ids], MOST_TOKENS)
    first, _ = session.start(ids, state=state)
    difference = float((first - theirs[0]).abs().max())
    if len(theirs) > len(answer.token_ids):
        difference = max(difference, float((logits - theirs[len(answer.token_ids)]).abs().max()))
    text = session.model.tokenizer.decode(own) if session.model.tokenizer else ""
    return {
        "question": question,
        "answer": answer.text,
        "equal": own[: len(answer.token_ids)] == answer.token_ids and answer.text in text,
        "largest_difference": difference,
        "right": names_one(answer.text, right) if right else None,
    }


def measure(engine: ForeignEngine, name: str, text: str, asked: Asked, folder: Path) -> dict[str, Any]:
    """One document and its questions."""
    started = time.process_time()
    engine.save(engine.prefill(engine.document(text)), folder / "document.gfc")
    cache = engine.open(folder / "document.gfc", asking=True)
    session = engine.session(cache, read=LEXICAL)
    assert cache.blocks is not None
    rows = [compared(session, engine, question, right) for question, right in asked]
    answered = [row["right"] for row in rows if row["right"] is not None]
    return {
        "document": name, "commit": git_commit(), "tokens": cache.length, "blocks": len(cache.blocks.token_ids),
        "questions": len(rows), "equal": sum(row["equal"] for row in rows), "answered": len(answered),
        "right": sum(answered), "largest_difference": max(row["largest_difference"] for row in rows),
        "cpu_s": round(time.process_time() - started, 1), "rows": rows,
    }  # fmt: skip


def record_of(engine: ForeignEngine, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The record of the documents measured so far."""
    return {
        "what": "answers from documents in blocks beside the model's own to prompt, block and question, greedy, f32",
        "processor": processor(),
        "model": engine.model.name,
        "architecture": engine.model.config.model_type,
        "prompt": engine.model.config.prompt,
        "numerics": engine.numerics.to_dict(),
        "questions": sum(row["questions"] for row in found),
        "equal": sum(row["equal"] for row in found),
        "within": sum(one["largest_difference"] <= MOST_DIFFERENCE for row in found for one in row["rows"]),
        "most_difference": MOST_DIFFERENCE,
        "largest_difference": max(row["largest_difference"] for row in found),
        "answered": sum(row["answered"] for row in found),
        "right": sum(row["right"] for row in found),
        "documents": found,
    }  # fmt: skip


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or directory of a model of others")
    parser.add_argument("--data", default=None)
    parser.add_argument("--documents", nargs="+", metavar="NAME", help="some of the documents; by default all")
    add_record(parser, RESULT)
    options = parser.parse_args()
    engine: Any = engine_of(load(find_model(options.model), dtype="f32", layout=BLOCKS))
    known = documents(data_directory(options.data) / "ordinary")
    rows: dict[str, dict[str, Any]] = {}
    if options.record is not None and options.record.exists():
        rows = {row["document"]: row for row in json.loads(options.record.read_text())["documents"]}
    with tempfile.TemporaryDirectory(prefix="gf-bench-blocks-") as folder:
        for name in options.documents or known:
            rows[name] = measure(engine, name, *known[name], Path(folder))
            print(json.dumps({key: value for key, value in rows[name].items() if key != "rows"}), flush=True)
            write_record(options.record, record_of(engine, list(rows.values())))
    record = record_of(engine, list(rows.values()))
    print(json.dumps({name: value for name, value in record.items() if name != "documents"}, indent=2))


if __name__ == "__main__":
    main()
