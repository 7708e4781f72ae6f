"""The training loop: resumable at any step, logged as JSON Lines.

A run folder holds `checkpoint.pt` (weights, optimiser, step), `log.jsonl` and, at the end, the model directory.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import check_weights, read_weights
from ..errors import CheckpointError
from ..model import LanguageModel, cross_entropy
from ..model_directory import WEIGHTS_FILE, find_model
from ..template import PromptTemplate
from ..tokenizer import Tokenizer, read_tokenizer
from .bpe import BOS_TOKEN_ID, END_TOKEN_ID, train_bpe
from .data import TrainingData
from .recipe import Recipe

LOG_EVERY = 20
TEMPLATE = PromptTemplate(bos_token_id=BOS_TOKEN_ID, end_token_id=END_TOKEN_ID)


def build_optimizer(model: LanguageModel, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on the square-ish matrices only, as the paper does (section 4): not on
    embeddings, low-rank pairs, mix vectors, decays, norms or the key compression."""
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = name.startswith("blocks.") and name.endswith(".weight") and parameter.dim() == 2
        (decayed if is_matrix else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, eps=1e-9, fused=True)


def train(
    recipe: Recipe,
    data_directory: Path,
    run_directory: Path,
    *,
    compile_model: bool = True,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
    stop_after: int | None = None,
) -> Path:
    """Train, or go on from the last save, and write the model directory.

    Args:
        recipe: what to train.
        data_directory: folder with the corpora.
        run_directory: checkpoints and log; created when absent.
        compile_model: use torch.compile for the step.
        report: called with every log entry.
        stop_after: save and leave after this many steps in all (for tests and short pieces of time).

    Returns:
        the model directory (`run_directory / recipe.name`), or the checkpoint when stopped early.

    Raises:
        CheckpointError: the run folder holds another model's checkpoint.
    """
    tokenizer = _tokenizer(recipe, data_directory, run_directory)
    data = TrainingData(data_directory, recipe, tokenizer, TEMPLATE)
    torch.manual_seed(recipe.seed)
    model = LanguageModel(replace(recipe.model, vocab_size=tokenizer.vocab_size))
    if recipe.start:
        start = read_weights(find_model(recipe.start).path / WEIGHTS_FILE)
        check_weights(start, model.state_dict())
        model.load_state_dict(start)
    optimizer = build_optimizer(model, recipe)
    checkpoint = run_directory / "checkpoint.pt"
    step = _resume(checkpoint, model, optimizer)
    loss_of: Any = _loss_function(model, recipe)
    if compile_model:
        loss_of = torch.compile(loss_of, dynamic=False)

    log = run_directory / "log.jsonl"
    saved_at = logged_at = time.monotonic()
    losses: list[Tensor] = []
    tokens = 0
    last = min(recipe.total_steps, stop_after or recipe.total_steps)
    while step < last:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        ids, targets, weights = data.batch(step)
        loss, answer_loss = loss_of(ids, targets, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(torch.stack([loss.detach(), answer_loss.detach()]))
        tokens += ids.numel()
        step += 1
        if step % LOG_EVERY == 0 or step == last:
            now = time.monotonic()
            mean = torch.stack(losses).mean(0).tolist()
            entry = {
                "step": step,
                "of": recipe.total_steps,
                "loss": round(mean[0], 4),
                "answer_loss": round(mean[1], 4),
                "learning_rate": optimizer.param_groups[0]["lr"],
                "tok_s": round(tokens / (now - logged_at)),
            }
            with open(log, "a") as stream:
                stream.write(json.dumps(entry) + "\n")
            report(entry)
            losses, tokens, logged_at = [], 0, now
        if time.monotonic() - saved_at > recipe.save_seconds:
            _save(checkpoint, model, optimizer, step)
            saved_at = time.monotonic()
    _save(checkpoint, model, optimizer, step)
    if step < recipe.total_steps:
        return checkpoint
    return export(recipe, run_directory)


def export(recipe: Recipe, run_directory: Path) -> Path:
    """Write the model directory (bf16 weights) from the run's last checkpoint."""
    from ..model_directory import write_model_directory

    tokenizer_file = _tokenizer_path(recipe, run_directory)
    config = replace(recipe.model, vocab_size=read_tokenizer(tokenizer_file).vocab_size)
    weights = _load(run_directory / "checkpoint.pt")["model"]
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    out = run_directory / recipe.name
    write_model_directory(out, recipe.name, config, weights, TEMPLATE, tokenizer_file, overwrite=True)
    return out


def _loss_function(model: LanguageModel, recipe: Recipe) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
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


def _tokenizer_path(recipe: Recipe, run_directory: Path) -> Path:
    return Path(recipe.tokenizer) if recipe.tokenizer else run_directory / "tokenizer.json"


def _tokenizer(recipe: Recipe, data_directory: Path, run_directory: Path) -> Tokenizer:
    path = _tokenizer_path(recipe, run_directory)
    run_directory.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        train_bpe(data_directory, recipe.model.vocab_size, path)
    return read_tokenizer(path)


def _save(path: Path, model: LanguageModel, optimizer: torch.optim.Optimizer, step: int) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, temporary)
    os.replace(temporary, path)


def _load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _resume(path: Path, model: LanguageModel, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    try:
        saved = _load(path)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not belong to this recipe: {error}", hint="use another run folder or remove it"
        ) from error
    return int(saved["step"])
