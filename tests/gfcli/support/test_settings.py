"""Settings, gf config, gf plan, gf completion, -v."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gfcache
import jsonschema
import pytest

import goldfinch
from gfcli.app import run
from gfcli.support import settings_files, values
from goldfinch.measure import profile
from goldfinch.measure.profile import profile_path
from tests.conftest import SAMPLES
from tests.schemas import schema

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()


@pytest.fixture
def project(tmp_path: Path, named_model: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "project" / "sub"
    work.mkdir(parents=True)
    (tmp_path / "xdg-config" / "gf").mkdir(parents=True)
    monkeypatch.chdir(work)
    (work / "doc.txt").write_text(TEXT[:3000])
    return work


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["config", "show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("config-show"))
    settings: dict[str, Any] = found["settings"]
    return settings


@pytest.mark.usefixtures("project")
def test_a_share_is_a_number(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(capsys)["least_likelihood"]["value"] is None
    monkeypatch.setenv("GF_LEAST_LIKELIHOOD", "0.5")
    assert shown(capsys)["least_likelihood"]["value"] == 0.5


def test_flag_over_environment_over_project_over_user_over_default(project: Path, capsys, monkeypatch) -> None:
    user, own = project.parents[1] / "xdg-config/gf/config.toml", project.parent / "gf.toml"
    assert shown(capsys)["max_tokens"] == {"value": 128, "origin": "default", "place": None}
    user.write_text('max_tokens = 7\ncheckpoints = "none"\n[cache]\nmax_size = "1g"\n')
    assert shown(capsys)["max_tokens"] == {"value": 7, "origin": "user", "place": str(user)}
    own.write_text('max_tokens = 5\nmodel = "tiny"\n')
    found = shown(capsys)
    assert found["max_tokens"] == {"value": 5, "origin": "project", "place": str(own)}
    assert found["checkpoints"]["origin"] == "user"
    assert found["cache.max_size"]["value"] == "1g"

    def generated(*arguments: str) -> int:
        assert run(["ask", "doc.txt", "--json", "--raw", *arguments, "zzz"]) == 0
        return int(json.loads(capsys.readouterr().out)["generated_tokens"])

    assert generated() == 5
    monkeypatch.setenv("GF_MAX_TOKENS", "3")
    assert shown(capsys)["max_tokens"] == {"value": 3, "origin": "environment", "place": "GF_MAX_TOKENS"}
    assert generated() == 3
    assert generated("-n", "2") == 2
    assert run(["config", "show", "--origin"]) == 0
    assert "environment (GF_MAX_TOKENS)" in capsys.readouterr().out
    assert run(["config", "show"]) == 0


def test_broken_settings_leave_help_and_completion(project: Path, capsys) -> None:
    (project / "gf.toml").write_text("max_tokens = \n")
    for arguments in (["--help"], ["--version"], ["prefill", "--help"], ["cache", "ls", "-h"], ["completion", "bash"]):
        assert run(arguments) == 0
        assert capsys.readouterr().out
    assert run(["config", "show"]) == 2
    assert "gf.toml" in capsys.readouterr().err


def test_folders_of_a_file_are_relative_to_it(project: Path, capsys, monkeypatch) -> None:
    own = project.parents[1] / "xdg-config/gf/config.toml"
    own.write_text('model = "tiny"\n[cache]\ndir = "caches"\n')
    monkeypatch.setenv("GF_KERNELS", "torch")
    monkeypatch.delenv("GF_CACHE_DIR")
    caches = str(own.parent / "caches")
    assert shown(capsys)["cache.dir"] == {"value": caches, "origin": "user", "place": str(own)}
    assert run(["ask", "doc.txt", "-n", "2", "--json", "What?"]) == 0
    assert json.loads(capsys.readouterr().out)["library"]["path"].startswith(f"{caches}/library")
    assert "GF_CACHE_DIR" not in os.environ


def test_a_model_of_the_settings_does_not_push_aside_that_of_a_cache(project: Path, other_model: Path, capsys) -> None:
    assert run(["prefill", "doc.txt", "-m", "tiny", "--dtype", "bfloat16", "-q"]) == 0
    (project.parents[1] / "xdg-config/gf/config.toml").write_text(f'model = "{other_model}"\ndtype = "float64"\n')
    capsys.readouterr()
    assert run(["ask", "--cache", "doc.gfc", "-n", "2", "What?"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["prefill", "doc.txt", "-o", "other.gfc", "-q"]) == 0
    found = gfcache.inspect_cache("other.gfc")
    assert found["numerics"]["compute_dtype"] == "f64"
    assert found["model"]["model_fingerprint"] == goldfinch.load_model(other_model).card.model_fingerprint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_token = 3", "did you mean max_tokens?"), ("colour = 1", "known settings"), ("max_tokens = 0", "1 or more"),
        ("max_tokens = true", "1 or more"), ('device = "tpu"', "cuda:N"), ('dtype = "int3"', "bfloat16"), ("memory = [1]", "a size"),
        ('[cache]\nmax_size = "lots"', "a size"), ('checkpoints = "often"', "none, auto"), ("model = 3", "a text"), ("= bad", "cannot be read"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named_with_their_place(project: Path, capsys, text: str, words: str) -> None:
    own = project.parents[1] / "xdg-config/gf/config.toml"
    own.write_text(text)
    assert run(["config", "show"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(own) in err
    assert words in err
    assert "Traceback" not in err


def test_project_files_are_looked_for_up_to_the_repository(project: Path) -> None:
    (project.parents[1] / "gf.toml").write_text("max_tokens = 9")
    assert settings_files.project_file() == project.parents[1] / "gf.toml"
    (project.parent / ".git").mkdir()
    assert settings_files.project_file() is None


@pytest.mark.usefixtures("project")
def test_settings_of_the_environment_are_checked(capsys, monkeypatch) -> None:
    monkeypatch.setenv("GF_MAX_TOKENS", "few")
    assert run(["cache", "ls"]) == 2
    assert "GF_MAX_TOKENS" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("checkpoints", ["none", "auto", "512"])
def test_planned_bytes_are_those_of_the_file(project: Path, capsys, monkeypatch, dtype: str, checkpoints: str) -> None:
    monkeypatch.setenv("GF_MODEL", "tiny")
    (project / "long.txt").write_text(TEXT[:9000])
    options = ["--dtype", dtype, "--checkpoints", checkpoints]
    assert run(["plan", "doc.txt", "long.txt", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("plan"))
    assert run(["prefill", "doc.txt", "long.txt", *options, "-q"]) == 0
    for row in found["documents"]:
        file = Path(row["source"]).with_suffix(".gfc")
        assert abs(row["bytes"] - file.stat().st_size) <= 0.01 * file.stat().st_size
        assert row["tokens"] == gfcache.inspect_cache(file)["tokens"]
    assert found["bytes"] == sum(row["bytes"] for row in found["documents"])


def test_a_plan_writes_nothing_measures_once_and_knows_the_cap(project: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("GF_MODEL", "tiny")
    monkeypatch.setenv("GF_CACHE_MAX_SIZE", "10k")
    monkeypatch.setattr(profile, "_LEAST_CPU_SHARE", 0.0)  # as on a machine that does nothing else
    assert run(["plan", "doc.txt", "absent.txt"]) == 3
    out, err = capsys.readouterr()
    assert "measured this machine" in err
    assert "absent.txt" in err
    assert "does not fit" in out
    assert [path.name for path in project.iterdir()] == ["doc.txt"]
    first = profile_path().read_text()
    assert run(["plan", "doc.txt", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert profile_path().read_text() == first
    assert run(["plan", "absent.txt"]) == 4  # one document, as in gf prefill
    assert capsys.readouterr().out == ""
    assert json.loads(out)["fits_library"] is False
    profile_path().write_text("damaged")
    assert run(["plan", "-r", ".", "--measure"]) == 0
    assert json.loads(profile_path().read_text())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys, tmp_path: Path) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_GF_COMPLETE" in script
    if shell == "bash":
        (tmp_path / "script").write_text(script)
        subprocess.run(["bash", "-n", str(tmp_path / "script")], check=True)


def test_completion_completes() -> None:
    environment = os.environ | {"COMP_WORDS": "gf cac", "COMP_CWORD": "1", "_GF_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-m", "gfcli"], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["cache"]


def test_an_unknown_shell() -> None:
    assert run(["completion", "tcsh"]) == 2


@pytest.mark.usefixtures("project")
def test_verbose_says_what_was_found(capsys, monkeypatch) -> None:
    monkeypatch.setenv("GF_MODEL", "tiny")
    for state in ("miss", "hit"):
        assert run(["ask", "doc.txt", "-v", "-n", "2", "What?"]) == 0
        said = capsys.readouterr().err
        assert f"library: {state}" in said
        assert "keys and values of the document are kept" in said


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("command", [["doctor"], ["eval", "--data", "."], ["train", "recipe.toml", "-o", "run"]])
def test_the_device_is_that_of_every_command_that_has_one(command: list[str], capsys, monkeypatch) -> None:
    recipe = (
        '[model]\npreset = "goldfinch-tiny"\n[[stage]]\ntokens = 1\nsequence = 8\nbatch = 1\nmixture = { text = 1.0 }\n'
    )
    Path("recipe.toml").write_text('name = "toy"\ntokenizer = ""\n' + recipe)
    monkeypatch.setenv("GF_DATA_DIR", ".")
    monkeypatch.setenv("GF_DEVICE", "cuda:7")
    assert run(command) == 8
    assert "cuda:7" in capsys.readouterr().err


def test_a_model_named_by_its_folder_lies_where_the_file_says(project: Path, tiny_model: Path, capsys) -> None:
    own = project.parents[1] / "xdg-config/gf/config.toml"
    (own.parent / "mine").symlink_to(tiny_model)
    own.write_text('model = "./mine"\n')
    assert shown(capsys)["model"]["value"] == str(own.parent / "mine")
    assert run(["prefill", "doc.txt", "-q"]) == 0


@pytest.mark.parametrize("text", ["cuda:99999999999999999999", "cuda:1000", "cuda:٣", "cuda:-1", "cuda: 1", "mps"])
def test_a_device_has_a_number_that_devices_have(text: str) -> None:
    """Of twenty digits torch made an error of ours, and a project's gf.toml may say it."""
    with pytest.raises(ValueError, match="cuda:N"):
        values.device(text)
    assert values.device("cuda:127") == "cuda:127"
