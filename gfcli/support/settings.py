"""Settings from files and the environment: flag > GF_* > gf.toml of the project > user's config.toml > default."""

from __future__ import annotations

import contextlib
import difflib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfcache.files.places import user_folder

from . import values as allowed
from .exits import CommandError

PROJECT_FILE, USER_FILE = "gf.toml", "config.toml"


@dataclass(frozen=True)
class Setting:
    """One setting: its variable, its default, how a value is checked, and what it is for."""

    variable: str
    default: Any
    check: Callable[[object], Any]
    meaning: str
    is_path: bool = False


SETTINGS = {
    "model": Setting("GF_MODEL", "gf-mini", allowed.text, "model of documents; caches name their own"),
    "device": Setting("GF_DEVICE", "auto", allowed.device, "where to compute"),
    "dtype": Setting("GF_DTYPE", None, allowed.dtype, "precision of documents; caches name their own"),
    "checkpoints": Setting("GF_CHECKPOINTS", "auto", allowed.checkpoints, "where to keep checkpoints"),
    "memory": Setting("GF_MEMORY", "4g", allowed.size, "memory for expanded keys and values"),
    "read": Setting("GF_READ", "auto", allowed.reading_policy, "what of a document a question reads"),
    "read_blocks": Setting("GF_READ_BLOCKS", None, allowed.blocks, "how many blocks of it"),
    "max_tokens": Setting("GF_MAX_TOKENS", 128, allowed.count, "maximum number of tokens in an answer"),
    "models_dir": Setting("GF_MODELS_DIR", None, allowed.text, "where models are found by name", is_path=True),
    "cache.dir": Setting("GF_CACHE_DIR", None, allowed.text, "the library", is_path=True),
    "cache.max_size": Setting("GF_CACHE_MAX_SIZE", None, allowed.size, "cap of the library"),
}


@dataclass(frozen=True)
class Value:
    """A setting's value here.

    Attributes:
        name: of the setting.
        value: checked.
        origin: "default", "environment", "project" or "user".
        place: variable or file it came from, None for a default.
    """

    name: str
    value: Any
    origin: str
    place: str | None


def defaults() -> dict[str, Value]:
    """Every setting without any file or variable."""
    return {name: Value(name, setting.default, "default", None) for name, setting in SETTINGS.items()}


def resolve() -> dict[str, Value]:
    """Every setting with its origin.

    Raises:
        CommandError: an unknown setting or a value that is not allowed, naming its place; an unreadable file.
    """
    values = defaults()
    for origin, path in (("user", user_file()), ("project", project_file())):
        if path is not None and path.is_file():
            for name, value in _read(path).items():
                values[name] = Value(name, _checked(name, value, str(path), path.parent), origin, str(path))
    for name, setting in SETTINGS.items():
        given = os.environ.get(setting.variable)
        if given:
            place = setting.variable
            values[name] = Value(name, _checked(name, given, place, Path.cwd()), "environment", place)
    return values


def value(name: str) -> Any:
    """The value of one setting here."""
    return resolve()[name].value


def user_file() -> Path:
    """The user's settings."""
    return user_folder("config", "gf") / USER_FILE


def project_file() -> Path | None:
    """The nearest gf.toml at or above the current folder, not above the home folder or a repository's root."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the current folder was removed
        return None
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder / PROJECT_FILE
        if folder == Path.home() or (folder / ".git").exists():
            return None
    return None


def _read(path: Path) -> dict[str, Any]:
    """Settings of a file, tables flattened: {"cache.max_size": ...}."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CommandError(f"{path} cannot be read as settings: {error}") from error
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
    for name in flat:
        if name not in SETTINGS:
            close = difflib.get_close_matches(name, SETTINGS, 1)
            hint = f"did you mean {close[0]}?" if close else f"known settings: {', '.join(SETTINGS)}"
            raise CommandError(f"{path}: unknown setting {name!r}", hint=hint)
    return flat


def _checked(name: str, value: object, place: str, folder: Path) -> Any:
    setting = SETTINGS[name]
    try:
        checked = setting.check(value)
    except ValueError as error:
        raise CommandError(f"{place}: {name} is {value!r}, allowed: {error}") from error
    # A model is a name, or a folder that lies there.
    if setting.is_path or (name == "model" and ("/" in checked or (folder / checked / "config.json").is_file())):
        return str(folder / Path(checked).expanduser())
    return checked


def default_map(values: Mapping[str, Value], commands: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Defaults of the commands' options, for the command-line parser.

    Args:
        commands: settings that each command's options of the same names default to.
    """
    found: dict[str, Any] = {}
    for command, names in commands.items():
        place = found
        for word in command.split():
            place = place.setdefault(word, {})
        place |= {name: values[name].value for name in names if values[name].origin != "default"}
    return found


@contextlib.contextmanager
def folders_in_environment(values: dict[str, Value]) -> Iterator[None]:
    """The folders that files name, where the libraries look for them."""
    changed = {
        SETTINGS[name].variable: v.value
        for name, v in values.items()
        if SETTINGS[name].is_path and v.origin in ("user", "project")
    }
    before = {variable: os.environ.get(variable) for variable in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for variable, old in before.items():
            if old is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = old
