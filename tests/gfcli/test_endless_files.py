"""What never ends when it is read, or leads elsewhere, in the place of every file that a command reads or writes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gfcli.app import run
from tests.endless import KINDS, put
from tests.gfcli.conftest import TEXT
from tests.goldfinch.train.records import write_records
from tests.limited import run_limited

RECIPE = """
name = "m"
corpora = ["corpus"]
tokenizer = "{tokenizer}"
model = {{ preset = "goldfinch-tiny", vocab_size = 300 }}
evaluation = ["samples"]
[[stage]]
tokens = 64
sequence = 32
batch = 2
mixture = {{ text = 1.0 }}
"""
TRAIN = ("train", "recipe.toml", "-o", "run", "--data", "corpora", "--device", "cpu", "--no-compile", "-q")
# Without GF_ATTACK=all (`make attack`), so many-th of the cases is tried: others for each kind.
SHARE = 6
# Neither 1, a bug, nor a signal.
CODES = {*range(2, 11), 0}
# Files that a command line names by X. Pipes are read where a document or a list is named, and nowhere else.
NAMED_DOCUMENTS = (
    ["prefill", "X"], ["plan", "X"], ["ask", "X", "q"], ["prefill", "--files-from", "X"], ["append", "doc.gfc", "X"],
    ["ask", "--cache", "doc.gfc", "--questions", "X"],
)  # fmt: skip
NAMED = (
    ["ask", "--cache", "X", "q"], ["ask", "--cache", "X", "--questions", "q.txt"], ["ask", "-m", "X", "doc.txt", "q"],
    ["ask", "--cache", "doc.gfc", "--questions", "q.txt", "--jsonl", "-o", "X"], ["search", "--cache", "X", "word"],
    ["prefill", "doc.txt", "-o", "X", "--force"], ["prefill", "--base", "X", "doc.txt", "-o", "y.gfc"], ["prefill", "-r", "X"],
    ["status", "X"], ["refresh", "X"], ["prune", "X", "--orphaned", "-n"], ["append", "X", "doc.txt"], ["append", "doc.gfc", "doc.txt", "-o", "X", "--force"],
    ["truncate", "X", "--to-line", "2"], ["truncate", "doc.gfc", "--to-line", "2", "-o", "X"], ["flatten", "X"], ["inspect", "X"], ["verify", "X"], ["verify", "doc.gfc", "--replay", "X"],
    ["diff", "X", "doc.gfc"], ["diff", "doc.gfc", "X"], ["cache", "import", "X"], ["cache", "export", "doc.txt", "-o", "X", "--force"],
    ["cache", "pin", "X"], ["model", "show", "X"], ["model", "verify", "X"], ["model", "measure", "X"], ["model", "set", "X"],
    ["model", "set", "X", "name=b"], ["model", "init", "-o", "X"], ["model", "init", "-o", "y", "--tokenizer", "X"], ["model", "import", "X"],
    ["model", "import", "X", "--config", "c.json", "-o", "y"], ["model", "import", "m/model.safetensors", "--config", "X", "-o", "y"],
    ["model", "import", "m/model.safetensors", "--config", "c.json", "--tokenizer", "X", "-o", "y"], ["train", "X", "-o", "run"], ["train", "recipe.toml", "-o", "X", "--data", "corpora"],
    ["train", "recipe.toml", "-o", "run", "--data", "X"], ["train", "recipe.toml", "-o", "run", "--shards", "X"], ["train", "recipe.toml", "--write-shards", "X", "--data", "corpora"],
    ["eval", "--data", "X"], ["eval", "--data", "corpora", "--task", "samples", "-o", "X"], ["bench", "load", "-o", "X"], ["doctor", "-m", "X"],
)  # fmt: skip
# Files in folders: what lies in the place of each while the commands run.
INSIDE = (
    *((f"m/{name}", line) for name in ("config.json", "model.safetensors", "tokenizer.json") for line in (
        ["ask", "-m", "./m", "doc.txt", "q"], ["model", "show", "./m"], ["model", "verify", "./m"], ["model", "set", "./m"],
        ["model", "import", "./m", "-o", "y"], ["model", "list"],
    )),
    *((f"run/{name}", [*TRAIN]) for name in (
        "checkpoint.pt", "log.jsonl", "loss.png", "tokenizer.json", "evaluation.json", ".checkpoint.pt.lock", "m/config.json", ".m.lock",
    )),
    *((f"corpora/{name}", [*TRAIN]) for name in ("corpus.jsonl.zst", "samples/questions.jsonl", "samples/doc.txt")),
    *((f"corpora/{name}", ["eval", "--data", "corpora", "--task", task]) for name, task in (
        ("samples/questions.jsonl", "samples"), ("samples/doc.txt", "samples"), ("corpus-books.jsonl.zst", "perplexity"),
        ("train_qa.jsonl.zst", "articles"), ("ordinary/questions.jsonl", "ordinary"),
    )),
    *((f"cache/{name}", line) for name in (
        "library/index.sqlite3", "library/.lock", "library/CACHEDIR.TAG", "library/words.sqlite3", "machine-profile.json",
    ) for line in (["ask", "doc.txt", "q"], ["search", "word"], ["cache", "ls"], ["cache", "prune", "-y"], ["plan", "doc.txt"])),
    *((f"data/{name}", line) for name in ("gf/known.sqlite3", "goldfinch/answers.jsonl") for line in (
        ["log"], ["log", "--clear"], ["ask", "--cache", "doc.gfc", "q"], ["status", "."],
    )),
    ("config/gf/config.toml", ["config", "show"]), ("gf.toml", ["config", "show"]),
    *((name, ["prefill", "-r", ".", "-q"]) for name in (".gitignore", "docs/.gitignore", "docs/a.gfc", "docs/.a.gfc.lock", "docs/.a.gfc.journal", "docs/a.txt")),
    *((name, line) for name in ("docs/a.gfc", "docs/.a.gfc.lock") for line in (
        ["refresh", "docs"], ["prune", "docs", "--orphaned", "-y"], ["status", "docs"], ["search", "-r", "docs", "w"], ["ask", "-r", "docs", "w"],
    )),
)  # fmt: skip


@pytest.fixture
def before(tmp_path: Path, tiny_model: Path, tiny_tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the commands need."""
    folder = tmp_path / "before"
    for name in ("doc.txt", "docs/a.txt", "corpora/samples/doc.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(TEXT[:900])
    (folder / "q.txt").write_text("What?\n")
    question = '{"file": "doc.txt", "question": "What?", "answers": ["a"]}\n'
    (folder / "corpora/samples/questions.jsonl").write_text(question)
    write_records(folder / "corpora/corpus.jsonl.zst", [{"title": str(n), "text": TEXT[:900]} for n in range(5)])
    (folder / "recipe.toml").write_text(RECIPE.format(tokenizer=tiny_tokenizer))
    shutil.copytree(tiny_model, folder / "m")
    (folder / "c.json").write_text("{}")
    monkeypatch.setenv("GF_MODELS_DIR", str(tiny_model.parent))
    monkeypatch.setenv("GF_MODEL", tiny_model.name)
    monkeypatch.setenv("GF_LOG", "1")
    monkeypatch.setenv("GF_KERNELS", "torch")
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        assert run(["prefill", "doc.txt", "docs/a.txt", "-q"]) == 0
        assert run(["prefill", "--library", "doc.txt", "-q"]) == 0
    return folder


def environment(folder: Path) -> dict[str, str]:
    names = (
        ("GF_CACHE_DIR", "cache"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_CACHE_HOME", "own"),
    )
    return {variable: str(folder / name) for variable, name in names}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_command_waits_takes_memory_or_fails_in_an_unknown_way(before: Path, tmp_path: Path, kind: str) -> None:
    cases = [("X", line) for line in (*NAMED, *(NAMED_DOCUMENTS if kind == "device" else ()))] + [*INSIDE]
    if os.environ.get("GF_ATTACK") != "all":
        cases = cases[[*KINDS].index(kind) :: SHARE]
    places = []
    for n, (name, _) in enumerate(cases):
        world = tmp_path / f"world{n}"
        shutil.copytree(before, world, symlinks=True)
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        put(world / name, kind)
        places.append((world, environment(world)))
    (tmp_path / "out").mkdir()
    ended = run_limited([line for _, line in cases], tmp_path / "out", ["goldfinch.evaluate.tasks"], places)
    found = [
        f"{name}: {' '.join(line)}: exit {one.code}: {one.err[-300:]}"
        for (name, line), one in zip(cases, ended, strict=True)
        if one.code not in CODES or "Traceback" in one.err
    ]
    assert found == []
