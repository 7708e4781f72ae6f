"""The user's own folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import platformdirs

_FOLDERS = {
    "cache": platformdirs.user_cache_path,
    "config": platformdirs.user_config_path,
    "data": platformdirs.user_data_path,
}


def user_folder(kind: Literal["cache", "config", "data"], program: str) -> Path:
    """A program's folder among the user's: under XDG_CACHE_HOME, XDG_CONFIG_HOME or XDG_DATA_HOME, or its default.

    A `~` in the variable is expanded: what sets it may not have been a shell (.env, systemd, Docker).
    """
    given = os.environ.get(f"XDG_{kind.upper()}_HOME", "")
    if given.startswith("~"):
        return Path(given).expanduser() / program
    return _FOLDERS[kind](program, appauthor=False)


def folder_of(variable: str) -> Path | None:
    """The folder that an environment variable names, `~` expanded; None where it is not set or empty."""
    given = os.environ.get(variable)
    return Path(given).expanduser() if given else None
