"""Python files of the current folder, which a stranger may have made, run in no process that gf starts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from gfcli.app import run
from goldfinch.train.trainer import keep_compiled_steps_private


def test_no_module_of_the_current_folder_is_imported(work: Path) -> None:
    for name in ("torch", "numpy", "goldfinch", "gfcli", "json", "sitecustomize"):
        (work / f"{name}.py").write_text("open('ran', 'w')\nraise SystemExit(1)\n")
    assert run(["bench", "load", "--repeats", "1"]) == 0
    assert not (work / "ran").exists()


def test_compiled_steps_are_kept_among_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    keep_compiled_steps_private()
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder == tmp_path / "cache/gf/torchinductor"
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    keep_compiled_steps_private()
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder.name.startswith("gf-torchinductor-")
    assert folder.parent == Path(tempfile.gettempdir())
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/where/the/user/says")
    keep_compiled_steps_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/where/the/user/says"
