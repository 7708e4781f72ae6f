"""Where the user's folders are."""

from __future__ import annotations

import sys
from pathlib import Path

import gfcache
import pytest
from gfcache.files.places import folder_of, user_folder

from gfcli.support.settings import user_file
from goldfinch.weights.directory import models_folder

VARIABLES = ("GF_CACHE_DIR", "GF_MODELS_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and no variable that names another place."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_default_folders_on_linux(home: Path) -> None:
    assert gfcache.default_root() == home / ".cache" / "gf"
    assert models_folder() == home / ".local" / "share" / "goldfinch" / "models"
    assert user_file() == home / ".config" / "gf" / "config.toml"


@pytest.mark.parametrize("empty", ["", None])
def test_variables_name_other_folders(empty: str | None, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind))
    if empty is not None:
        monkeypatch.setenv("GF_CACHE_DIR", empty)
        monkeypatch.setenv("GF_MODELS_DIR", empty)
    assert gfcache.default_root() == home / "CACHE" / "gf"
    assert models_folder() == home / "DATA" / "goldfinch" / "models"
    assert user_file() == home / "CONFIG" / "gf" / "config.toml"


def test_a_tilde_that_no_shell_expanded_is_the_home_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"~/{variable}")
    assert gfcache.default_root() == folder_of("GF_CACHE_DIR") == home / "GF_CACHE_DIR"
    assert models_folder() == home / "GF_MODELS_DIR"
    assert user_file() == home / "XDG_CONFIG_HOME" / "gf" / "config.toml"
    assert user_folder("cache", "gf") == home / "XDG_CACHE_HOME" / "gf"
    assert user_folder("data", "gf") == home / "XDG_DATA_HOME" / "gf"
    assert gfcache.Store().root == home / "GF_CACHE_DIR"
