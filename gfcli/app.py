"""The application: its commands, and the one place where exceptions become words and exit codes."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from gfcache.files.basis_files import offer_bases

from . import registry
from .parser import Group, click, complaint
from .support import exits, settings
from .support.console import console


def _basis_files() -> Iterable[Path]:
    from goldfinch.weights.noted import all_basis_files

    return all_basis_files()


offer_bases(_basis_files)


class Terminated(BaseException):
    """SIGTERM, or SIGHUP of a terminal that was closed: unwinds like Ctrl-C, so that nothing half-written stays behind.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def _version(value: bool) -> None:
    if value:
        from goldfinch.version import __version__

        console.line(f"gf {__version__}")
        raise typer.Exit


def gf(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Pre-fill documents with a GoldFinch model, keep the compressed cache in a file, answer questions from it."""
    console.debug = debug


app = typer.Typer(
    cls=Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(gf)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    if arguments[:1] == ["help"]:  # as git, cargo and others take it
        arguments = [*arguments[1:], "--help"]
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.json_errors = "--json" in before_dashes or "--jsonl" in before_dashes
    console.quiet = console.verbose = False
    console.said.clear()
    console.compiling_s, console.kept = 0.0, False
    try:
        code = _run(arguments)
        if code == exits.INTERRUPTED:  # what the command-line parser makes of Ctrl-C
            raise KeyboardInterrupt
        return code
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort, EOFError):
        console.words(_ended("Interrupted", arguments))
        return exits.INTERRUPTED
    except Terminated as error:
        with contextlib.suppress(OSError):  # a terminal that was closed takes no words
            console.words(_ended("Terminated", arguments))
        return exits.HUNG_UP if error.number == signal.SIGHUP else exits.TERMINATED
    except BrokenPipeError:
        return _reader_has_gone()
    except SystemExit as error:  # how the command-line parser ends on a closed pipe
        if isinstance(error.__context__, BrokenPipeError):
            return _reader_has_gone()
        raise
    except click.ClickException as error:
        return console.error(complaint(error, arguments))
    except Exception as error:  # whatever it is, the user sees a sentence and an exit code
        return console.error(error)


def _ended(how: str, arguments: list[str]) -> str:
    """What to say of a run that was ended."""
    command = registry.named(arguments)
    if console.kept:
        return f"{how}. Run the same command again to resume."
    resumes = (command is not None and command.resumes) or "--questions" in arguments
    return f"{how} before anything was kept: the same command begins anew." if resumes else how.lower()


def _reader_has_gone() -> int:
    """The reader of our output has gone: not an error of ours. Python must not flush into it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.OK


def _run(arguments: list[str]) -> int:
    try:
        found = settings.resolve()
    except exits.CommandError:
        if not _needs_no_settings(arguments):
            raise
        found = settings.defaults()
    if not _needs_no_settings(arguments):
        for refused in found.refused:
            console.warn(str(refused))
    with settings.folders_in_environment(found.values):
        defaults = settings.default_map(found.values, {c.name: c.settings for c in registry.COMMANDS})
        result = app(args=arguments, prog_name="gf", standalone_mode=False, default_map=defaults, obj=found)
        sys.stdout.flush()
        return result if isinstance(result, int) else exits.OK


def _needs_no_settings(arguments: list[str]) -> bool:
    """Whether a command line only asks how to go on, which a broken settings file must not prevent."""
    asks = {"-h", "--help", "--version"} & set(arguments) or arguments[:1] in ([], ["completion"])
    return bool(asks) or "_GF_COMPLETE" in os.environ


def _prepare_streams() -> None:
    """Make the standard streams take whatever there is to say, and say whatever there is to take."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us, cron for instance
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
            continue
        # File names and questions may hold bytes that are not UTF-8; a terminal may lack characters of an answer.
        is_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
        stream.reconfigure(errors="surrogateescape" if is_utf8 and name != "stderr" else "backslashreplace")


def main() -> None:
    """The entry point of the `gf` command."""
    _prepare_streams()
    if "_GF_COMPLETE" in os.environ:  # the shell asks what fits: the script of gf completion sets it
        from typer.completion import completion_init

        completion_init()
    warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
        signal.signal(signal.SIGHUP, _terminate)
    sys.exit(run(sys.argv[1:]))
