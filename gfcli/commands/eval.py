"""gf eval: quality of a model on held-out data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gfcli.support.console import console
from gfcli.support.exits import CommandError
from gfcli.support.options import DeviceOption, DtypeOption, ModelOption, load
from gfcli.support.outputs import checked_output


def evaluate(
    model: ModelOption = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DIR", help="Corpora (GF_DATA_DIR by default).")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help="facts, questions, articles, samples, passkey, pairs, tables, definitions, needles, perplexity, "
            "positions, overlap; all by default.",
        ),
    ] = None,
    documents: Annotated[
        int, typer.Option("--documents", min=1, help="Documents per length, for planted facts; others in proportion.")
    ] = 40,
    passages: Annotated[int, typer.Option("--passages", min=1, help="Passages, for questions.")] = 300,
    through_file: Annotated[
        bool, typer.Option("--through-file", help="Ask every cache again after saving it, and count differing answers.")
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.json", help="Write the record here too.", callback=checked_output),
    ] = None,
) -> None:
    """Measure a model on texts, names and phrasings that training never saw.

    Planted facts, questions about passages (beside a baseline that copies a sentence) and about whole documents, a
    passkey at ten depths, lists of pairs, tables, definitions, several needles, perplexity, loss by place in long
    documents, and how much of the held-out text stands in the training text.

    Examples:

      gf eval

      gf eval -m runs/gf-mini/gf-mini --documents 10 --passages 50

      gf eval --task passkey --task needles --data ~/corpora

      gf eval --through-file -o bench/results/eval-gf-mini.json
    """
    from goldfinch.datasets.corpora import data_directory
    from goldfinch.evaluate.tasks import TASKS
    from goldfinch.evaluate.tasks import evaluate as run_tasks

    def report(row: dict[str, Any]) -> None:
        console.say(json.dumps(row))

    for name in task or ():
        if name not in TASKS:
            raise CommandError(f"there is no task {name}; there are {', '.join(TASKS)}")
    corpora = data_directory(data)
    record = run_tasks(
        load(model, device, dtype),
        corpora,
        tasks=task or TASKS,
        documents=documents,
        passages=passages,
        through_file=through_file,
        report=report,
    )
    text = json.dumps(record, indent=2)
    print(text, flush=True)  # first: what took so long to measure is not lost when the file cannot be written
    if output is not None:
        output.write_text(text + "\n")
