"""The application: its commands, and the one place where exceptions become words and exit codes."""

from __future__ import annotations

import codecs
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Annotated

import typer

from . import exits, settings, transfer  # noqa: F401  transfer adds to gf cache
from .ask import ask
from .bench import bench_app
from .cache import cache_app
from .change import append, truncate
from .completion import completion
from .config import config_app
from .console import console
from .diff import diff
from .doctor import doctor
from .eval import evaluate
from .flatten import flatten
from .inspect import inspect
from .model import model_app
from .plan import plan
from .prefill import prefill
from .status import refresh, status
from .train import train
from .verify import verify

app = typer.Typer(
    name="gf",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(prefill)
app.command()(ask)
app.command()(plan)
app.command()(inspect)
app.command()(verify)
app.command()(diff)
app.command()(append)
app.command()(truncate)
app.command()(flatten)
app.command()(status)
app.command()(refresh)
app.add_typer(cache_app, name="cache")
app.add_typer(model_app, name="model")
app.add_typer(config_app, name="config")
app.command()(train)
app.command("eval")(evaluate)
app.command()(doctor)
app.command()(completion)
app.add_typer(bench_app, name="bench")


class Terminated(BaseException):
    """SIGTERM: unwinds like Ctrl-C, so that nothing half-written stays behind."""


def _version(value: bool) -> None:
    if value:
        from goldfinch.version import __version__

        print(f"gf {__version__}")
        raise typer.Exit


@app.callback()
def gf(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Pre-fill documents with GoldFinch, keep the compressed cache in a file, answer questions from it."""
    console.debug = debug


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    console.json_errors = "--json" in before_dashes or "--jsonl" in before_dashes
    console.quiet = console.verbose = False
    try:
        code = _run(arguments)
        if code == exits.INTERRUPTED:  # what the command-line parser makes of Ctrl-C
            raise KeyboardInterrupt
        return code
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort, EOFError):
        print(_ended("interrupted", arguments), file=sys.stderr)
        return exits.INTERRUPTED
    except Terminated:
        print(_ended("terminated", arguments), file=sys.stderr)
        return exits.TERMINATED
    except BrokenPipeError:
        return _reader_has_gone()
    except SystemExit as error:  # how the command-line parser ends on a closed pipe
        if isinstance(error.__context__, BrokenPipeError):
            return _reader_has_gone()
        raise
    except Exception as error:
        return console.error(_usage_error(error, arguments) or error)


def _ended(how: str, arguments: list[str]) -> str:
    """What to say of a run that was ended."""
    goes_on = arguments[:1] in (["prefill"], ["refresh"], ["train"]) or "--questions" in arguments
    return f"{how}: the same command goes on where it was" if goes_on else how


def _reader_has_gone() -> int:
    """The reader of our output has gone: not an error of ours. Python must not flush into it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.OK


def _run(arguments: list[str]) -> int:
    try:
        values = settings.resolve()
    except exits.CommandError:
        if not _needs_no_settings(arguments):
            raise
        values = settings.defaults()
    with settings.folders_in_environment(values):
        defaults = settings.default_map(values)
        result = app(args=arguments, prog_name="gf", standalone_mode=False, default_map=defaults, obj=values)
        sys.stdout.flush()
        return result if isinstance(result, int) else exits.OK


def _needs_no_settings(arguments: list[str]) -> bool:
    """Whether a command line only asks how to go on, which a broken settings file must not prevent."""
    asks = {"-h", "--help", "--version"} & set(arguments) or arguments[:1] in ([], ["completion"])
    return bool(asks) or "_GF_COMPLETE" in os.environ


def _usage_error(error: Exception, arguments: list[str]) -> exits.CommandError | None:
    """A complaint of the command-line parser as one of ours; None for any other exception.

    Told by its shape: some versions of typer use the click package, others carry their own copy of it.
    """
    if not hasattr(error, "format_message"):
        return None
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)
        return exits.CommandError("no command given", hint="gf COMMAND --help shows one command")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "gf"
    message, hint = str(error.format_message()), f"see {command} --help"
    value = _value_of(getattr(error, "param", None), arguments)
    if value is not None and value not in message:
        message = f"{message.removesuffix(_UNPARSED)}, not {value!r}"
    if command == "gf ask" and "unexpected extra argument" in message:
        hint = 'quote the question: gf ask doc.txt "Who wrote it?"'
    return exits.CommandError(message, hint=hint)


# The end of a complaint about a value that is no number.
_UNPARSED = ", unable to parse string as an integer"


def _value_of(option: object, arguments: list[str]) -> str | None:
    """The value that a command line gives an option."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in getattr(option, "opts", ()):
            return value if equals else following
    return None


def _prepare_streams() -> None:
    """Make the standard streams take whatever there is to say, and say whatever there is to take."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us, cron for instance
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
            continue
        # File names and questions may hold bytes that are no UTF-8; a terminal may lack characters of an answer.
        is_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
        stream.reconfigure(errors="surrogateescape" if is_utf8 and name != "stderr" else "backslashreplace")


def main() -> None:
    """The entry point of the `gf` command."""
    _prepare_streams()
    if "_GF_COMPLETE" in os.environ:  # the shell asks what fits: the script of gf completion sets it
        from typer.completion import completion_init

        completion_init()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))
