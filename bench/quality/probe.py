"""Whether a linear probe of the last recurrent layer could choose which rows of a document to keep, as KVzap's does.

    python -m bench.quality.probe [-m MODEL] [--documents 10] [--training 20] [--tokens 1000] [--record]

A probe would cost nothing beside a pre-fill: a ridge map from the output of the last recurrent layer to the importance
of a row (KVzap, arXiv 2601.07891). Its label is the most attention that the row gets, over heads and GOLD layers, while
the text is read once more (KVzip, 2505.23416). For labels as they are, for the probe, and for other choices, the share
of questions about planted facts that are answered from the rows that are left: the first 4 and the last 128 stay.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

import goldfinch
from bench.places import RESULTS, add_record, write_record
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.kept import without
from goldfinch.compare.tasks.base import Exam, Question
from goldfinch.compare.tasks.material import Material
from goldfinch.compare.tasks.registry import tasks_of
from goldfinch.datasets.corpora import data_directory
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.measure.conditions import conditions
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.dropping.base import Observer, at_ends, attention_weights, top
from goldfinch.policies.dropping.choosing import Chooser, runs_of
from goldfinch.policies.dropping.named import STREAMING, Dropping
from goldfinch.policies.dropping.watching import watched_scores

KEEPS = (0.8, 0.5)
FIRST, LAST, AROUND = 4, 128, 40  # rows that stay; of an answer, rows to each side
RIDGE = 1e-2  # of the mean square of a feature
_TASK, _TRAINING_SEED = "facts", 1
_FULL = "all rows"


class _Most:
    """The most attention that each row gets of any query, over heads."""

    def __init__(self, tokens: int) -> None:
        self._most = torch.zeros(tokens, dtype=torch.float64)

    def see(self, q: Tensor, k: Tensor, start: int) -> None:
        for weights in attention_weights(q, k, start):
            self._most[: k.shape[1]] = self._most[: k.shape[1]].maximum(weights.amax((0, 1, 2)).double().cpu())

    def scores(self, k: Tensor, v: Tensor) -> Tensor:
        return self._most[None]


class _WhileRepeated:
    """Looks at the second half of a text that stands there twice."""

    def queries(self, tokens: int) -> int:
        return tokens // 2

    def observer(self, tokens: int) -> Observer:
        return _Most(tokens)

    def kept(self, scores: Tensor | None, tokens: int, count: int) -> Tensor:
        raise NotImplementedError("it scores alone")


@torch.no_grad()
def seen_and_wanted(model: LanguageModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Features (T, C) and labels (T,), float64: the last recurrent layer's output; the logarithm of most attention."""
    tokens, state, rows = ids.shape[1], model.empty_state(), []
    for block in ids.split(model.executor.block_tokens, dim=1):
        x, state = model.run_prefill_layers(block, state)
        rows.append(x[0])
    labels = watched_scores(model, torch.cat([ids, ids], dim=1), _WhileRepeated())[:, 0, :tokens].amax(0)
    return torch.cat(rows).double().cpu(), labels.clamp_min(1e-9).log()


class Probe:
    """A ridge map of features to labels."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        x, y = (torch.cat(part) for part in zip(*pairs, strict=True))
        self._mean, self._middle = x.mean(0), y.mean()
        x = x - self._mean
        gram = x.T @ x
        gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=x.dtype)
        self._weights = torch.linalg.solve(gram, x.T @ (y - self._middle))

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self._mean) @ self._weights + self._middle


def exams(engine: GoldFinchEngine, material: Material, tokens: int, seed: int) -> Iterator[Exam]:
    """Documents with planted facts."""
    (task,) = tasks_of([_TASK])
    for number in range(1000):
        exam = task.exam(engine, material, tokens, number, seed)
        if exam is not None and exam.questions:
            yield exam


def whole_sentences(model: LanguageModel, ids: Tensor, scores: Tensor) -> Tensor:
    """Of each row the best score of its sentence, (T,): sentences are then kept or dropped whole."""
    ends = {
        token: model.tokenizer.decode([token]).rstrip(" ").endswith((".", "!", "?", "\n"))
        for token in set(ids[0].tolist())
    }
    ended = torch.tensor([ends[token] for token in ids[0].tolist()])
    sentence = torch.cat([torch.zeros(1, dtype=torch.int64), ended[:-1].cumsum(0)])
    best = torch.full((int(sentence[-1]) + 1,), -torch.inf, dtype=scores.dtype)
    return best.scatter_reduce(0, sentence, scores, "amax")[sentence]


def around_answers(exam: Exam, tokens: int) -> Tensor:
    """(T,) 1 near an answer, 0 elsewhere: what a policy would keep that knew the questions."""
    near = torch.zeros(tokens, dtype=torch.float64)
    for question in exam.questions:
        assert question.depth is not None
        at = round(question.depth * tokens)
        near[max(at - AROUND, 0) : at + AROUND] = 1
    return near


def choices(model: LanguageModel, ids: Tensor, exam: Exam, label: Tensor, probed: Tensor) -> dict[str, Tensor]:
    """Scores of rows by name of what chooses by them."""
    draw = torch.Generator().manual_seed(len(label))
    return {
        "most attention while repeated": label,
        "probe": probed,
        "probe, whole sentences": whole_sentences(model, ids, probed),
        "random": torch.rand(len(label), generator=draw, dtype=torch.float64),
        "around the answers": around_answers(exam, len(label)),
    }


def answered(engine: GoldFinchEngine, cache: DocumentCache, questions: tuple[Question, ...]) -> list[float]:
    """Score of each question, the cache read whole."""
    (task,) = tasks_of([_TASK])
    assert task.score is not None
    session = engine.session(cache, read="all")
    answers = [session.ask(q.text, max_tokens=task.max_tokens, least_likelihood=0.0).text for q in questions]
    return [task.score(answer, q.references) for answer, q in zip(answers, questions, strict=True)]


def kept(scores: Tensor, keep: float) -> Tensor:
    """The share of the rows with the highest scores, (T,) bool."""
    tokens = len(scores)
    return top(scores, max(int(keep * tokens), FIRST + LAST), at_ends(tokens, FIRST, LAST))


def measure(engine: GoldFinchEngine, probe: Probe, documents: list[Exam]) -> dict[str, Any]:
    """How well the probe follows its label, and what is answered by what is kept."""
    model, scores, truths, guesses = engine.model, dict[tuple[str, float], list[float]](), [], []
    for exam in documents:
        cache = engine.prefill(engine.document(exam.document))
        ids = cache.ids_on(model.device)
        features, label = seen_and_wanted(model, ids)
        probed = probe(features)
        truths.append(label)
        guesses.append(probed)
        scores.setdefault((_FULL, 1.0), []).extend(answered(engine, cache, exam.questions))
        for keep in KEEPS:
            chosen = {name: runs_of(kept(one, keep)) for name, one in choices(model, ids, exam, label, probed).items()}
            chosen[STREAMING] = Chooser(model, ids, STREAMING).kept(keep)
            for name, runs in chosen.items():
                small = without(cache, runs, Dropping(STREAMING, keep))
                scores.setdefault((name, keep), []).extend(answered(engine, small, exam.questions))
        print(f"{len(truths)} of {len(documents)}", file=sys.stderr, flush=True)
    y, found = torch.cat(truths), torch.cat(guesses)
    r2 = 1 - float((y - found).square().sum() / (y - y.mean()).square().sum())
    rows = [
        {"by": name, "keep": keep, "questions": len(values), "right": round(sum(values) / len(values), 4)}
        for (name, keep), values in sorted(scores.items(), key=lambda one: -one[0][1])
    ]
    return {"r2": round(r2, 3), "rows": rows}


def main() -> None:
    """Fit, measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default=None)
    parser.add_argument("--data", default=None)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--training", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=1000)
    add_record(parser, RESULTS / "probe.json")
    options = parser.parse_args()
    model = goldfinch.load_model(options.model) if options.model else goldfinch.load_model()
    engine, material = GoldFinchEngine(model), Material(data_directory(options.data))
    pairs = []
    for exam in islice(exams(engine, material, options.tokens, _TRAINING_SEED), options.training):
        pairs.append(seen_and_wanted(model, torch.from_numpy(np.array([engine.document(exam.document).token_ids]))))
        print(f"fitting: {len(pairs)} of {options.training}", file=sys.stderr, flush=True)
    documents = list(islice(exams(engine, material, options.tokens, 0), options.documents))
    head = {"what": "probe", "tokens": options.tokens, "training": options.training, "conditions": conditions(model)}
    record = head | measure(engine, Probe(pairs), documents)
    print(json.dumps(record, indent=2))
    write_record(options.record, record)


if __name__ == "__main__":
    main()
