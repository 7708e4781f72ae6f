"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import gfkernels.threads  # noqa: F401

import pytest
import torch
from gfkernels.native import build

# Without a GPU the Triton kernels run in its interpreter, which has to be chosen before anything imports triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

WORKERS = 4
# Files, or folders of them, of minutes.
LONG = (
    "attack/", "kernels/test_aot_triton.py", "gfcli/test_endless_files.py", "gfcli/test_process.py", "test_main_job.py",
    "goldfinch/backends/triton/", "goldfinch/caching/test_journal.py", "goldfinch/foreign/test_strange_folders.py",
)  # fmt: skip
HERE = Path(__file__).parent
SMALL_GOLDEN = HERE / "golden"
SAMPLES = HERE.parent / "docs" / "samples"


def golden_folders() -> dict[str, Path]:
    """Golden sets by name: those in the tree, and the full set where GF_GOLDEN_DIR points at it."""
    roots = [SMALL_GOLDEN]
    if os.environ.get("GF_GOLDEN_DIR"):
        roots.append(Path(os.environ["GF_GOLDEN_DIR"]))
    return {path.parent.name: path.parent for root in reversed(roots) for path in sorted(root.glob("*/config.json"))}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs in as many processes as there are cores, at most WORKERS, which share the cores.

    Files that are named, -n, --pdb and -s leave it to pytest: one process, unless -n says something else.
    """
    if "PYTEST_XDIST_WORKER" in os.environ or not config.pluginmanager.hasplugin("xdist"):
        return  # one of these processes itself, whose settings look like those of the first
    option, cores = config.option, len(os.sched_getaffinity(0))
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    is_free = option.numprocesses is None and option.dist == "no" and option.capture != "no" and not option.usepdb
    if is_whole and is_free and cores > 1:
        option.numprocesses, option.dist, option.loadscopereorder = min(WORKERS, cores), "loadfile", False
        os.environ.setdefault("OMP_NUM_THREADS", str(cores // option.numprocesses))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Ctrl-C ends the run, also where the command line under test makes an exit code of it.

    A shell that ignores it for jobs in the background would hand that down to the commands that tests interrupt.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        session.shouldstop = "Ctrl-C"
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Last, one of these would be waited for by the other processes.
    items.sort(key=lambda item: not str(item.path).removeprefix(f"{HERE}/").startswith(LONG))
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With GF_TEST_TABLE=1 (make test-gpu): outcomes by test function, a line each."""
    if os.environ.get("GF_TEST_TABLE") != "1":
        return
    counts: dict[str, dict[str, int]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            name = report.nodeid.split("[")[0].removeprefix("tests/")
            row = counts.setdefault(name, {})
            row[outcome] = row.get(outcome, 0) + 1
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "Triton's interpreter"
    terminalreporter.section(f"on {device}, torch {torch.__version__}")
    for name, row in sorted(counts.items()):
        terminalreporter.write_line(f"{name:<84} {', '.join(f'{n} {outcome}' for outcome, n in row.items())}")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is noted in the user's private cache, not by fixtures either that serve all tests.

    The compiled kernels alone are taken from there, and built there where they are missing: once, not by each run.
    """
    kept = Path("none" if build.unavailable() else build.loaded().place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("xdg-cache")))
        if kept.is_file():
            build.folder_path().mkdir(mode=0o700)
            for path in (kept, kept.with_suffix(".sha256")):
                shutil.copy(path, build.folder_path())
        yield


@pytest.fixture(autouse=True)
def _nothing_measured(_own_cache: None) -> Iterator[None]:
    """What a test measures of a model decides nothing in the next one."""
    from goldfinch.policies.measured import OWN_RECORD

    place = Path(os.environ["XDG_CACHE_HOME"])
    yield
    for record in place.rglob(OWN_RECORD):
        record.unlink()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or touches the user's models, caches or settings."""
    monkeypatch.setenv("GF_MODELS_DIR", str(tmp_path / "user-models"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))
    # A library of its own; the compiled kernels are the user's, so that they are built once.
    monkeypatch.setenv("GF_CACHE_DIR", str(tmp_path_factory.mktemp("user-cache")))
    for variable in ("GF_KERNELS", "GF_MODEL", "GF_DEVICE", "GF_DTYPE", "GF_CHECKPOINTS", "GF_MEMORY", "GF_MAX_TOKENS"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("GF_CACHE_MAX_SIZE", "GF_READ", "GF_READ_BLOCKS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Model directory of a golden set, made by the real importer through the command line."""
    from gfcli.app import run

    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = golden_folders()[name]
            out = tmp_path_factory.mktemp("imported") / name
            arguments = ["model", "import", str(folder / "weights.safetensors")]
            assert run([*arguments, "--config", str(folder / "config.json"), "-o", str(out)]) == 0
            made[name] = out
        return made[name]

    return make


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE with 300 entries, trained on a shipped sample."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([(SAMPLES / "us-constitution.txt").read_text()], trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Path) -> Path:
    """Directory of a tiny random GoldFinch with a tokenizer."""
    from goldfinch.weights.writing import init_model

    out = tmp_path_factory.mktemp("models") / "tiny"
    init_model("goldfinch-tiny", 1, out, tiny_tokenizer)
    return out


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Path) -> Path:
    """The same shape and tokenizer, other weights."""
    from goldfinch.weights.writing import init_model

    out = tmp_path_factory.mktemp("models") / "other"
    init_model("goldfinch-tiny", 2, out, tiny_tokenizer)
    return out
