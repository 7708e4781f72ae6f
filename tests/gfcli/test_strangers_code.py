"""Python files of the current folder, which a stranger may have made, run in no process that gf starts."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from gfcli.app import run
from goldfinch.train.curve import figure_class
from goldfinch.train.trainer import keep_compiled_steps_private


def test_no_module_of_the_current_folder_is_imported(work: Path) -> None:
    for name in ("torch", "numpy", "goldfinch", "gfcli", "json", "sitecustomize"):
        (work / f"{name}.py").write_text("open('ran', 'w')\nraise SystemExit(1)\n")
    assert run(["bench", "load", "--repeats", "1"]) == 0
    assert not (work / "ran").exists()


def test_no_settings_of_the_current_folder_are_followed_by_what_draws(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """matplotlib reads its settings where it is imported, before the user's own; they can name a program to run."""
    package = tmp_path / "packages" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os\nread = os.path.exists('matplotlibrc')\n")
    (package / "figure.py").write_text("class Figure: pass\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(package.parent))
    (work / "matplotlibrc").write_text("text.usetex: True\n")
    figure_class()
    assert not sys.modules["matplotlib"].read
    assert Path.cwd() == work
    for name in ("matplotlib", "matplotlib.figure"):
        del sys.modules[name]


@pytest.mark.parametrize("home", ["~", "writable", "private", "/proc/nowhere"])
def test_compiled_triton_kernels_are_in_no_folder_of_others(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """Triton keeps them in ~/.triton, and `~` is a folder of the current one for a user without a home."""
    pytest.importorskip("triton")
    from gfkernels.triton_common import keep_compiled_private

    place = str(tmp_path / home) if home in ("writable", "private") else home
    if home in ("writable", "private"):
        (tmp_path / home / ".triton").mkdir(parents=True)
        (tmp_path / home / ".triton").chmod(0o777 if home == "writable" else 0o755)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", place))
    monkeypatch.setenv("TRITON_HOME", "")
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    keep_compiled_private()
    folder = os.environ["TRITON_CACHE_DIR"]
    if home == "private":
        assert folder == ""
        return
    assert Path(folder).parent == Path(tempfile.gettempdir())
    assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert list(work.iterdir()) == []


def test_compiled_steps_in_a_folder_of_others_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache/gf/torchinductor"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    keep_compiled_steps_private()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == Path(tempfile.gettempdir())


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
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/where/the/user/says")
    keep_compiled_steps_private()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/where/the/user/says"
