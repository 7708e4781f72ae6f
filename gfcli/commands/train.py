"""gf train: train a model from a recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from gfcache.files.replace import replacing_output

from gfcli.support.console import console
from gfcli.support.exits import CommandError
from gfcli.support.options import DeviceOption, choose_device
from gfcli.support.progress import TrainingProgress
from gfcli.support.values import show_bytes
from goldfinch.errors import GoldFinchError
from goldfinch.train.curve import draw_loss_curve

if TYPE_CHECKING:
    from goldfinch.train.recipe import Run


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="Recipe of the training.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Run folder; a run found there is resumed.")
    ],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="Training corpora; by default, GF_DATA_DIR.")
    ] = None,
    shards: Annotated[
        Path | None,
        typer.Option("--shards", metavar="DIR", help="Train on batches made beforehand, without the corpora."),
    ] = None,
    write_shards: Annotated[
        bool, typer.Option("--write-shards", help="Write the batches into the folder of -o, and do not train.")
    ] = False,
    only: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="Train one run of a recipe that has several.")
    ] = None,
    device: DeviceOption = "auto",
    workers: Annotated[
        int,
        typer.Option("--workers", min=0, metavar="N", help="Processes that make batches ahead; worth it beside a GPU."),
    ] = 0,
    no_compile: Annotated[bool, typer.Option("--no-compile", help="Do not compile the step.")] = False,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, metavar="N", help="Save and stop after N steps in total.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print no log on stderr.")] = False,
) -> None:
    """Train a model from a recipe.

    A run that was interrupted resumes from its last save. The log goes to log.jsonl in the run folder; stderr shows a
    bar, or the lines of the log. The run folder holds the model folder as of the last save and, at the end, loss.png
    where matplotlib is installed and evaluation.json where the recipe names tasks. The runs of a recipe that has
    several are trained in order, each in a folder of its own name; finished runs are skipped.

    --write-shards writes the tokenised batches of a whole recipe in files below 16 MB each; --shards trains on them on
    a machine without the corpora. When the shards at hand end, the run saves and stops.

    Examples:
      gf train recipe.toml -o runs/trial --steps 2 --no-compile
      gf train goldfinch/train/recipes/gf-mini.toml -o runs/gf-mini --run first --steps 100
      gf train recipe.toml --data ~/corpora -o runs/large --device cuda --workers 12
      gf train recipe.toml -o shards/ --write-shards --workers 2
      gf train recipe.toml -o runs/large --shards shards/ --device cuda
    """
    console.quiet = quiet
    from goldfinch.datasets.corpora import data_directory
    from goldfinch.train.recipe import read_runs
    from goldfinch.train.runs import chosen_runs, train_runs, write_shards_of

    if not recipe.is_file():
        raise FileNotFoundError(2, "recipe does not exist", str(recipe))
    if write_shards and (shards is not None or steps is not None):
        raise CommandError("--write-shards writes all batches of a recipe and takes neither --shards nor --steps")
    runs = read_runs(recipe)
    wanted = chosen_runs(runs, only)
    if steps is not None and len(wanted) > 1:
        raise CommandError(f"--steps counts those of one run, and the recipe has {len(wanted)}", hint="add --run NAME")
    if write_shards:
        for path in write_shards_of(runs, data_directory(data), output, only=only, workers=workers):
            console.say(f"wrote {path} ({show_bytes(path.stat().st_size)})")
        console.path(output)
        return
    if shards is not None and not shards.is_dir():
        raise FileNotFoundError(2, "folder of shards does not exist", str(shards))
    # Shards need no corpora, but the evaluation at the end takes them where they are.
    corpora = data_directory(data) if shards is None or data or os.environ.get("GF_DATA_DIR") else None
    tasks = [task for run in wanted for task in run.recipe.evaluation]
    if tasks and corpora is not None:
        from goldfinch.evaluate.tasks import check_files

        check_files(corpora, tasks)
    place = choose_device(device)
    made: list[tuple[Run, Path]] = []
    with TrainingProgress() as progress:
        for run, path in train_runs(
            runs,
            corpora,
            output,
            only=only,
            shards=shards,
            device=place,
            workers=workers,
            compile_model=not no_compile,
            report=progress.report,
            stop_after=steps,
        ):
            _draw_curve(run.folder(output))
            made.append((run, path))
    if shards is not None and not path.is_dir() and 0 < progress.step < (steps or run.recipe.total_steps):
        console.say(f"the shards at hand end at step {progress.step}: bring the next and run the command again")
    for run, path in made:
        if run.recipe.evaluation and path.is_dir():
            _evaluate(path, corpora, run.recipe.evaluation, run.folder(output) / "evaluation.json", place)
    console.path(path)


def _draw_curve(output: Path) -> None:
    log = output / "log.jsonl"
    try:
        if log.exists():  # a recipe without a stage trains nothing
            draw_loss_curve(log, output / "loss.png")
    except GoldFinchError as error:
        console.say(f"no loss.png: {error}")


def _evaluate(model: Path, corpora: Path | None, tasks: tuple[str, ...], record: Path, device: str) -> None:
    if corpora is None:
        console.say("not evaluated: that needs the corpora (gf eval -m MODEL --data DIR)")
        return
    from goldfinch import load_model
    from goldfinch.evaluate.tasks import evaluate

    console.say(f"evaluating: {', '.join(tasks)}")
    found = evaluate(load_model(model, device=device), corpora, tasks=tasks)
    with replacing_output(record, mode=None, follow=False) as stream:
        stream.write(json.dumps(found, indent=2).encode() + b"\n")
    console.say(f"wrote {record}")
