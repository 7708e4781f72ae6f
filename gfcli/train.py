"""gf train: train a model from a recipe."""

from __future__ import annotations

import json
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
    """Train a model, or go on from the last save of a run. The log goes to stderr and to log.jsonl.

    At the end the run folder holds the model directory and, where matplotlib is installed, loss.png.

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

    def report(entry: dict[str, Any]) -> None:
        console.say(json.dumps(entry))

    if not recipe.is_file():
        raise FileNotFoundError(2, "recipe does not exist", str(recipe))
    path = run(
        read_recipe(recipe),
        data_directory(data),
        output,
        device=choose_device(device),
        workers=workers,
        compile_model=not no_compile,
        report=report,
        stop_after=steps,
    )
    log = output / "log.jsonl"
    try:
        if log.exists():  # a recipe without a stage trains nothing
            draw_loss_curve(log, output / "loss.png")
    except CommandError as error:
        console.say(f"no loss.png: {error}")
    print(path)
