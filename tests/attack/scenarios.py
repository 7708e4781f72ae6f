"""Commands that write, each with the world that it runs in."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.attack.commands import Commands, Done
from tests.goldfinch.train.records import write_records

# Runs a command that has to succeed, in the folder of the scenario.
Must = Callable[..., Done]


@dataclass(frozen=True)
class Scenario:
    """A command and what there is before.

    Attributes:
        name: of the scenario.
        prepare: fills a folder, with commands that have to succeed.
        command: what is stopped or fails.
        again: what mends it: by default the same.
        already: words of `again` that say that all was done before it was stopped.
        is_whole: what there is in the end is what one whole run gives.
        same: a pattern of files that are byte by byte those of a whole run, or not there.
        loaded: modules that the command imports, which take seconds.
        is_long: too long for all of its calls: each kind of call (name and path) fails where it comes first, in the
            middle and last. What is left out are the other ones of a kind: blocks of one file.
    """

    name: str
    prepare: Callable[[Path, Must], None]
    command: tuple[str, ...]
    again: tuple[str, ...] = ()
    already: str = ""
    is_whole: bool = True
    same: str = "nothing"
    loaded: tuple[str, ...] = ()
    is_long: bool = False


def words(count: int, seed: int) -> str:
    """A text that differs by seed."""
    draw = random.Random(seed)
    known = [
        "harbour",
        "river",
        "garden",
        "tower",
        "market",
        "bridge",
        "castle",
        "meadow",
        "orchard",
        "village",
        "forest",
        "island",
        "valley",
    ]
    return "".join(draw.choice(known) + (".\n" if n % 9 == 8 else " ") for n in range(count))


def _document(folder: Path, must: Must) -> None:
    (folder / "doc.txt").write_text(words(200, 1))


def _grown(folder: Path, must: Must) -> None:
    _document(folder, must)
    must("prefill", "doc.txt", "--checkpoints", "64", "-q")
    (folder / "doc.txt").write_text(words(200, 1) + words(40, 2))
    (folder / "more.txt").write_text(words(40, 3))


def _children(folder: Path, must: Must) -> None:
    (folder / "doc.txt").write_text(words(400, 1))
    must("prefill", "doc.txt", "--checkpoints", "512", "-q")
    (folder / "ch1.txt").write_text(words(60, 4))
    must("prefill", "--base", "doc.gfc", "ch1.txt", "-q")


def _stale_children(folder: Path, must: Must) -> None:
    _children(folder, must)
    (folder / "doc.txt").write_text(words(400, 1) + words(30, 5))


def _library(folder: Path, must: Must) -> None:
    for n in range(3):
        (folder / f"d{n}.txt").write_text(words(90, n))
    must("prefill", "--library", "d0.txt", "d1.txt", "d2.txt", "-q")
    must("cache", "pin", "d0.txt")
    must("cache", "tag", "--add", "kb", "d0.txt", "d1.txt")
    (folder / "new.txt").write_text(words(90, 7))


def _copies(folder: Path, must: Must) -> None:
    _library(folder, must)
    must("prefill", "new.txt", "-q")


def _orphans(folder: Path, must: Must) -> None:
    (folder / "docs").mkdir()
    for n in range(2):
        (folder / f"docs/d{n}.txt").write_text(words(90, n))
    must("prefill", "-r", "docs", "-q")
    for n in range(2):
        (folder / f"docs/d{n}.txt").unlink()


def _answers(folder: Path, must: Must) -> None:
    (folder / "a.txt").write_text(words(80, 1))
    must("prefill", "a.txt", "-q")
    for name, asked in (("old", ["What?"]), ("q", ["Who?", "Where?", "When?"])):
        rows = [{"id": f"{name}{n}", "question": question} for n, question in enumerate(asked)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    must("ask", "--cache", "a.gfc", "--questions", "old.jsonl", "--jsonl", "-o", "answers.jsonl", "-n", "2", "-q")


def _weights(folder: Path, must: Must) -> None:
    must("model", "init", "--preset", "goldfinch-tiny", "-o", "from")
    config = json.loads((folder / "from" / "config.json").read_text())["config"]
    (folder / "config.json").write_text(json.dumps(config))


_RECIPE = """
name = "m"
save_seconds = 0
warmup_steps = 1
corpora = ["corpus"]
tokenizer = "tokenizer.json"
model = { preset = "goldfinch-tiny", vocab_size = 300 }
[[stage]]
tokens = 128
sequence = 32
batch = 2
mixture = { text = 1.0 }
"""


def _recipe(folder: Path, must: Must) -> None:
    (folder / "recipe.toml").write_text(_RECIPE)
    shutil.copy(Path(os.environ["GF_TEST_TOKENIZER"]), folder / "tokenizer.json")
    (folder / "corpora").mkdir()
    write_records(folder / "corpora" / "corpus.jsonl.zst", [{"title": str(n), "text": words(90, n)} for n in range(9)])


def _gguf(folder: Path, must: Must) -> None:
    from bench.others.tiny_models import config_json
    from goldfinch.foreign import library
    from goldfinch.foreign.configuration import clean_config
    from tests.goldfinch.foreign.gguf_files import write_gguf

    config = config_json("llama") | {"vocab_size": 263, "tie_word_embeddings": True}
    write_gguf(folder / "tiny.gguf", config, library.published_tensors(library.random_network(clean_config(config))))


def _model(folder: Path, must: Must) -> None:
    must("model", "init", "--preset", "goldfinch-tiny", "-o", "m")


def _converted(folder: Path, must: Must) -> None:
    _document(folder, must)
    must("prefill", "doc.txt", "--checkpoints", "64", "-q")


_FOREIGN = (
    "transformers.models.llama.modeling_llama", "transformers.modeling_gguf_pytorch_utils", "gguf", "jinja2.sandbox",
)  # fmt: skip
_TRAIN = ("train", "recipe.toml", "-o", "run", "--data", "corpora", "--device", "cpu", "--no-compile", "-q")
_ASK = ("ask", "--cache", "a.gfc", "--questions", "q.jsonl", "--jsonl", "-o", "answers.jsonl", "-n", "2", "-q")
_EXISTS = "exists"
_GONE = "no such cache"
SCENARIOS = [
    Scenario("prefill", _document, ("prefill", "doc.txt", "--checkpoints", "64", "-q")),
    Scenario("prefill stale", _grown, ("prefill", "doc.txt", "--checkpoints", "64", "-q")),
    Scenario("append", _grown, ("append", "doc.gfc", "more.txt", "-q", "-o", "both.gfc"), already=_EXISTS),
    Scenario("flatten", _children, ("flatten", "ch1.gfc", "-o", "whole.gfc"), already=_EXISTS),
    Scenario("prefill --base", _children, ("prefill", "--base", "doc.gfc", "more.txt", "ch1.txt", "-q", "--force"), is_whole=False),
    Scenario("refresh", _stale_children, ("refresh", ".", "-q")),
    Scenario("ask miss", _library, ("ask", "new.txt", "What?", "-n", "1", "-q")),
    Scenario("ask hit", _library, ("ask", "d1.txt", "What?", "-n", "1", "-q")),
    Scenario("prefill --library", _library, ("prefill", "--library", "new.txt", "d1.txt", "-q")),
    Scenario("cache import", _copies, ("cache", "import", "new.gfc", "-q")),
    Scenario("cache rm", _library, ("cache", "rm", "d2.txt", "-y", "-q"), ("cache", "prune", "-y", "-q"), is_whole=False),
    Scenario("cache pin", _library, ("cache", "pin", "d1.txt")),
    Scenario("cache export", _library, ("cache", "export", "d1.txt", "-o", "ex/", "-q"), already=_EXISTS),
    Scenario("prune", _orphans, ("prune", "docs", "--orphaned", "-y", "-q")),
    Scenario("ask --questions", _answers, _ASK),
    Scenario(
        "model import", _weights,
        ("model", "import", "from/model.safetensors", "--config", "config.json", "-o", "models/m"), already=_EXISTS,
    ),
    Scenario("model set", _model, ("model", "set", "m", "template.question_suffix=?")),
    Scenario(
        "model import gguf", _gguf, ("model", "import", "tiny.gguf", "-o", "models/m", "--prompt", "plain"), already=_EXISTS,
        is_long=True, loaded=_FOREIGN,
    ),
    Scenario("convert", _converted, ("convert", "doc.gfc", "--codec", "step3", "-o", "small.gfc"), already=_EXISTS),
    Scenario(
        "train --write-shards", _recipe, ("train", "recipe.toml", "-o", "shards", "--data", "corpora", "--write-shards", "-q"),
        same="shards/*",
    ),
    Scenario("train", _recipe, _TRAIN, is_long=True),
    Scenario(
        "bench methods", lambda folder, must: None,
        ("bench", "methods", "--methods", "int8", "--tasks", "needles-7", "--lengths", "500",
         "--questions", "2", "--budget", "0", "-o", "report", "-q"),
        is_long=True, loaded=("jinja2", "goldfinch.compare.run", "gfcli.commands.bench.methods"),
    ),
    Scenario("model init", lambda folder, must: None, ("model", "init", "--preset", "goldfinch-tiny", "-o", "m"), already=_EXISTS),
]  # fmt: skip


def prepared(scenario: Scenario, folder: Path, gf: Commands) -> None:
    """Make the world of a scenario in a folder."""

    def must(*arguments: str) -> Done:
        done = gf(*arguments, cwd=folder, GF_CACHE_DIR=str(folder / "cache"))
        assert done.code == 0, (arguments, done)
        return done

    scenario.prepare(folder, must)
