"""Settings: option > GF_* > gf.toml of the project > user's config.toml > default; and what a project may set.

A project folder may come from anybody, and its gf.toml with it. So the table below says of each setting whether such a
file decides it. It may say how this project's documents are read. It may not say what lies outside the project: which
folders gf reads models from, which it writes to and removes from, and how much of the machine it takes.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfcache.files.places import expanded

from goldfinch.weights.directory import DEFAULT_MODEL

from . import values as allowed
from .exits import CommandError
from .settings_files import Refused, project_file, read_settings, user_file


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        variable: of the environment.
        default: where nothing sets it.
        check: gives a value back, or raises ValueError with what is allowed.
        meaning: what it is for.
        project: whether gf.toml of a project may set it.
        why: it may, or may not: what the worst value of a stranger would do.
        is_path: relative to the file that says it.
    """

    variable: str
    default: Any
    check: Callable[[object], Any]
    meaning: str
    project: bool
    why: str
    is_path: bool = False


SETTINGS = {
    "model": Setting(
        "GF_MODEL", DEFAULT_MODEL, allowed.text, "model of documents; caches name their own",
        project=True, why="by name alone, among the user's models: a folder may hold anybody's weights",
    ),
    "device": Setting(
        "GF_DEVICE", "auto", allowed.device, "where to compute", project=True, why="it changes speed and rounding only",
    ),
    "dtype": Setting(
        "GF_DTYPE", None, allowed.dtype, "precision of documents; caches name their own",
        project=True, why="it changes speed and rounding only, and the file notes it",
    ),
    "checkpoints": Setting(
        "GF_CHECKPOINTS", "auto", allowed.checkpoints, "where to keep checkpoints",
        project=True, why="it changes the size of this project's caches, which has a limit",
    ),
    "layout": Setting(
        "GF_LAYOUT", "auto", allowed.layout, "how documents are kept",
        project=True, why="it changes what of this project's documents its caches hold, and gf inspect says it",
    ),
    "codec": Setting(
        "GF_CODEC", None, allowed.codec, "how compressed keys are rounded and stored",
        project=True, why="as layout",
    ),
    "state_codec": Setting(
        "GF_STATE_CODEC", None, allowed.state_codec, "how states are rounded and stored", project=True, why="as layout",
    ),
    "encoding": Setting(
        "GF_ENCODING", "auto", allowed.encoding, "encoding of documents",
        project=True, why="it changes how this project's documents are read, and gf inspect says it",
    ),
    "verbatim": Setting(
        "GF_VERBATIM", False, allowed.switch, "read documents as they are, nothing normalised",
        project=True, why="as encoding",
    ),
    "skip_blobs": Setting(
        "GF_SKIP_BLOBS", False, allowed.switch, "leave base64 in documents out", project=True, why="as encoding",
    ),
    "memory": Setting(
        "GF_MEMORY", "4g", allowed.size, "memory for expanded keys and values",
        project=False, why="it is about this machine: too much of it ends other programs",
    ),
    "read": Setting(
        "GF_READ", "auto", allowed.reading_policy, "what of a document a question reads",
        project=True, why="it changes what of this project's documents a question reads, and --explain says it",
    ),
    "read_blocks": Setting(
        "GF_READ_BLOCKS", None, allowed.blocks, "how many blocks of it",
        project=True, why="as read",
    ),
    "least_likelihood": Setting(
        "GF_LEAST_LIKELIHOOD", None, allowed.share, "less likely answers become Not stated.",
        project=False, why="it could make every answer Not stated.",
    ),
    "unsure_below": Setting(
        "GF_UNSURE_BELOW", 0.2, allowed.share, "answers less probably right are said to be unsure",
        project=False, why="it could let every answer of a project pass for sure",
    ),
    "log": Setting(
        "GF_LOG", False, allowed.switch, "keep questions and answers for gf log",
        project=False, why="what is kept of what the user asks is for the user to say",
    ),
    "max_tokens": Setting(
        "GF_MAX_TOKENS", 128, allowed.count, "maximum number of tokens in an answer",
        project=True, why="it changes how long answers are, and Ctrl-C ends one",
    ),
    "models_dir": Setting(
        "GF_MODELS_DIR", None, allowed.text, "where models are found by name",
        project=False, why="a model there could answer under the name of one of the user's", is_path=True,
    ),
    "cache.dir": Setting(
        "GF_CACHE_DIR", None, allowed.text, "the library",
        project=False, why="gf writes, marks and removes files there", is_path=True,
    ),
    "cache.max_size": Setting(
        "GF_CACHE_MAX_SIZE", None, allowed.size, "cap of the library",
        project=False, why="a small cap removes what the user keeps in the library",
    ),
}  # fmt: skip


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


@dataclass(frozen=True)
class Settings:
    """What holds here.

    Attributes:
        values: of every setting.
        refused: what a project's file says and may not.
    """

    values: dict[str, Value]
    refused: tuple[Refused, ...] = ()


def defaults() -> Settings:
    """Every setting without any file or variable."""
    return Settings({name: Value(name, setting.default, "default", None) for name, setting in SETTINGS.items()})


def resolve() -> Settings:
    """Every setting with its origin.

    Raises:
        CommandError: an unknown setting or a value that is not allowed, naming its place; an unreadable file.
    """
    values: dict[str, Value] = defaults().values
    refused: list[Refused] = []
    own = user_file()
    if os.path.lexists(own):
        values |= {name: Value(name, _of_user(name, v, own), "user", str(own)) for name, v in _read(own).items()}
    project = project_file()
    if isinstance(project, Refused):
        refused.append(project)
    elif project is not None:
        for name, v in _read(project).items():
            why = _why_not_of_a_project(name, v)
            if why is None:
                values[name] = Value(name, _checked(name, v, str(project)), "project", str(project))
            else:
                refused.append(Refused(str(project), name, f"{why} (set it in {own}, or {SETTINGS[name].variable})"))
    for name, setting in SETTINGS.items():
        given = os.environ.get(setting.variable)
        if given:
            place = setting.variable
            checked = _checked(name, given, place)
            if setting.is_path or (name == "model" and _is_path(checked)):
                checked = str(Path.cwd() / expanded(checked))
            values[name] = Value(name, checked, "environment", place)
    return Settings(values, tuple(refused))


def value(name: str) -> Any:
    """The value of one setting here."""
    return resolve().values[name].value


def _why_not_of_a_project(name: str, value: object) -> str | None:
    """Why gf.toml of a project may not set this; None where it may."""
    setting = SETTINGS[name]
    named = name != "model" or not isinstance(value, str) or not _is_path(value)
    return None if setting.project and named else setting.why


def _is_path(name: str) -> bool:
    """Whether a model is given as a folder; else it is a name."""
    return os.sep in name or name.startswith("~") or name in (os.curdir, os.pardir)


def _read(path: Path) -> dict[str, Any]:
    """Settings of a file, all of them known."""
    found = read_settings(path)
    for name in found:
        if name not in SETTINGS:
            close = difflib.get_close_matches(name[:_SHOWN], SETTINGS, 1)
            hint = f"did you mean {close[0]}?" if close else f"known settings: {', '.join(SETTINGS)}"
            raise CommandError(f"{path}: unknown setting {name[:_SHOWN]!r}", hint=hint)
    return found


def _of_user(name: str, value: object, file: Path) -> Any:
    """A value of the user's file; a folder is relative to that, and a model is a name or a folder that lies there."""
    checked, folder = _checked(name, value, str(file)), file.parent
    is_model_folder = name == "model" and (_is_path(checked) or (folder / checked / "config.json").is_file())
    return str(folder / expanded(checked)) if SETTINGS[name].is_path or is_model_folder else checked


def _checked(name: str, value: object, place: str) -> Any:
    try:
        return SETTINGS[name].check(value)
    except ValueError as error:
        raise CommandError(f"{place}: {name} is {_shown(value)}, allowed: {error}") from error


# Characters of a wrong name or value that a message repeats.
_SHOWN = 60


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:  # Python refuses to write the largest ones
        return "a number of more than 60 digits"
    text = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


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
        SETTINGS[name].variable: v.value for name, v in values.items() if SETTINGS[name].is_path and v.origin == "user"
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
