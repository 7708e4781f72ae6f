"""How a pointer is trained, alone or with the layers above prefill: the table `pointer` of a recipe, read strictly."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from goldfinch.errors import ConfigError
from goldfinch.models.config import from_fields

TRAINED = ("pointer", "upper")


@dataclass(frozen=True)
class PointerPlan:
    """How a pointer is trained.

    Attributes:
        steps, batch: steps, and examples in each.
        train: "pointer", all other weights as they are, or "upper", everything that prefill does not read.
        upper_rate: share of the learning rate for the weights that are not the pointer's.
        keep: weight of the divergence from what the model said before, where that was right.
        absent: share of questions that a stretch of an article does not answer.
        swapped: share of the answers in articles that are exchanged for others (see `datasets.swapping`).
        mixture: weight per kind of document (see `documents.AsRead`).
        first_examples: that there are before the first step.
        visits: how often an example is seen, on average; with 1, each of them once.
        learning_rate, final_learning_rate, warmup_steps, decay_share: as in `Recipe`.
        weight_decay: of matrices.
        right, wrong: share of the questions that read the block which answers them, and of those that read one which
            resembles them but does not, so that the answer becomes "Not stated."; the rest reads the whole document.
        most_blocks: a question reads from one to so many blocks, the best ones, each number as often.
        start: file of weights to begin with, those of the pointer with or without their prefix; "" for those of the
            model. With one, no steps at all write the model that it makes.
        seed: of documents, examples and batches.
        bfloat16: autocast.
        save_seconds: time between saves.
    """

    steps: int
    mixture: dict[str, float]
    batch: int = 48
    train: str = "pointer"
    upper_rate: float = 0.1
    keep: float = 0.5
    absent: float = 0.1
    swapped: float = 0.0
    first_examples: int = 960
    visits: float = 3.0
    learning_rate: float = 2e-3
    final_learning_rate: float = 2e-5
    warmup_steps: int = 60
    decay_share: float = 0.6
    weight_decay: float = 0.01
    right: float = 0.72
    wrong: float = 0.18
    most_blocks: int = 1
    start: str = ""
    seed: int = 1
    bfloat16: bool = True
    save_seconds: float = 300.0

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of 0-based `step`."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        decay_from = self.steps * (1 - self.decay_share)
        share = max(0.0, (step - decay_from) / max(1.0, self.steps - decay_from))
        return self.learning_rate + (self.final_learning_rate - self.learning_rate) * min(share, 1.0)

    def examples_at(self, step: int) -> int:
        """Examples that there are before 0-based `step`."""
        return self.first_examples + int((step + 1) * self.batch / self.visits)


def read_plan(values: dict[str, Any], possible: bool) -> PointerPlan:
    """The plan that the table `pointer` of a recipe describes.

    Args:
        possible: the recipe's model has a pointer, and no stages train anything else.

    Raises:
        ConfigError: an unknown key, or a value out of range.
    """
    if not possible:
        raise ConfigError("a run with a [pointer] table needs pointer_width in its model, and no stages")
    plan = from_fields(PointerPlan, values, "the table pointer")
    for f in fields(PointerPlan):
        value = getattr(plan, f.name)
        shares = list(value.values()) if isinstance(value, dict) else [value]
        whole = f.name in ("steps", "batch", "first_examples", "warmup_steps", "most_blocks", "seed")
        numbers = all(isinstance(x, int if whole else int | float) and 0 <= x < 1 << 31 for x in shares)
        fits = numbers and isinstance(value, dict) == (f.name == "mixture")
        if f.name not in ("bfloat16", "start", "train") and not fits:
            raise ConfigError(f"{f.name} of the table pointer is {value!r}, allowed: numbers from 0 on")
    if not isinstance(plan.start, str) or "\0" in plan.start:
        raise ConfigError(f"start of the table pointer is {plan.start!r}, allowed: a file name")
    if plan.train not in TRAINED:
        raise ConfigError(f"train of the table pointer is {plan.train!r}, allowed: {', '.join(TRAINED)}")
    if (
        min(plan.steps + bool(plan.start), plan.batch, plan.most_blocks, sum(plan.mixture.values())) <= 0
        or plan.visits < 1
        or max(plan.right + plan.wrong, plan.absent, plan.swapped) > 1
    ):
        raise ConfigError(
            "the table pointer needs steps, batch, most_blocks and mixture above 0, visits from 1 on, shares up to 1"
        )
    return plan
