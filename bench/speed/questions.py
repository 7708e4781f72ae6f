"""Questions about one document, decoded together and one by one: python -m bench.speed.questions [--record]"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import goldfinch
from bench.places import RESULTS, SAMPLES, add_record, write_record
from goldfinch.measure.conditions import conditions

RESULT = RESULTS / "questions.json"
COUNTS, REPEATS, MAX_TOKENS = (2, 4, 8, 16, 32), 5, 32


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Wall clock of an action, and what it gave."""
    started = time.perf_counter()
    found = action()
    return time.perf_counter() - started, found


def _one_by_one(session: goldfinch.Session, questions: list[str]) -> list[Any]:
    return [session.ask(question, max_tokens=MAX_TOKENS) for question in questions]


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_record(parser, RESULT)
    options = parser.parse_args()
    model = goldfinch.load_model()
    ids, span = goldfinch.document_token_ids(model, (SAMPLES / "warehouse-register.txt").read_text())
    session = goldfinch.Session(model, goldfinch.prefill(model, ids, document_range=span))
    questions = [json.loads(line)["question"] for line in (SAMPLES / "questions.jsonl").read_text().splitlines()]
    rows = []
    for count in COUNTS:
        asked, ratios, equal = questions[:count], [], 0
        for repeat in range(REPEATS + 1):
            one_by_one_s, ones = seconds(partial(_one_by_one, session, asked))
            together_s, many = seconds(partial(goldfinch.ask_many, session, asked, max_tokens=MAX_TOKENS))
            if repeat:  # the first is a warm-up
                ratios.append(one_by_one_s / together_s)
            equal = sum(a.token_ids == b.token_ids for a, b in zip(ones, many, strict=True))
        span_of = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        generated = sum(len(answer.token_ids) for answer in many)
        rows.append(
            {"questions": count, "tokens_generated": generated, "equal_answers": equal, "times_as_fast": span_of}
        )
        print(json.dumps(rows[-1]), flush=True)
    record = {
        "what": "questions about one document, together against one by one",
        "conditions": conditions(model),
        "document_tokens": ids.shape[1],
        "repeats": REPEATS,
        "rows": rows,
    }
    write_record(options.record, record)


if __name__ == "__main__":
    main()
