"""gf ask without torch: it is not loaded, and the answers are those with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gfcache
import gfkernels
import numpy as np
import pytest
from gfkernels.native.build import unavailable

import gfcli
from gfcli.app import run
from goldfinch.weights.directory import find_model
from goldfinch.weights.light import obstacle
from tests.conftest import SAMPLES

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
QUESTIONS = ("What is the code of the key cabinet?", "When was the tower built?", "Who wrote Hamlet?")
SAYING = """
import json, sys
from gfcli.app import run
codes = [run(arguments) for arguments in json.loads(sys.argv[1])]
print("torch" in sys.modules, *codes, file=sys.stderr)
"""


@pytest.fixture
def handbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """The cache of a sample document, in the current folder, made with torch."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLES / "lighthouse-handbook.txt", "handbook.txt")
    monkeypatch.setenv("GF_KERNELS", "native")
    assert run(["prefill", "handbook.txt", "-q"]) == 0
    monkeypatch.delenv("GF_KERNELS")
    capsys.readouterr()
    return tmp_path / "handbook.gfc"


def in_a_new_process(commands: list[list[str]]) -> tuple[str, str]:
    """stdout, and whether torch was loaded with the exit codes, of commands one after the other."""
    environment = {name: value for name, value in os.environ.items() if name != "GF_KERNELS"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", SAYING, json.dumps(commands)], capture_output=True, text=True, env=environment
    )
    return done.stdout, done.stderr.strip().split("\n")[-1]


def test_without_torch_installed(handbook: Path, tmp_path: Path) -> None:
    """A machine that only asks needs none; what does need it says so in a sentence."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for installed in Path(np.__file__).parents[1].iterdir():
        if not installed.name.startswith(("torch", "functorch", "triton", "nvidia")):
            (packages / installed.name).symlink_to(installed)
    ours = [str(Path(one.__file__ or "").parents[1]) for one in (gfcli, gfcache, gfkernels)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(packages), *ours])}
    found = []
    for arguments in (["ask", "--cache", handbook.name, QUESTIONS[0]], ["ask", "handbook.txt", QUESTIONS[0]]):
        command = [sys.executable, "-P", "-S", "-m", "gfcli", *arguments]
        found.append(subprocess.run(command, capture_output=True, text=True, env=environment))
    assert (found[0].returncode, found[0].stderr) == (0, "")
    assert found[0].stdout.strip()
    assert (found[1].returncode, found[1].stdout) == (2, "")
    assert found[1].stderr.startswith("error: this needs torch, which is not installed")


def with_torch(commands: list[list[str]], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GF_KERNELS", "native")
    assert [run(one) for one in commands] == [0] * len(commands)
    monkeypatch.delenv("GF_KERNELS")
    return str(capsys.readouterr().out)


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """What is printed for people of an answer: times are others, and the last digit may be."""
    del values["timings_s"]
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in values.items()}


def test_answers_are_those_with_torch(handbook: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ["ask", "--cache", handbook.name]
    plain = [[*ask, question] for question in QUESTIONS]
    plain += [
        [*ask, "--read", "all", QUESTIONS[0]],
        [*ask, "--quote", QUESTIONS[1]],
        [*ask, "--raw", "The tower", "-n", "5"],
    ]
    as_json = [[*one, "--json"] for one in plain[:4]]
    out, last = in_a_new_process(plain + as_json)
    assert last == "False " + " ".join(["0"] * 10)
    expected = with_torch(plain + as_json, capsys, monkeypatch)
    lines, other = out.strip().split("\n"), expected.strip().split("\n")
    assert lines[:-4] == other[:-4]
    assert any("4417" in line for line in lines) or len(set(lines)) > 3  # they are answers
    assert [rounded(json.loads(line)) for line in lines[-4:]] == [rounded(json.loads(line)) for line in other[-4:]]


def test_what_only_torch_does_is_done_by_torch(handbook: Path, capsys: Any) -> None:
    ask = ["ask", "--cache", handbook.name, "-v", "-n", "2"]
    for option, reason in (
        (["--temperature", "1", "--seed", "3"], "--temperature"),
        (["--cite"], "--cite"),
        (["--strict"], "another backend"),
        (["--dtype", "bfloat16"], "computes in bf16"),
        (["--memory", "1k", "--read", "all"], "bytes"),
        (["--read", "attention"], "attention"),
    ):
        assert run([*ask, *option, QUESTIONS[0]]) == 0
        err = capsys.readouterr().err
        assert "without torch" not in err
        assert "with torch: " in err
        assert reason in err
    assert run([*ask, QUESTIONS[0]]) == 0
    assert "without torch" in capsys.readouterr().err


def test_who_names_a_backend_gets_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_model(None)
    assert obstacle(card, "cpu", "f32") is None
    assert "cuda" in str(obstacle(card, "cuda", "f32"))
    monkeypatch.setenv("GF_KERNELS", "torch")
    assert "GF_KERNELS" in str(obstacle(card, "cpu", "f32"))
