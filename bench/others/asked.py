"""How a model of others should be asked: python -m bench.others.asked prompts|joined MODEL [--record]

prompts: held-out passages of GF_DATA_DIR, a question to each, answered behind each of the prompts that the model folder
has, scored as SQuAD does.

joined: two blocks of a document in one answer. Each was computed by itself. Read together, their keys are turned on to
their new places, and so many of the first tokens of the second are computed anew behind the first (CacheBlend, arXiv
2405.16444): none, 16, or all, which is what the model computes of both together. Beside them the best block alone. The
documents are the beginnings of held-out articles; an answer is right where it names what is asked in at most ten words.

Every answer is greedy, in f32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from bench.places import RESULTS, write_record
from goldfinch.datasets.articles import read_articles
from goldfinch.datasets.corpora import data_directory
from goldfinch.engine.reading import Reading
from goldfinch.engine.sampling import Sampling
from goldfinch.evaluate.documents import first_pages
from goldfinch.evaluate.held_out import held_out_articles
from goldfinch.evaluate.questions import held_out_questions
from goldfinch.evaluate.scoring import exact_match, f1, names_one
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.running.batch import Row, decode_together
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.foreign.running.joining import joined
from goldfinch.foreign.running.reading import BlockReader
from goldfinch.foreign.running.session import ForeignSession
from goldfinch.foreign.running.states import SequenceState
from goldfinch.library.opening import load
from goldfinch.measure.conditions import git_commit, processor
from goldfinch.policies.named import BLOCKS, HYBRID, WHOLE
from goldfinch.weights.directory import find_model

RESULT = {name: RESULTS / f"asked-{name}.json" for name in ("prompts", "joined")}
QUESTIONS = 100
# Of an answer; answers that are decoded together.
MOST_TOKENS, TOGETHER = 16, 10
Asked = tuple[str, str, list[str]]


def passages(directory: Path, count: int) -> list[Asked]:
    """A passage, a question to it and its answers, drawn from whole held-out articles."""
    answerable, rng = held_out_questions(directory)[0], Random("prompts")
    chosen = rng.sample(sorted(answerable), min(count, len(answerable)))
    return [(context, *rng.choice(answerable[context])) for context in chosen]


def behind_prompt(model: ForeignModel, name: str, asked: list[Asked]) -> dict[str, Any]:
    """The answers behind one of the model's prompts."""
    started = time.process_time()
    engine = ForeignEngine(replace(model, template=model.config.prompts[name]))
    rows, sampling = list[dict[str, Any]](), Sampling(max_tokens=MOST_TOKENS)
    answers = list[str]()
    for start in range(0, len(asked), TOGETHER):
        some = list[Row]()
        for context, question, _ in asked[start : start + TOGETHER]:
            session = engine.session(engine.prefill(engine.document(context)))
            some.append(Row.of(session, question, False, sampling, session.reader.read(question)))
        decode_together(engine.model, some)
        answers += [row.answering.answer().text for row in some]
    for answer, (_, question, right) in zip(answers, asked, strict=True):
        rows.append(
            {"question": question, "answer": answer, "exact": exact_match(answer, right), "f1": f1(answer, right)}
        )
    return {
        "prompt": name,
        "exact": statistics.mean(row["exact"] for row in rows),
        "f1": statistics.mean(row["f1"] for row in rows),
        "words": statistics.mean(len(str(row["answer"]).split()) for row in rows),
        "cpu_s": round(time.process_time() - started, 1),
        "rows": rows,
    }


def paired(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """How much higher F1 is behind one prompt than behind the other, question by question."""
    gains = [a["f1"] - b["f1"] for a, b in zip(one["rows"], other["rows"], strict=True)]
    return {"f1": statistics.mean(gains), "standard_error": statistics.stdev(gains) / len(gains) ** 0.5}


# Tokens of a document, questions to each.
LENGTH, ASKED = 1500, 15
ALL = 1 << 20
# By name: blocks read together, and tokens of the second that are computed anew.
WAYS = {
    "best block": (1, 0),
    "two, keys turned on": (2, 0),
    "two, 16 tokens anew": (2, 16),
    "two, computed together": (2, ALL),
}


class Anew(BlockReader):
    """Blocks read together, the first tokens of each but the first computed anew."""

    recomputed = 0

    def state(self, reading: Reading) -> SequenceState:
        blocks = self._cache.blocks
        assert blocks is not None
        numbers = [found.block for found in reading.found]
        return joined(self._model, self._cache.state, blocks, numbers, self.recomputed)


def from_blocks(
    engine: ForeignEngine, text: str, asked: list[tuple[str, list[str]]]
) -> dict[str, list[dict[str, Any]]]:
    """The answers about one document, each way."""
    cache, found = engine.prefill(engine.document(text)), dict[str, list[dict[str, Any]]]()
    for name, (blocks, recomputed) in WAYS.items():
        session = ForeignSession(engine.model, cache)
        session.reader = Anew(engine.model, cache, HYBRID, blocks, True)
        session.reader.recomputed = recomputed
        answers = engine.ask_many(session, [question for question, _ in asked], max_tokens=MOST_TOKENS)
        found[name] = [
            {"question": q, "answer": a.text, "right": names_one(a.text, right), "f1": f1(a.text, right)}
            for a, (q, right) in zip(answers, asked, strict=True)
        ]
    return found


def documents(
    engine: ForeignEngine, directory: Path, questions: int
) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """Texts and questions to them, the articles in an order drawn by lot."""
    articles, rng, count = read_articles(directory, held_out_articles(directory).__contains__), Random("joined"), 0
    for article in rng.sample(articles, len(articles)):
        text, known = first_pages(engine.model, article, LENGTH)
        if len(known) >= ASKED and count < questions:
            count += ASKED
            yield text, [(question, [right]) for question, right in rng.sample(known, ASKED)]


def summary(rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of each way: right answers, F1, and the paired difference from both blocks computed together."""
    last, found = [*rows.values()][-1], []
    for name, answers in rows.items():
        gains = [a["f1"] - b["f1"] for a, b in zip(answers, last, strict=True)]
        row = {"way": name, "questions": len(answers), "right": sum(one["right"] for one in answers)}
        row |= {"f1": statistics.mean(one["f1"] for one in answers), "gain": statistics.mean(gains)}
        found.append(row | {"standard_error": statistics.stdev(gains) / len(gains) ** 0.5})
    return found


def measure_prompts(model: ForeignModel, data: Path, count: int) -> dict[str, Any]:
    """The part of a record about prompts."""
    asked, found = passages(data, count), list[dict[str, Any]]()
    for name in model.config.prompts:
        found.append(behind_prompt(model, name, asked))
        print(json.dumps({key: value for key, value in found[-1].items() if key != "rows"}), flush=True)
    return {
        "what": "questions to held-out passages behind each prompt of a model of others, greedy, f32, scored as SQuAD",
        "chosen_at_import": model.config.prompt,
        "figures_at_import": model.config.prompt_figures,
        "questions": len(asked),
        "gains_over_the_last": [{"prompt": one["prompt"]} | paired(one, found[-1]) for one in found[:-1]],
        "prompts": found,
    }


def measure_joined(model: ForeignModel, data: Path, count: int) -> dict[str, Any]:
    """The part of a record about blocks read together."""
    rows, engine = {name: list[dict[str, Any]]() for name in WAYS}, ForeignEngine(model)
    for text, asked in documents(engine, data, count):
        for way, answers in from_blocks(engine, text, asked).items():
            rows[way] += answers
        print(json.dumps({row["way"]: [row["right"], row["questions"]] for row in summary(rows)}), flush=True)
    return {
        "what": "two blocks of a document in one answer of a model of others, and the best one alone, greedy, f32",
        "prompt": model.config.prompt,
        "ways": summary(rows),
        "rows": rows,
    }


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=RESULT)
    parser.add_argument("model", help="name or directory of a model of others")
    parser.add_argument("--questions", type=int, default=QUESTIONS, metavar="N", help="at least")
    parser.add_argument("--data", default=None)
    parser.add_argument("--record", nargs="?", type=Path, const=Path(), metavar="FILE", help="write the record")
    options = parser.parse_args()
    how = measure_prompts if options.what == "prompts" else measure_joined
    model: Any = load(find_model(options.model), dtype="f32", layout=WHOLE if options.what == "prompts" else BLOCKS)
    started = time.process_time()
    found = how(model, data_directory(options.data), options.questions)
    about = {"commit": git_commit(), "processor": processor(), "model": model.name}
    about |= {"numerics": ForeignEngine(model).numerics.to_dict(), "cpu_s": round(time.process_time() - started, 1)}
    place = options.record and (RESULT[options.what] if options.record == Path() else options.record)
    write_record(place, about | found)


if __name__ == "__main__":
    main()
