"""The recipe of a training run: a TOML file, read strictly."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..config import ModelConfig, presets
from ..errors import ConfigError

# What decides the batches, and what does not decide the weights.
OF_DATA = (
    "stages", "answer_weight", "question_weight", "seed", "varied_phrasings", "absent_questions", "keep_unanswerable",
    "wrapped", "packed", "corpora",
)  # fmt: skip
OF_NO_WEIGHT = ("name", "save_seconds", "evaluation", "max_shard_bytes")


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one sequence length and one mixture.

    Attributes:
        tokens: length of the stage in training tokens.
        sequence: tokens per sequence.
        batch: sequences per step.
        mixture: weight per task (see `data.TASKS`).
        facts: (fewest, most) facts per sequence of the task `facts`.
    """

    tokens: int
    sequence: int
    batch: int
    mixture: dict[str, float]
    facts: tuple[int, int] = (2, 6)

    @property
    def steps(self) -> int:
        return max(1, self.tokens // (self.sequence * self.batch))


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights.

    Attributes:
        name: name of the model directory to write.
        model: configuration, from a preset and changes to it.
        tokenizer: file of the tokenizer; trained and written there when absent.
        stages: what to train on, in order; none to write the weights of `start` as they are.
        learning_rate, final_learning_rate, warmup_steps, decay_share: constant after a linear warm-up, then a
            linear fall to the final rate over the last `decay_share` of all steps.
        optimizer: "adamw", or "muon": Muon for the matrices and AdamW for the rest.
        weight_decay, betas: AdamW's, decay on matrices only.
        muon_momentum: Muon's.
        clip_norm: largest gradient norm.
        answer_weight, question_weight: loss weight of answer and question tokens; document tokens have 1.
        precision: "float32" or "bfloat16" (autocast).
        seed: of weights and data.
        start: model directories whose weights to start from, instead of random ones: their mean when they are several
            (weights at the ends of runs over different data often have a mean that is better than each; Wortsman et al.
            2022, arXiv 2203.05482).
        varied_phrasings: facts are phrased from parts, in thousands of ways.
        absent_questions: share of facts sequences with a question that the text does not answer.
        wrapped: share of the documents whose lines are broken at some width, as in many text files.
        keep_unanswerable: share of the unanswerable questions of `qa` that is used.
        packed: room behind a document and its questions is filled with more text, not with padding.
        save_seconds: time between saves.
        corpora: files of plain text, without their ending.
        evaluation: tasks of `gf eval` to run at the end; their record is evaluation.json in the run folder.
        max_shard_bytes: most bytes of weights in a file of the model directory; None writes one file.
    """

    name: str
    model: ModelConfig
    tokenizer: str
    stages: tuple[Stage, ...]
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-4
    warmup_steps: int = 50
    decay_share: float = 0.2
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    muon_momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    answer_weight: float = 4.0
    question_weight: float = 0.3
    precision: str = "float32"
    seed: int = 1
    start: tuple[str, ...] = ()
    varied_phrasings: bool = False
    absent_questions: float = 0.2
    keep_unanswerable: float = 1.0
    wrapped: float = 0.0
    packed: bool = False
    save_seconds: float = 120.0
    corpora: tuple[str, ...] = field(default=("corpus-wikipedia-00", "corpus-wikipedia-01", "corpus-books"))
    evaluation: tuple[str, ...] = ()
    max_shard_bytes: int | None = None

    def digest(self) -> str:
        """SHA-256 over all that decides the weights: a run that was cut goes on with nothing else."""
        return _digest({k: v for k, v in asdict(self).items() if k not in OF_NO_WEIGHT})

    def data_digest(self) -> str:
        """SHA-256 over all that decides the batches, but for the tokenizer. Models of any shape share them."""
        return _digest({k: v for k, v in asdict(self).items() if k in OF_DATA})

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of 0-based `step`."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        decay_from = self.total_steps * (1 - self.decay_share)
        share = max(0.0, (step - decay_from) / max(1.0, self.total_steps - decay_from))
        return self.learning_rate + (self.final_learning_rate - self.learning_rate) * min(share, 1.0)

    def tokens_until(self, step: int) -> int:
        """Training tokens of the first `step` steps."""
        total = 0
        for stage in self.stages:
            steps = min(step, stage.steps)
            total, step = total + steps * stage.sequence * stage.batch, step - steps
        return total

    def stage_of(self, step: int) -> Stage:
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error}") from error
    model = dict(values.pop("model", {}))
    preset = model.pop("preset", "goldfinch-small")
    if preset not in presets():
        raise ConfigError(f"unknown preset {preset!r}", hint="known: " + ", ".join(sorted(presets())))
    values["model"] = ModelConfig.from_dict(presets()[preset].to_dict() | model)
    values["stages"] = tuple(_stage(stage) for stage in values.pop("stage", []))
    if isinstance(values.get("start"), str):
        values["start"] = [values["start"]]
    for name in ("betas", "corpora", "evaluation", "start"):
        if name in values:
            values[name] = tuple(values[name])
    unknown = sorted(set(values) - {f.name for f in fields(Recipe)})
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r} in the recipe {path}")
    try:
        recipe = Recipe(**values)
    except TypeError as error:
        raise ConfigError(f"incomplete recipe {path}: {error}") from error
    for name, allowed in (("optimizer", ("adamw", "muon")), ("precision", ("float32", "bfloat16"))):
        if getattr(recipe, name) not in allowed:
            raise ConfigError(f"{name} is {getattr(recipe, name)!r}, allowed: {' or '.join(allowed)}")
    most = recipe.max_shard_bytes
    if most is not None and (type(most) is not int or most < 1):
        raise ConfigError(f"max_shard_bytes is {most!r}, allowed: a number of bytes from 1 on")
    from ..evaluate.tasks import TASKS

    strange = sorted(set(recipe.evaluation) - set(TASKS))
    if strange:
        raise ConfigError(f"unknown task {strange[0]!r} in evaluation", hint="known: " + ", ".join(TASKS))
    if not recipe.stages and not recipe.start:
        raise ConfigError(f"the recipe {path} has no [[stage]], and no start whose weights it could write")
    return recipe


def _stage(values: dict[str, Any]) -> Stage:
    values = dict(values)
    if "facts" in values:
        values["facts"] = tuple(values["facts"])
    try:
        return Stage(**values)
    except TypeError as error:
        raise ConfigError(f"bad [[stage]] in the recipe: {error}") from error
