"""Files of settings: the user's own, and gf.toml of a project, which a stranger may have written."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfcache.files.places import belongs_to_user, folder_is_users, home_folder, user_folder

from goldfinch.text.toml_files import read_toml

from .exits import CommandError

PROJECT_FILE, USER_FILE = "gf.toml", "config.toml"
# A file of settings has a dozen lines.
MOST_BYTES = 16_384


@dataclass(frozen=True)
class Refused:
    """What a file of a project says, and gf does not follow.

    Attributes:
        place: the file.
        name: of the setting; None for the whole file.
        why: it is not followed.
    """

    place: str
    name: str | None
    why: str

    def __str__(self) -> str:
        what = "these settings are" if self.name is None else f"{self.name} is"
        return f"{self.place}: {what} not followed: {self.why}"


def user_file() -> Path:
    """The user's settings."""
    return user_folder("config", "gf") / USER_FILE


def project_file() -> Path | Refused | None:
    """The nearest gf.toml at or above the current folder, as far up as folders are the user's.

    Not above the home folder or a repository's root. The nearest one counts even where it is not followed: nothing
    that lies farther away takes its place.
    """
    try:
        here = Path.cwd()
    except OSError:  # the current folder was removed, or one above may not be entered
        return None
    home = home_folder()
    top = None if home is None else home.resolve()
    for folder in (here, *here.parents):
        path = folder / PROJECT_FILE
        if os.path.lexists(path):
            why = _distrust(path)
            return path if why is None else Refused(str(path), None, why)
        if folder == top or os.path.lexists(folder / ".git") or not folder_is_users(folder):
            return None
    return None


def _distrust(path: Path) -> str | None:
    """Why a project's file is not followed; None where it is."""
    if not folder_is_users(path.parent):
        return "its folder belongs to another user"
    try:
        file, target = path.lstat(), path.stat()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not belongs_to_user(file) or not belongs_to_user(target):
        return "it belongs to another user"
    if not stat.S_ISREG(target.st_mode):
        return "it is no regular file"
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(path.parent)):
        return "it is a link that leaves its folder"
    return None


def read_settings(path: Path) -> dict[str, Any]:
    """Settings of a file, tables flattened: {"cache.max_size": ...}.

    Raises:
        CommandError: it is no regular file, too large, or no TOML.
    """
    try:
        values = read_toml(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read as settings: {error}") from error
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat
