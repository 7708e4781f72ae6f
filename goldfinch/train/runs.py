"""The runs of a recipe file, one after the other.

Each run has its own folder in the run folder, named after it. Finished runs are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gfcache.files.locks import is_made, sweep
from gfcache.files.regular import read_regular
from gfcache.files.replace import replacing_output

from goldfinch.text.tokenizer import MOST_TOKENIZER_BYTES

from ..errors import ConfigError, ModelNotFound
from .bpe import tokenizer_path
from .recipe import Run
from .trainer import CHECKPOINT_FILE, is_finished, make_shards, train


def chosen_runs(runs: Sequence[Run], name: str | None) -> Sequence[Run]:
    """All runs, or the one of this name.

    Raises:
        ConfigError: no run has this name.
    """
    if name is None:
        return runs
    found = [run for run in runs if run.name == name]
    if not found:
        known = ", ".join(run.name for run in runs if run.name)
        raise ConfigError(f"no run is called {name!r}", hint=f"known: {known}" if known else "the recipe has one run")
    return found


def train_runs(
    runs: Sequence[Run],
    data_directory: Path | None,
    root: Path,
    *,
    only: str | None = None,
    shards: Path | None = None,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
    **options: Any,
) -> Iterator[tuple[Run, Path]]:
    """Train the runs of a recipe file in order; finished runs are skipped.

    Args:
        runs: of `recipe.read_runs`.
        data_directory: folder with the corpora; not needed with `shards`.
        root: run folder.
        only: name of the one run to train; the runs it starts from must be finished.
        shards: folder of batches made beforehand (`write_shards_of`).
        report: called with every log entry; with several runs, `run` in it names the run.
        options: for `trainer.train`.

    Yields:
        each run and what `trainer.train` returned for it. After one that stopped early nothing follows.

    Raises:
        ConfigError: no run is called `only`.
        ModelNotFound: a run to start from is not finished; and all errors of `trainer.train`.
    """
    for run in chosen_runs(runs, only):
        folder = run.folder(root)
        if run.name and run.recipe.stages and is_finished(run.recipe, folder):
            sweep(folder / CHECKPOINT_FILE)
            sweep(folder / run.recipe.name)
            yield run, folder / run.recipe.name
            continue
        start_from = [_model_of(name, runs, root) for name in run.after]
        _share_tokenizer(run, runs, root)
        path = train(
            run.recipe,
            data_directory,
            folder,
            shards=None if shards is None else run.folder(shards),
            start_from=start_from,
            report=_named(run, report),
            **options,
        )
        yield run, path
        if not path.is_dir():
            return


def write_shards_of(
    runs: Sequence[Run], data_directory: Path, root: Path, *, only: str | None = None, workers: int = 0
) -> Iterator[Path]:
    """Write the batches of the runs, each into the folder of its name; yields each shard once it is there."""
    chosen = chosen_runs(runs, only)
    for run in chosen:
        if run.recipe.stages or len(chosen) == 1:
            _share_tokenizer(run, runs, root)
            yield from make_shards(run.recipe, data_directory, run.folder(root), workers=workers)


def _model_of(name: str, runs: Sequence[Run], root: Path) -> Path:
    (run,) = chosen_runs(runs, name)
    model = run.folder(root) / run.recipe.name
    if not model.is_dir() or (run.recipe.stages and not is_finished(run.recipe, run.folder(root))):
        raise ModelNotFound(
            f"the run {name} is not finished in {run.folder(root)}", hint=f"train it first: --run {name}"
        )
    return model


def _share_tokenizer(run: Run, runs: Sequence[Run], root: Path) -> None:
    """A tokenizer that the recipe does not name is trained by the first run; the others take that one."""
    own, first = (tokenizer_path(one.recipe, one.folder(root)) for one in (run, runs[0]))
    if not run.recipe.tokenizer and not is_made(own) and first.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        with replacing_output(own, mode=None, follow=False) as stream:
            stream.write(read_regular(first, MOST_TOKENIZER_BYTES))


def _named(run: Run, report: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    return (lambda entry: report({"run": run.name, **entry})) if run.name else report
