"""Recipes of training: a TOML file with one run, or with several that start from one another, read strictly.

A file of one run has its values and `[[stage]]` tables at the top. A file of several has `[[run]]` tables, each with a
`name` and `[[run.stage]]` tables; the values at the top apply to all of them. A run starts from the run before it, or
from those that its `start` names. `[[mean]]` tables name the runs whose weights they average (`of`).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from goldfinch.models.config import ModelConfig, from_fields
from goldfinch.models.presets import presets
from goldfinch.text.json_files import is_path
from goldfinch.text.toml_files import read_toml

from ..errors import ConfigError
from ..evaluate.held_out import TASKS
from .pointing.plan import PointerPlan, read_plan

_MOST_BYTES = 1 << 16
# Of a step; of all; facts in a sequence. Far beyond what is trained, and within what can be computed with.
MOST_STEP_TOKENS, MOST_TOKENS, MOST_FACTS = 1 << 24, 1 << 50, 1 << 16
# What decides the batches, and what does not decide the weights.
OF_DATA = (
    "stages", "answer_weight", "question_weight", "seed", "varied_phrasings", "absent_questions", "keep_unanswerable",
    "wrapped", "packed", "corpora",
)  # fmt: skip
OF_NO_WEIGHT = ("name", "save_seconds", "evaluation", "max_shard_bytes")
PRECISIONS, AUTO = ("float32", "bfloat16"), "auto"


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
        precision: "float32", "bfloat16" (autocast), or "auto": whichever computes quicker where the run begins.
        seed: of weights and data.
        start: model directories whose weights to start from, instead of random ones; of several, the mean, which is
            often better than each (Wortsman et al. 2022, arXiv 2203.05482). In a file of several runs, NAME:DIGEST of
            the runs it starts from, so that an interrupted run resumes from the same weights only.
        varied_phrasings: facts are phrased from parts, in thousands of ways.
        absent_questions: share of facts sequences with a question that the text does not answer.
        wrapped: share of the documents with hard line breaks, as in many text files.
        keep_unanswerable: share of the unanswerable questions of `qa` that is used.
        packed: the room after a document and its questions is filled with more text, not with padding.
        save_seconds: time between saves.
        corpora: files of plain text, without their ending.
        evaluation: tasks of `gf eval` to run at the end; their record is evaluation.json in the run folder.
        pointer: how the pointer, or all that prefill does not read, is trained, in place of stages; all other weights
            stay those of `start`.
        max_shard_bytes: maximum size of a weight file in the model directory; None writes one file.
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
    pointer: PointerPlan | None = None

    def digest(self) -> str:
        """SHA-256 over everything that decides the weights: an interrupted run resumes with nothing else."""
        values = asdict(self) | {"model": self.model.to_dict()}
        values = values if self.pointer else {k: v for k, v in values.items() if k != "pointer"}
        return _digest({k: v for k, v in values.items() if k not in OF_NO_WEIGHT})

    def data_digest(self) -> str:
        """SHA-256 over everything that decides the batches, except the tokenizer. Models of any shape share them."""
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


@dataclass(frozen=True)
class Run:
    """One run of a recipe file, or the mean of several: a recipe without stages.

    Attributes:
        name: of the run and of its folder; "" for the only run of a file.
        recipe: what to train.
        after: names of the runs whose models it starts from; none where `recipe.start` says it.
    """

    name: str
    recipe: Recipe
    after: tuple[str, ...] = ()

    def folder(self, root: Path) -> Path:
        """Where the run keeps its files; the only run of a file has no folder of its own."""
        return root / self.name


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file of one run.

    Raises:
        ConfigError: not TOML, an unknown key, a value out of range, or several runs.
    """
    runs = read_runs(path)
    if len(runs) > 1:
        raise ConfigError(f"the recipe {path} has {len(runs)} runs, allowed here: one")
    return runs[0].recipe


def read_runs(path: Path) -> tuple[Run, ...]:
    """Read a recipe file: its runs and means in the order in which they are made. The last one is the result.

    Raises:
        ConfigError: not TOML, an unknown key or run, or a value out of range.
    """
    try:
        values = read_toml(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error}") from error
    runs, means = _tables(values.pop("run", []), "run"), _tables(values.pop("mean", []), "mean")
    if not runs and not means:
        return (Run("", _recipe(path, values)),)
    if not runs or "stage" in values:
        raise ConfigError(f"the recipe {path} needs [[run]] tables, and its stages in them as [[run.stage]]")
    return _in_order(path, values, runs, means)


def _tables(value: object, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ConfigError(f"{name} in a recipe is {value!r}, allowed: [[{name}]] tables")
    return [dict(table) for table in value]


def _in_order(
    path: Path, common: dict[str, Any], runs: list[dict[str, Any]], means: list[dict[str, Any]]
) -> tuple[Run, ...]:
    """Runs in the order of the file, each mean as soon as its members are made."""
    _check_tables(path, runs, means)
    made: dict[str, Run] = {}
    first_start, evaluation = common.pop("start", []), common.pop("evaluation", [])

    def add(table: dict[str, Any], after: tuple[str, ...]) -> None:
        name = table.pop("name")
        missing = [other for other in after if other not in made]
        if missing:
            raise ConfigError(f"{name} starts from {missing[0]!r}, allowed: {', '.join(made) or 'nothing yet'}")
        start = [f"{other}:{made[other].recipe.digest()}" for other in after] or first_start
        model = {**_table(common, "model"), **_table(table, "model")}
        last = len(made) + 1 == len(runs) + len(means)
        values = {**common, **({"evaluation": evaluation} if last else {}), **table, "model": model, "start": start}
        made[name] = Run(name, _recipe(path, values), after)

    waiting = [(mean, _names(mean.pop("of"), "of")) for mean in means]
    before: tuple[str, ...] = ()
    for table in runs:
        name = table["name"]
        add(table, _names(table.pop("start"), "start") if "start" in table else before)
        before = (name,)
        for mean, of in list(waiting):
            if all(other in made for other in of):
                waiting.remove((mean, of))
                add(mean, of)
    if waiting:
        mean, of = waiting[0]
        missing = [other for other in of if other not in made]
        raise ConfigError(f"the mean {mean['name']!r} is of {missing[0]!r}, allowed: runs, and means before it")
    return tuple(made.values())


def _check_tables(path: Path, runs: list[dict[str, Any]], means: list[dict[str, Any]]) -> None:
    """Check that every run and every mean has its own name, and what else it must have."""
    names = [table.get("name") for table in (*runs, *means)]
    for name in names:
        if not _is_folder_name(name) or names.count(name) > 1:
            raise ConfigError(f"name of a run in {path} is {name!r}, allowed: a folder name that no other run has")
    for table in runs:
        if not table.get("stage") and "pointer" not in table:
            raise ConfigError(f"the run {table['name']!r} in {path} has no [[run.stage]]")
    for mean in means:
        if "of" not in mean or set(mean) - {"name", "of", "model"}:
            raise ConfigError(f"a [[mean]] in {path} has {', '.join(mean)}, allowed: name, of and model")
        if unknown := set(_names(mean["of"], "of")) - set(names):
            raise ConfigError(f"the mean {mean['name']!r} is of {min(unknown)!r}, allowed: names of runs and means")


def _names(value: object, key: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{key} is {value!r}, allowed: names of runs")
    return tuple(names)


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    table = values.get(key, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{key} is {table!r}, allowed: a table")
    return table


def _recipe(path: Path, values: dict[str, Any]) -> Recipe:
    """The recipe of one run from the values in its file."""
    values = dict(values)
    model, stages = values.pop("model", {}), values.pop("stage", [])
    if not isinstance(model, dict) or not isinstance(stages, list) or not all(isinstance(s, dict) for s in stages):
        raise ConfigError(f"the recipe {path} needs [model] as a table and [[stage]] as tables")
    model = dict(model)
    preset = model.pop("preset", "goldfinch-small")
    if preset not in list(presets()):
        raise ConfigError(f"unknown preset {preset!r}", hint="known: " + ", ".join(sorted(presets())))
    values["model"] = ModelConfig.from_dict(presets()[preset].to_dict() | model)
    values["stages"] = tuple(map(_stage, stages))
    if "pointer" in values:
        values["pointer"] = read_plan(_table(values, "pointer"), bool(values["model"].pointer_width and not stages))
    if isinstance(values.get("start"), str):
        values["start"] = [values["start"]]
    for name in ("betas", "corpora", "evaluation", "start"):
        if name in values:
            values[name] = _tuple(name, values[name])
    if "tokenizer" not in values:
        hint = 'name a tokenizer.json, or train one on the corpora: tokenizer = ""'
        raise ConfigError(f"the recipe {path} has no tokenizer", hint=hint)
    recipe = from_fields(Recipe, values, f"the recipe {path}")
    _check_values(recipe)
    strange = sorted(set(recipe.evaluation) - set(TASKS))
    if strange:
        raise ConfigError(f"unknown task {strange[0]!r} in evaluation", hint="known: " + ", ".join(TASKS))
    if not recipe.stages and not recipe.start:
        raise ConfigError(f"the recipe {path} has no [[stage]], and no start whose weights it could write")
    return recipe


def _tuple(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{name} is {value!r}, allowed: a list")
    return tuple(value)


def _check_values(recipe: Recipe) -> None:
    def demand(holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise ConfigError(f"{name} is {getattr(recipe, name)!r}, allowed: {allowed}")

    demand(_is_folder_name(recipe.name), "name", "the name of a folder inside the run folder")
    for name, words in (("optimizer", ("adamw", "muon")), ("precision", (*PRECISIONS, AUTO))):
        demand(getattr(recipe, name) in words, name, " or ".join(words))
    for name in ("learning_rate", "final_learning_rate", "weight_decay", "muon_momentum", "clip_norm", "answer_weight",
                 "question_weight", "save_seconds"):  # fmt: skip
        demand(_is_number(getattr(recipe, name)), name, "a number from 0 on")
    for name in ("decay_share", "absent_questions", "keep_unanswerable", "wrapped"):
        demand(_is_number(getattr(recipe, name), 1), name, "a share from 0 to 1")
    demand(
        len(recipe.betas) == 2 and all(_is_number(b, 1) and b < 1 for b in recipe.betas),
        "betas",
        "two numbers from 0 on, below 1",
    )
    for name in ("warmup_steps", "seed"):
        value = getattr(recipe, name)
        demand(_is_count(value, 0) and value < 1 << 63, name, "a whole number from 0 on, below 2^63")
    for name in ("varied_phrasings", "packed"):
        demand(isinstance(getattr(recipe, name), bool), name, "true or false")
    for name in ("corpora", "evaluation", "start"):
        demand(all(map(is_path, getattr(recipe, name))), name, "a list of names")
    demand(recipe.tokenizer == "" or is_path(recipe.tokenizer), "tokenizer", "a file name, or nothing")
    most = recipe.max_shard_bytes
    demand(most is None or _is_count(most), "max_shard_bytes", "a number of bytes from 1 on")


def _is_folder_name(value: object) -> bool:
    return is_path(value) and value == Path(str(value)).name and value not in ("", "..")


def _is_number(value: object, most: float = math.inf) -> bool:
    """From 0 to `most`; true and false are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most and value < math.inf


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _stage(values: dict[str, Any]) -> Stage:
    values = dict(values)
    if "facts" in values:
        values["facts"] = _tuple("facts", values["facts"])
    stage = from_fields(Stage, values, "a [[stage]] in the recipe")
    for name in ("tokens", "sequence", "batch"):
        if not _is_count(getattr(stage, name)):
            raise ConfigError(f"{name} of a [[stage]] is {getattr(stage, name)!r}, allowed: a whole number from 1 on")
    if stage.sequence * stage.batch > MOST_STEP_TOKENS or stage.tokens > MOST_TOKENS:
        found = f"sequence {stage.sequence:,}, batch {stage.batch:,} and tokens {stage.tokens:,}"
        raise ConfigError(
            f"a [[stage]] has {found:.120}, allowed: {MOST_STEP_TOKENS:,} tokens a step, {MOST_TOKENS:,} in all"
        )
    shares = list(stage.mixture.values()) if isinstance(stage.mixture, dict) else []
    if not all(map(_is_number, shares)) or sum(shares) <= 0:
        raise ConfigError(
            f"mixture of a [[stage]] is {stage.mixture!r}, allowed: a table of tasks with weights from 0 on, not all 0"
        )
    if (
        len(stage.facts) != 2
        or not all(map(_is_count, stage.facts))
        or not (stage.facts[0] <= stage.facts[1] <= MOST_FACTS)
    ):
        found = f"{list(stage.facts)!r:.80}, allowed: the fewest and the most, from 1 to {MOST_FACTS:,}"
        raise ConfigError(f"facts of a [[stage]] is {found}")
    return stage
