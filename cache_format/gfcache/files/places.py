"""The user's own folders, and what is the user's."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Literal

import platformdirs

_FOLDERS = {
    "cache": platformdirs.user_cache_path,
    "config": platformdirs.user_config_path,
    "data": platformdirs.user_data_path,
}


def home_folder() -> Path | None:
    """The user's home; None for a user without HOME and without an entry in the list of users."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if home.is_absolute() else None


def expanded(text: str) -> Path:
    """A path as it is written, a leading `~` expanded.

    Raises:
        FileNotFoundError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(2, "no home folder is known for ~: set HOME, or write the whole path", text) from error


def user_folder(kind: Literal["cache", "config", "data"], program: str) -> Path:
    """A program's folder among the user's: under XDG_CACHE_HOME, XDG_CONFIG_HOME or XDG_DATA_HOME, or its default.

    A `~` in the variable is expanded: what sets it may not have been a shell (.env, systemd, Docker). A relative path
    in it counts as none, as the XDG specification says: what lies in the current folder may be anybody's. A user
    without a home has these folders in a private one for temporary files.

    Raises:
        OSError: there is no home, and no private folder either.
    """
    variable = f"XDG_{kind.upper()}_HOME"
    given = os.environ.get(variable, "").strip()
    if given.startswith("~"):
        return expanded(given) / program
    if given and os.path.isabs(given):
        return Path(given) / program
    found = None if home_folder() is None else _default_folder(kind, program, variable)
    return found or _private_folder(variable) / kind / program


def _default_folder(kind: Literal["cache", "config", "data"], program: str, variable: str) -> Path | None:
    """Where the system keeps such folders; None where that hangs on a home folder and HOME is empty, say."""
    given = os.environ.pop(variable, None)
    try:
        found = _FOLDERS[kind](program, appauthor=False)
    except RuntimeError:
        return None
    finally:
        if given is not None:
            os.environ[variable] = given
    return found if found.is_absolute() else None


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone, whatever the umask.

    Raises:
        OSError: as the system says.
    """
    missing = [folder, *folder.parents]
    while missing and missing[-1].exists():
        missing.pop()
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def _private_folder(variable: str) -> Path:
    """A folder of this user's, under a name that others know: so it is made or checked now."""
    path = Path(tempfile.gettempdir()) / f"gf-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        words = f"this user has no home folder, and others can write here: set HOME or {variable}"
        raise PermissionError(1, words, str(path))
    return path


def belongs_to_user(found: os.stat_result) -> bool:
    """Whether a file or folder is the user's, by git's rule for `safe.directory`: its owner is who runs this.

    For root it may also be who called sudo. As with git, who else may write there does not count.
    """
    if not hasattr(os, "geteuid"):
        return True
    users = {os.geteuid()}
    caller = os.environ.get("SUDO_UID", "")
    if 0 in users and caller.isascii() and caller.isdecimal():
        users.add(int(caller))
    return found.st_uid in users


def folder_is_users(folder: Path) -> bool:
    """Whether a folder is there and is the user's; see `belongs_to_user`."""
    try:
        return belongs_to_user(folder.stat())
    except OSError:
        return False


def seen_from(folder: Path | str, path: Path | str) -> str:
    """The way from a folder to a file, whose name may be that of a link.

    The system follows links before "..": the way between two places is that between where they really are.
    """
    above, name = os.path.split(os.path.abspath(path))
    return os.path.relpath(os.path.join(os.path.realpath(above), name), os.path.realpath(folder))


def is_private(folder: Path) -> bool:
    """Whether this is a folder, not a link to one, that is the user's and that no one else may write, however it came
    about.

    Raises:
        OSError: it is not there.
    """
    found = folder.lstat()
    own = getattr(os, "geteuid", lambda: found.st_uid)()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == own and not found.st_mode & 0o022


def folder_of(variable: str) -> Path | None:
    """The folder that an environment variable names, `~` expanded; None where it is not set or empty."""
    given = os.environ.get(variable)
    return expanded(given) if given else None
