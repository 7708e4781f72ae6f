"""gf train: train a model from a recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import console
from .curve import draw_loss_curve
from .exits import CommandError
from .options import DeviceOption, choose_device


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="What to train.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Run folder; a run found there goes on.")
    ],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Training corpora (GF_DATA_DIR by default).")
    ] = None,
    device: DeviceOption = "auto",
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that make batches ahead; worth it beside a GPU.")
    ] = 0,
    no_compile: Annotated[bool, typer.Option("--no-compile", help="Do not compile the step.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", help="Save and leave after this many steps in all.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No log on stderr.")] = False,
) -> None:
    """Train a model, or go on from the last save of a run. The log goes to log.jsonl; stderr shows a bar, or its lines.

    At the end the run folder holds the model directory, loss.png where matplotlib is installed, and evaluation.json
    where the recipe names tasks.

    Examples:

      gf train goldfinch/train/recipes/gf-mini.toml -o runs/gf-mini

      gf train recipe.toml --data ~/corpora -o runs/mine

      gf train recipe.toml -o runs/trial --steps 20 --no-compile

      gf train recipe.toml -o runs/large --device cuda --workers 12
    """
    console.quiet = quiet
    from goldfinch.train.corpora import data_directory
    from goldfinch.train.recipe import read_recipe
    from goldfinch.train.trainer import train as run

    if not recipe.is_file():
        raise FileNotFoundError(2, "recipe does not exist", str(recipe))
    wanted, corpora, place = read_recipe(recipe), data_directory(data), choose_device(device)
    with TrainingProgress() as progress:
        path = run(
            wanted,
            corpora,
            output,
            device=place,
            workers=workers,
            compile_model=not no_compile,
            report=progress.report,
            stop_after=steps,
        )
    log = output / "log.jsonl"
    try:
        if log.exists():  # a recipe without a stage trains nothing
            draw_loss_curve(log, output / "loss.png")
    except CommandError as error:
        console.say(f"no loss.png: {error}")
    if wanted.evaluation and path.is_dir():
        _evaluate(path, corpora, wanted.evaluation, output / "evaluation.json", place)
    print(path)


def _evaluate(model: Path, corpora: Path, tasks: tuple[str, ...], record: Path, device: str) -> None:
    from goldfinch import load_model
    from goldfinch.evaluate.tasks import evaluate

    console.say(f"evaluating: {', '.join(tasks)}")
    found = evaluate(load_model(model, device=device), corpora, tasks=tasks)
    record.write_text(json.dumps(found, indent=2) + "\n")
    console.say(f"wrote {record}")


class TrainingProgress:
    """A bar with the loss and the time left on a terminal; elsewhere every log entry as a line of JSON."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> TrainingProgress:
        if not console.quiet and sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
                TimeRemainingColumn(),
                console=RichConsole(stderr=True),
            )
            self._task = self._bar.add_task("", total=None, figures="first steps")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, entry: dict[str, Any]) -> None:
        """One entry of the log."""
        if self._bar is None:
            console.say(json.dumps(entry))
            return
        figures = f"loss {entry['loss']:.2f}, answers {entry['answer_loss']:.2f}, {entry['tok_s']:,} tok/s"
        self._bar.update(self._task, completed=entry["step"], total=entry["of"], figures=figures)
