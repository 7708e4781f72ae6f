"""The training loop: resumable at any step, logged as JSON Lines.

A run folder holds `checkpoint.pt` (weights, optimiser, step), `log.jsonl` and the model directory as of the last save.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gfcache import output_lock
from gfcache.files.locks import sweep
from gfcache.files.places import is_private, make_private, user_folder
from gfcache.files.replace import replacing_output
from gfcache.files.temporary import temporary_folder
from torch import Tensor

from goldfinch.devices import available_device, make_current
from goldfinch.measure.precision import quickest_dtype
from goldfinch.models.language_model import LanguageModel, cross_entropy
from goldfinch.text.template import PromptTemplate
from goldfinch.text.tokenizer import Tokenizer, read_tokenizer
from goldfinch.weights.directory import find_model, read_card
from goldfinch.weights.files import check_weights
from goldfinch.weights.loading import checked_weights, load_model
from goldfinch.weights.writing import check_replaceable, write_model_directory

from ..errors import CheckpointError, ConfigError, CorpusMissing
from .batches import Batch, BatchSource, batches
from .bpe import BOS_TOKEN_ID, END_TOKEN_ID, tokenizer_of, tokenizer_path
from .checkpoint import read_checkpoint, write_checkpoint
from .data import TrainingData
from .log import append_entry, entry_of, log_lines
from .optimizers import build_optimizers
from .pointing.documents import AsRead
from .pointing.run import train_pointer
from .recipe import AUTO, PRECISIONS, Recipe
from .shards import ShardReader, write_shards
from .throughput import matrix_rate, training_flops_per_token

CHECKPOINT_FILE, LOG_FILE = "checkpoint.pt", "log.jsonl"
LOG_EVERY = 20
TEMPLATE = PromptTemplate(bos_token_id=BOS_TOKEN_ID, end_token_id=END_TOKEN_ID)


def train(
    recipe: Recipe,
    data_directory: Path | None,
    run_directory: Path,
    *,
    shards: Path | None = None,
    device: str = "cpu",
    workers: int = 0,
    compile_model: bool = True,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
    stop_after: int | None = None,
    start_from: Sequence[Path] = (),
) -> Path:
    """Train, or resume from the last save, and write the model directory.

    Args:
        recipe: what to train.
        data_directory: folder with the corpora; not needed with `shards`.
        run_directory: checkpoints and log; created when absent.
        shards: folder of batches made beforehand (`shards.write_shards`): the same batches as without. Where the
            next one is missing, the run saves and leaves.
        device: where the model is trained.
        workers: processes that make batches ahead; the batches are the same for any number.
        compile_model: use torch.compile for the step.
        report: called with every log entry.
        stop_after: save and leave after this many steps in total (for tests and short pieces of time).
        start_from: model directories to start from, in place of those that `recipe.start` names.

    Returns:
        the model directory (`run_directory / recipe.name`), or the checkpoint when stopped early.

    Raises:
        CorpusMissing: a corpus, or the shard to begin with, is not there.
        CheckpointError: the run folder holds a damaged checkpoint, or that of another model or recipe, or a folder of
            the model's name that is not a model.
        CacheLocked: another process trains in this run folder now.
        DeviceError: the device does not exist.
    """
    place = available_device(device)
    run_directory.mkdir(parents=True, exist_ok=True)
    checkpoint = run_directory / CHECKPOINT_FILE
    if checkpoint.is_symlink():
        raise CheckpointError(f"{checkpoint} is a link, expected a file", hint="use another run folder or remove it")
    with output_lock(checkpoint):
        sweep(run_directory / recipe.name)
        check_replaceable(run_directory / recipe.name)
        tokenizer = tokenizer_of(recipe, data_directory, run_directory, shards)
        saved = _load(checkpoint, recipe) if checkpoint.exists() else None
        if recipe.pointer is not None:
            export(recipe, run_directory, _initial_model(recipe, tokenizer, start_from))
            return _train_pointer(recipe, data_directory, run_directory, device, report)
        if not recipe.stages:
            return export(recipe, run_directory, _initial_model(recipe, tokenizer, start_from))
        first = int(saved["step"]) if saved is not None else 0
        last = max(first, min(recipe.total_steps, recipe.total_steps if stop_after is None else stop_after))
        data: BatchSource
        if shards is not None:
            data = reader = ShardReader(shards, recipe, tokenizer)
            last = min(last, reader.end(first)) if last > first else last
        else:
            data = _training_data(recipe, data_directory, tokenizer)
        # Processes are forked before a GPU is touched: a forked process cannot use it.
        with batches(data, first, last, workers) as stream:
            make_current(place)
            model = _initial_model(recipe, tokenizer, start_from).to(place)
            optimizers = build_optimizers(model, recipe)
            if saved is not None:
                _restore(saved, checkpoint, model, optimizers)
            _forget_later_steps(run_directory / LOG_FILE, first)
            run = _Run(recipe, _precision(recipe, saved, device), model, optimizers, run_directory, report)
            run.steps(stream, first, last, compile_model)
    return checkpoint if last < recipe.total_steps else run_directory / recipe.name


def _train_pointer(
    recipe: Recipe, directory: Path | None, folder: Path, device: str, report: Callable[[dict[str, Any]], None]
) -> Path:
    """Train the pointer of the model directory that the run has begun with, which the result replaces."""
    plan, model = recipe.pointer, load_model(folder / recipe.name, device=device)
    assert plan is not None
    data = _training_data(recipe, directory, model.tokenizer)
    assert directory is not None
    documents = AsRead(data, directory, plan.mixture, plan.seed, absent=plan.absent, swapped=plan.swapped)
    train_pointer(model, documents, plan, folder, report)
    return export(recipe, folder, model)


def is_finished(recipe: Recipe, run_directory: Path) -> bool:
    """Whether the run in this folder made all its steps and wrote its model.

    Raises:
        CheckpointError: the folder holds a damaged checkpoint, or that of another recipe.
    """
    checkpoint = run_directory / CHECKPOINT_FILE
    if not checkpoint.exists() or not (run_directory / recipe.name).is_dir():
        return False
    return bool(_load(checkpoint, recipe)["step"] == recipe.total_steps)


def make_shards(recipe: Recipe, data_directory: Path, folder: Path, *, workers: int = 0) -> Iterator[Path]:
    """Write all batches of a recipe into a folder, and its tokenizer, trained there if there is none yet.

    Yields:
        each shard, once it is there.
    """
    if not recipe.stages:
        raise ConfigError(f"the recipe {recipe.name} has no [[stage]], so it has no batches")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(recipe, data_directory, folder)
    data = _training_data(recipe, data_directory, tokenizer)
    yield from write_shards(data, tokenizer_path(recipe, folder), folder, workers=workers)


def _training_data(recipe: Recipe, directory: Path | None, tokenizer: Tokenizer) -> TrainingData:
    if directory is None:
        raise CorpusMissing("neither a folder of corpora nor shards were given")
    return TrainingData(directory, recipe, tokenizer, TEMPLATE)


def _initial_model(recipe: Recipe, tokenizer: Tokenizer, start_from: Sequence[Path]) -> LanguageModel:
    torch.manual_seed(recipe.seed)
    model = LanguageModel(replace(recipe.model, vocab_size=tokenizer.vocab_size))
    if recipe.model.pointer_looks:
        model.pointer.know_signs([tokenizer.decode([token]) for token in range(tokenizer.vocab_size)])
    cards = [read_card(folder) for folder in start_from] or [find_model(name) for name in recipe.start]
    if cards:
        mean: dict[str, Tensor] = {}
        for card in cards:
            weights = dict(checked_weights(card))
            # What a pointer is grown by starts where it is first trained.
            begun = {key: value for key, value in model.state_dict().items() if key.startswith("pointer.")}
            weights = begun | weights
            check_weights(weights, model.state_dict())
            mean = {key: mean.get(key, 0) + tensor.float() / len(cards) for key, tensor in weights.items()}
        model.load_state_dict(mean)
    return model


def _precision(recipe: Recipe, saved: dict[str, Any] | None, device: str) -> str:
    """What the steps are computed in. A run ends in the precision in which it began, wherever it is gone on with."""
    if recipe.precision != AUTO:
        return recipe.precision
    begun = saved.get("precision") if saved is not None else None
    return begun or ("bfloat16" if quickest_dtype(device) == "bf16" else "float32")


class _Run:
    """The loop itself: steps, log, saves."""

    def __init__(
        self,
        recipe: Recipe,
        precision: str,
        model: LanguageModel,
        optimizers: list[torch.optim.Optimizer],
        folder: Path,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self.recipe, self.precision, self.model, self.optimizers = recipe, precision, model, optimizers
        self.folder, self.report = folder, report
        self.losses: list[Tensor] = []
        self.tokens = 0
        self.empty: list[Tensor] = []
        self.logged_at = time.monotonic()
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.peak = matrix_rate(model.device, dtype)

    def steps(self, stream: Iterator[Batch], first: int, last: int, compile_model: bool) -> None:
        """Steps first .. last - 1, then a save."""
        loss_of: Any = loss_function(self.model, replace(self.recipe, precision=self.precision))
        if compile_model:
            keep_compiled_steps_private()
            loss_of = torch.compile(loss_of, dynamic=False)
        saved_at = self.logged_at = time.monotonic()
        for step in range(first, last):
            try:
                batch = next(stream)
            except BaseException:  # no batch: a damaged shard, a process that was killed
                self.save(step)
                raise
            self._one_step(loss_of, step, batch)
            if (step + 1) % LOG_EVERY == 0 or step + 1 == last:
                self._log(step + 1)
            if time.monotonic() - saved_at > self.recipe.save_seconds:
                self.save(step + 1)
                saved_at = time.monotonic()
        self.save(last)

    def _one_step(self, loss_of: Any, step: int, batch: Batch) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate_at(step)
        ids, targets, weights = (self._on_device(part) for part in batch)
        loss, answer_loss = loss_of(ids, targets, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.losses.append(torch.stack([loss.detach(), answer_loss.detach()]))
        self.tokens += ids.numel()
        self.empty.append((weights == 0).sum())

    def _on_device(self, part: Tensor) -> Tensor:
        device = self.model.device
        # From pinned memory the copy waits for nobody; from any other it waits for all that the GPU has to do.
        return part.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else part

    def _log(self, step: int) -> None:
        mean = torch.stack(self.losses).mean(0).tolist()  # waits for the device
        now = time.monotonic()
        rate = self.tokens / (now - self.logged_at)
        flops = training_flops_per_token(self.model, self.recipe.stage_of(step - 1).sequence)
        entry = {
            "step": step,
            "of": self.recipe.total_steps,
            "tokens": self.recipe.tokens_until(step),
            "loss": round(mean[0], 4),
            "answer_loss": round(mean[1], 4),
            "learning_rate": self.optimizers[0].param_groups[0]["lr"],
            "padding": round(float(torch.stack(self.empty).sum()) / self.tokens, 3),
            "tok_s": round(rate),
            "peak_share": round(rate * flops / self.peak, 3),
        }
        append_entry(self.folder / LOG_FILE, entry)
        self.report(entry)
        self.losses, self.empty, self.tokens, self.logged_at = [], [], 0, now

    def save(self, step: int) -> None:
        """Write the checkpoint, everything that the run needs to resume at `step`, and the current model."""
        path = self.folder / CHECKPOINT_FILE
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        values = {"model": self.model.state_dict(), "optimizers": states, "step": step, "recipe": self.recipe.digest()}
        write_checkpoint(path, values | {"precision": self.precision})
        export(self.recipe, self.folder, self.model)


def export(recipe: Recipe, run_directory: Path, model: LanguageModel) -> Path:
    """Write the model directory (bf16 weights), at every save: an interrupted run leaves what it learned."""
    tokenizer_file = tokenizer_path(recipe, run_directory)
    config = replace(recipe.model, vocab_size=read_tokenizer(tokenizer_file).vocab_size)
    weights = {name: tensor.to("cpu", torch.bfloat16) for name, tensor in model.state_dict().items()}
    out = run_directory / recipe.name
    write_model_directory(
        out, recipe.name, config, weights, TEMPLATE, tokenizer_file,
        overwrite=True, max_shard_bytes=recipe.max_shard_bytes,
    )  # fmt: skip
    return out


def loss_function(model: LanguageModel, recipe: Recipe) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What a step minimises: ids, targets and weights, each (B, T), to the weighted loss; and the loss of answers."""
    mixed = recipe.precision == "bfloat16"

    def loss_of(ids: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=mixed):
            x, _ = model.hidden(ids, model.empty_state())
            logits = model.logits(x).flatten(0, 1)
        loss = cross_entropy(logits, targets.flatten(), weights.flatten())
        with torch.no_grad():
            answers = (weights == recipe.answer_weight).to(torch.float32).flatten()
            answer_loss = cross_entropy(logits, targets.flatten(), answers)
        return loss, answer_loss

    return loss_of


def _load(path: Path, recipe: Recipe) -> dict[str, Any]:
    """The checkpoint of a run, if it is this recipe's."""
    try:
        saved = read_checkpoint(path)
        step = saved["step"]
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the unpickler stumbles over other bytes in many ways
        raise CheckpointError(
            f"{path} is damaged, or not a checkpoint of gf train",
            hint="remove it to train from the start, or use another run folder",
        ) from error
    if saved.get("recipe", recipe.digest()) != recipe.digest():
        raise CheckpointError(
            f"{path} is of another recipe, or this one was changed since",
            hint="use another run folder, or give the recipe as it was",
        )
    precision = saved.get("precision", PRECISIONS[0])
    if precision not in PRECISIONS:
        raise CheckpointError(f"{path} is of precision {precision!r:.80}, allowed: {' or '.join(PRECISIONS)}")
    if not isinstance(step, int) or not 0 <= step <= recipe.total_steps:
        raise CheckpointError(f"{path} is at step {step!r}, allowed: 0 to {recipe.total_steps}")
    return saved


def _forget_later_steps(log: Path, step: int) -> None:
    """Drop what a run logged after its last save: those steps are repeated."""
    lines = log_lines(log)
    kept = [line for line in lines if _step_of(line) <= step]
    if kept != lines:
        with replacing_output(log, mode=None, follow=False) as stream:
            stream.write(b"".join(kept))


def _step_of(line: bytes) -> float:
    """The step of a log line; infinite for one that was cut short."""
    entry = entry_of(line) if line.endswith(b"\n") else {}
    step = entry.get("step")
    return step if isinstance(step, int | float) else math.inf


def _restore(saved: dict[str, Any], path: Path, model: LanguageModel, optimizers: list[torch.optim.Optimizer]) -> None:
    try:
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not belong to this recipe: {error}", hint="use another run folder or remove it"
        ) from error


def keep_compiled_steps_private() -> None:
    """Let torch.compile keep what it compiles among the user's own files.

    Its default, /tmp/torchinductor_USER, may be a folder that another user made first, and it loads what lies there.
    """
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        return
    is_kept = False
    with contextlib.suppress(OSError):  # a home that cannot be written
        folder = user_folder("cache", "gf") / "torchinductor"
        make_private(folder)
        is_kept = is_private(folder)
    if not is_kept:  # compiled anew each time
        kept = contextlib.ExitStack()
        folder = kept.enter_context(temporary_folder("torchinductor"))
        atexit.register(kept.close)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
