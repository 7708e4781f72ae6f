"""Users without HOME and without an entry in the list of users: everything works, or says in a sentence what it needs."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from gfcache.files.places import expanded, user_folder

from gfcli.app import run
from tests.gfcli.conftest import TEXT

# A user who is in no list: what the system says of one.
NOBODY = """
import json, pwd, sys
def getpwuid(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = getpwuid
from gfcli.app import run
print(json.dumps([run(line) for line in json.loads(sys.argv[1])]), file=sys.__stderr__)
"""
LIGHT = (
    ["--help"],
    ["config", "show", "--origin"],
    ["model", "list"],
    ["cache", "ls"],
    ["cache", "du"],
    ["cache", "prune", "-y"],
)
HEAVY = (
    ["ask", "doc.txt", "-n", "1", "x"],
    ["ask", "doc.txt", "--require-cached", "-n", "1", "x"],
    ["prefill", "doc.txt", "-q"],
)
FILES = (["status"], ["inspect", "doc.gfc"], ["verify", "doc.gfc"], ["cache", "import", "doc.gfc"], ["cache", "ls"])  # fmt: skip


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_a_user_without_a_home(home: str | None, tmp_path: Path, tiny_model: Path) -> None:
    work, temporary = tmp_path / "work", tmp_path / "tmp"
    work.mkdir()
    temporary.mkdir()
    (work / "doc.txt").write_text(TEXT[:600])
    # What a stranger would leave: folders that are called as those of a user whose home is not known.
    for place in ("~/.config/gf", "relative/.config/gf"):
        (work / place).mkdir(parents=True)
        (work / place / "config.toml").write_text("max_tokens = broken")
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("XDG_", "GF_")) and n != "HOME"}
    environment = kept | {"GF_KERNELS": "torch", "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"GF_MODEL": str(tiny_model)} | ({} if home is None else {"HOME": home})
    lines = [*LIGHT, *HEAVY, *FILES] if home is None else [*LIGHT]
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, json.dumps(lines)],
        capture_output=True, text=True, check=False, cwd=work, env=environment,
    )  # fmt: skip
    assert json.loads(done.stderr.splitlines()[-1]) == [0] * len(lines), done.stderr
    assert "Traceback" not in done.stderr
    made = {"doc.gfc"} if home is None else set()
    if home is None:
        (own,) = temporary.glob("gf-*")
        assert own.stat().st_mode & 0o777 == 0o700
        assert list(own.glob("cache/gf/library/*/*.gfc"))
    assert {path.name for path in work.iterdir()} == made | {"doc.txt", "relative", "~"}
    assert len(list(work.glob("~/**/*"))) == len(list(work.glob("relative/**/*"))) == 3


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No home here; the folder that takes its place, not made yet."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "GF_CACHE_DIR", "GF_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"gf-{os.geteuid()}"


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_others_made_first_is_not_taken(kind: str, homeless: Path, capsys) -> None:
    if kind == "open":
        homeless.mkdir()
        homeless.chmod(0o777)
    elif kind == "link":
        homeless.symlink_to(homeless.parent)
    else:
        homeless.write_text("")
    assert run(["config", "show"]) == 8
    err = capsys.readouterr().err
    assert str(homeless) in err
    assert "set HOME or XDG_CONFIG_HOME" in err


def test_a_tilde_that_leads_nowhere_is_said(homeless: Path, monkeypatch, capsys) -> None:
    assert user_folder("config", "gf") == homeless / "config" / "gf"
    with pytest.raises(FileNotFoundError, match="set HOME"):
        expanded("~/x")
    for variable in ("GF_CACHE_DIR", "GF_MODELS_DIR", "GF_MODEL", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, "~/x")
        assert run(["config", "show"]) == 4
        assert "no home folder is known for ~: set HOME" in capsys.readouterr().err
        monkeypatch.delenv(variable)
    assert run(["model", "show", "~/x"]) == 4
    assert run(["model", "show", "~nobody-of-this-name/x"]) == 4


def test_relative_folders_of_variables_are_not_those_of_the_current_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    assert user_folder("config", "gf").is_relative_to(tmp_path)
    assert os.environ["XDG_CONFIG_HOME"] == "config"
