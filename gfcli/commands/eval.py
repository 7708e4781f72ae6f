"""gf eval: quality of a model on held-out data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gfcli.support.console import console
from gfcli.support.exits import CommandError
from gfcli.support.options import DeviceOption, DtypeOption, ModelOption, load_ours
from gfcli.support.outputs import checked_output, write_record
from gfcli.support.values import checked_blocks, checked_policy
from goldfinch.datasets.corpora import data_directory
from goldfinch.evaluate.held_out import TASKS
from goldfinch.policies.named import AUTO


def evaluate(
    model: ModelOption = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DIR", help="Corpora; by default, GF_DATA_DIR.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help=f"Tasks to run, by default all: {', '.join(TASKS)}. May be repeated.",
        ),
    ] = None,
    documents: Annotated[
        int,
        typer.Option(
            "--documents", min=1, metavar="N", help="Documents per length for planted facts; other tasks in proportion."
        ),
    ] = 40,
    passages: Annotated[int, typer.Option("--passages", min=1, metavar="N", help="Passages to ask about.")] = 300,
    through_file: Annotated[
        bool,
        typer.Option("--through-file", help="Ask every cache again after saving it, and count answers that differ."),
    ] = False,
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--read",
            metavar="POLICY",
            help="Reading policy; repeated, each is asked about the same documents.",
        ),
    ] = None,
    blocks: Annotated[
        int | None, typer.Option("--read-blocks", metavar="N", help="Blocks to read; by default as measured.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE.json", help="Also write the record to a file.", callback=checked_output
        ),
    ] = None,
) -> None:
    """Measure a model on held-out data.

    Training never saw these texts, names and phrasings. The tasks: planted facts, questions about passages (beside a
    baseline that copies a sentence) and about whole documents, ordinary documents and made ones of kinds set aside
    (with what they do not say, and how far `confidence` can be believed), a passkey at ten depths, lists of pairs,
    tables, definitions, several needles, perplexity, loss by position in long documents, and how much of the held-out
    text occurs in the training text.

    Examples:
      gf eval --task samples --data corpora
      gf eval -m runs/gf-mini/gf-mini --documents 10 --passages 50
      gf eval --task articles --read all --read lexical --read hybrid
      gf eval --read all --read auto --through-file -o bench/results/reading-gf-mini-4.json
    """
    from goldfinch.evaluate.tasks import evaluate as run_tasks

    def report(row: dict[str, Any]) -> None:
        console.say(json.dumps(row))

    for name in task or ():
        if name not in TASKS:
            raise CommandError(f"--task is {name!r}, allowed: {', '.join(TASKS)}")
    corpora = data_directory(data)
    record = run_tasks(
        load_ours(model, device, dtype),
        corpora,
        tasks=task or TASKS,
        documents=documents,
        passages=passages,
        through_file=through_file,
        read=[checked_policy(policy) for policy in policies or (AUTO,)],
        read_blocks=checked_blocks(blocks),
        report=report,
    )
    text = json.dumps(record, indent=2)
    console.text(text, end="\n")  # first: what took so long to measure is not lost when the file cannot be written
    if output is not None:
        write_record(output, text)
