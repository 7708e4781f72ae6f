"""gf eval: quality of a model on held-out data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import console
from .options import DeviceOption, DtypeOption, ModelOption, load


def evaluate(
    model: ModelOption = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DIR", help="Corpora (GF_DATA_DIR by default).")] = None,
    documents: Annotated[int, typer.Option("--documents", help="Documents per length, for planted facts.")] = 40,
    passages: Annotated[int, typer.Option("--passages", help="Passages, for questions.")] = 300,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="Write the record here too.")
    ] = None,
) -> None:
    """Measure a model on texts, names and phrasings that training never saw: planted facts and questions.

    Examples:

      gf eval

      gf eval -m runs/gf-mini/gf-mini --documents 10 --passages 50

      gf eval --data ~/corpora -o bench/results/eval-gf-mini.json
    """
    from goldfinch.evaluate.facts import evaluate_facts
    from goldfinch.evaluate.questions import evaluate_questions
    from goldfinch.measure.conditions import conditions
    from goldfinch.train.corpora import data_directory

    def report(row: dict[str, Any]) -> None:
        console.say(json.dumps(row))

    directory = data_directory(data)
    loaded = load(model, device, dtype)
    record = {
        "what": "quality on held-out data",
        "conditions": conditions(loaded),
        "facts": evaluate_facts(loaded, directory, documents=documents, report=report),
        "questions": evaluate_questions(loaded, directory, passages=passages),
    }
    text = json.dumps(record, indent=2)
    if output is not None:
        output.write_text(text + "\n")
    print(text)
