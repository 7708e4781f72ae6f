"""The loop that trains a pointer: makes examples as it goes, visits each several times, resumes where it was saved.

A run folder holds `pointer.pt` (weights, optimiser, step) and `log.jsonl`. The examples are made again after an
interruption: they depend on the seed alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from goldfinch.errors import CheckpointError
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.pointer import NOTHING
from goldfinch.weights.files import check_weights, read_weights

from ..checkpoint import read_checkpoint, write_checkpoint
from ..log import append_entry
from .documents import AsRead
from .examples import Example, ExampleMaker
from .loss import collate, pointer_loss
from .plan import PointerPlan
from .upper import Teacher, check_upper, collate_upper, upper_names, upper_stream

CHECKPOINT_FILE, LOG_FILE = "pointer.pt", "log.jsonl"
LOG_EVERY = 20
# Of so many batches' examples those of like length go together.
SORTED_BATCHES = 6
CHOSEN_BY_DOCUMENTS = 40


class _Pool:
    """The examples so far, made document after document; those that are seen once are forgotten then."""

    def __init__(self, maker: ExampleMaker, documents: Callable[[int], tuple[str, list[tuple[str, str]]]], seed: int):
        self._maker, self._documents, self._seed = maker, documents, seed
        self.examples: list[Example] = []
        self.made = self._forgotten = 0

    @property
    def count(self) -> int:
        """How many there have been."""
        return self._forgotten + len(self.examples)

    def fill(self, count: int) -> None:
        while self.count < count:
            self.add()

    def add(self) -> None:
        text, questions = self._documents(self.made)
        rng = Random(f"rows-{self._seed}-{self.made}")
        self.made += 1
        if text.strip():
            self.examples += self._maker.examples(text, questions, rng)

    def batch(self, plan: PointerPlan, step: int) -> list[Example]:
        """The examples of a step: among those of several steps, a stretch of like length."""
        (group, at), size = divmod(step, SORTED_BATCHES), plan.batch * SORTED_BATCHES
        rng = Random(f"batches-{plan.seed}-{group}")
        if plan.visits == 1:
            self.fill((group + 1) * size)
            seen = group * size - self._forgotten
            self._forgotten += seen
            del self.examples[:seen]
            drawn = self.examples[:size]
        else:
            known = min(len(self.examples), plan.examples_at(group * SORTED_BATCHES))
            drawn = [self.examples[rng.randrange(known)] for _ in range(size)]
        drawn.sort(key=lambda example: (len(example.rows), len(example.targets)))
        order = list(range(SORTED_BATCHES))
        rng.shuffle(order)
        return drawn[order[at] * plan.batch : (order[at] + 1) * plan.batch]


def train_pointer(
    model: LanguageModel,
    documents: AsRead,
    plan: PointerPlan,
    folder: Path,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
) -> None:
    """Train `model.pointer` in place, or all that prefill does not read, or resume; nothing else of the model changes.

    Args:
        model: with a pointer and a tokenizer.
        documents: to ask about.
        folder: of checkpoint and log.

    Raises:
        CheckpointError: the checkpoint is of another plan.
        ConfigError: the plan trains what the model does not have.
    """
    if plan.train == "upper":
        check_upper(model)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(model, documents, plan, folder, report)
    run.resume()
    while run.step < plan.steps:
        run.one_step()
    run.save()


class _Run:
    """A run under way: `step` steps are done."""

    def __init__(
        self,
        model: LanguageModel,
        documents: AsRead,
        plan: PointerPlan,
        folder: Path,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self.model, self.plan, self.folder, self.report = model, plan, folder, report
        self.pointer, self.step, self.saved_at = model.pointer, 0, time.monotonic()
        self.upper = plan.train == "upper"
        # Examples and what is to be kept come from the model as it is now.
        before = deepcopy(model) if self.upper else model
        self.teacher = Teacher(before)
        names = upper_names(model) if self.upper else [f"pointer.{key}" for key in self.pointer.state_dict()]
        model.requires_grad_(False)
        self.trained = {key: p.requires_grad_(True) for key, p in model.named_parameters() if key in set(names)}
        self.optimizer = torch.optim.AdamW(
            _groups(self.trained, plan), lr=plan.learning_rate, betas=(0.9, 0.98), eps=1e-9
        )
        maker = ExampleMaker(before, plan, keep_below=self.upper)
        self.pool = _Pool(maker, documents.document, plan.seed)
        self.chosen_by = _Pool(maker, documents.document_to_choose_by, plan.seed)
        while documents.articles_to_choose_by and self.chosen_by.made < CHOSEN_BY_DOCUMENTS:
            self.chosen_by.add()
        self.losses: list[dict[str, float]] = []

    def one_step(self) -> None:
        plan = self.plan
        self.pool.fill(plan.examples_at(self.step))
        for group in self.optimizer.param_groups:
            group["lr"] = plan.learning_rate_at(self.step) * group["rate"]
        losses = self._losses(self.pool.batch(plan, self.step))
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append({key: loss.item() for key, loss in losses.items()})
        self.step += 1
        if self.step % LOG_EVERY == 0:
            made = {"examples": self.pool.count, "documents": self.pool.made}
            self._log(made | _means(self.losses) | {"cpu_s": round(time.process_time())})
            self.losses = []
        if time.monotonic() - self.saved_at > plan.save_seconds:
            self.save()

    def _losses(self, examples: list[Example]) -> dict[str, Tensor]:
        model, batch = self.model, collate(examples).to(self.model.device)
        above = collate_upper(examples).to(model.device) if self.upper else None
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.plan.bfloat16):
            if above is None:
                return pointer_loss(model, batch)
            stream = upper_stream(model, above).float()
            losses = pointer_loss(model, batch, stream)
            real = batch.targets != NOTHING
            kept = self.teacher.loss(model.logits(stream[real]), batch.stream[real], batch.targets[real])
        return losses | {"loss": losses["loss"] + self.plan.keep * kept, "kept_loss": kept.detach()}

    def _log(self, values: dict[str, Any]) -> None:
        entry = {"step": self.step, "of": self.plan.steps} | values
        append_entry(self.folder / LOG_FILE, entry)
        self.report(entry)

    def save(self) -> None:
        """Write the checkpoint, and log the loss of the examples that training does not see."""
        trained = {key: p.detach() for key, p in self.trained.items()}
        values = {"trained": trained, "optimizer": self.optimizer.state_dict()}
        write_checkpoint(self.folder / CHECKPOINT_FILE, values | {"step": self.step, "plan": asdict(self.plan)})
        examples, size = self.chosen_by.examples, self.plan.batch
        with torch.no_grad():
            found = [self._losses(examples[at : at + size]) for at in range(0, len(examples), size)]
        if found:
            self._log({"chosen_by": _means([{key: loss.item() for key, loss in row.items()} for row in found])})
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on from the checkpoint; without one, begin with the weights that the plan names."""
        path = self.folder / CHECKPOINT_FILE
        if not path.exists():
            if self.plan.start:
                self._begin_with(read_weights(Path(self.plan.start)))
            return
        try:
            saved = read_checkpoint(path)
            plan, step = saved["plan"], int(saved["step"])
            if plan == asdict(self.plan):
                check_weights(saved["trained"], self.trained)
                self.model.load_state_dict(saved["trained"], strict=False)
                self.optimizer.load_state_dict(saved["optimizer"])
        except (OSError, MemoryError):
            raise
        except Exception as error:  # the unpickler stumbles over other bytes in many ways
            raise CheckpointError(
                f"{path} is damaged, or not a checkpoint of a pointer", hint="remove it, or use another run folder"
            ) from error
        if plan != asdict(self.plan):
            raise CheckpointError(f"{path} is of another plan", hint="use another run folder, or the plan as it was")
        self.step = step

    def _begin_with(self, weights: dict[str, Tensor]) -> None:
        named = {key if key in self.trained else f"pointer.{key}": x for key, x in weights.items()}
        whole = any(not key.startswith("pointer.") for key in named)
        check_weights(named, {key: p for key, p in self.trained.items() if whole or key.startswith("pointer.")})
        self.model.load_state_dict(named, strict=False)


def _groups(trained: dict[str, Tensor], plan: PointerPlan) -> list[dict[str, Any]]:
    """The optimiser's: weight decay for matrices alone, a rate of their own for the weights beside the pointer."""
    groups = []
    for pointers, rate in ((True, 1.0), (False, plan.upper_rate)):
        for matrices, decay in ((True, plan.weight_decay), (False, 0.0)):
            chosen = [
                p for key, p in trained.items() if key.startswith("pointer.") is pointers and (p.dim() == 2) is matrices
            ]
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "rate": rate})
    return groups


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in rows[0]}
