"""The command-line parser: commands that load when they are called, help pages, complaints in our words."""

from __future__ import annotations

import difflib
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
import typer.core
import typer.main
from gfcache import layout

from . import registry
from .support.console import console, printable
from .support.exits import CommandError
from .support.values import COUNT_FORM, parse_count

# The click in use: some versions of typer carry their own copy, others need the package.
try:
    from typer import _click as click
except ImportError:
    import click  # type: ignore[no-redef]


class _Page:
    """How a help page looks: whole metavars, an example on each line, no ranges of numbers."""

    help: str | None
    get_params: Callable[[Any], list[Any]]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command in the usage line."""
        arguments = [param for param in self.get_params(ctx) if param.param_type_name == "argument"]
        return ["[OPTIONS]", *(p.metavar if p.required else f"[{p.metavar}]" for p in arguments)]

    def get_help(self, ctx: Any) -> str:
        """The page; defaults of options come from settings, so from others."""
        return printable(super().get_help(ctx), "\n")  # type: ignore[misc]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The description, re-wrapped, and the examples, as they are: a line can be pasted whole."""
        text, _, examples = (self.help or "").partition("\nExamples:\n")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text.strip())
        if examples:
            with formatter.section("Examples"):
                formatter.write(textwrap.indent(textwrap.dedent(examples).strip(), " " * formatter.current_indent))
                formatter.write("\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then options."""
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            params = [p for p in self.get_params(ctx) if p.param_type_name == kind and not getattr(p, "hidden", False)]
            if params:
                with formatter.section(title):
                    formatter.write_dl([row_of(param, ctx) for param in params])
        formatter.buffer[:] = [piece.translate(_BREAKING) for piece in formatter.buffer]


# A note such as [default: goldfinch-tiny] stays on one line.
_UNBROKEN = {ord(" "): "\N{NO-BREAK SPACE}", ord("-"): "\N{NON-BREAKING HYPHEN}"}
_BREAKING = {ord(unbroken): chr(plain) for plain, unbroken in _UNBROKEN.items()}


def row_of(param: Any, ctx: Any) -> tuple[str, str]:
    """A parameter in a help page: what is typed, and what it means."""
    if param.param_type_name == "argument":
        return param.metavar, param.help or ""
    # -n stays short for --dry-run and --limit, but elsewhere it is --max-tokens: one meaning is documented.
    names = [name for name in sorted(param.opts, key=len) if name != "-n" or "--max-tokens" in param.opts]
    notes = ["required"] if param.required else []
    default = param.get_default(ctx, call=False)
    if param.show_default and not param.is_flag and default not in (None, (), []):
        notes.append(f"default: {default}")
    return (
        ", ".join(names) + ("" if param.is_flag else f" {param.metavar}"),
        (param.help or "") + ("  " + f"[{'; '.join(notes)}]".translate(_UNBROKEN) if notes else ""),
    )


class Leaf(_Page, typer.core.TyperCommand):
    """A command that does something."""

    # Told by us, with a hint of the command.
    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command.

        Raises:
            CommandError: more of them than it takes.
        """
        command = registry.named(ctx.command_path.split()[1:])
        rest: list[str] = super().parse_args(ctx, _completed(args, {} if command is None else command.usual))
        if rest and not ctx.resilient_parsing:
            hint = command.extra_hint if command else None
            extra = f"unexpected extra argument{'s' if len(rest) > 1 else ''} ({' '.join(rest)})"
            raise CommandError(extra, hint=hint or f"see {ctx.command_path} --help")
        return rest


def _completed(args: Sequence[str], usual: Mapping[str, str]) -> list[str]:
    """Arguments with the usual values of options that are given without one."""
    found: list[str] = []
    for i, word in enumerate(args):
        found.append(word)
        following = args[i + 1] if i + 1 < len(args) else "-"
        is_file = following.endswith(layout.SUFFIX) or os.path.exists(following)
        if word in usual and "--" not in args[:i] and (following.startswith("-") or is_file):
            found.append(usual[word])
    return found


class Group(_Page, typer.core.TyperGroup):
    """Commands of the registry, each imported when it is called.

    Attributes:
        path: its name in the registry; "" for gf itself.
    """

    path = ""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the group in the usage line."""
        return [*super().collect_usage_pieces(ctx), "COMMAND"]

    def list_commands(self, ctx: Any) -> list[str]:
        """Last words of the commands, in the order of the registry."""
        return [command.word for command in registry.below(self.path)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command that a word names; None for none."""
        found = registry.find(self.path, cmd_name)
        return None if found is None else build(found)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what precedes the command.

        Raises:
            CommandError: nothing there; help has been shown on stderr.
        """
        if not args and not ctx.resilient_parsing:
            console.page(ctx.get_help())
            raise CommandError("no command given", hint=f"{ctx.command_path} COMMAND --help shows one command")
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command of the next word.

        Raises:
            CommandError: there is none; the hint is the nearest.
        """
        if registry.find(self.path, args[0]) is None and not ctx.resilient_parsing:
            near = _nearest_commands(self.path, args[0])
            hint = f"did you mean {' or '.join(near)}?" if near else f"see {ctx.command_path} --help"
            raise CommandError(f"no such command: {ctx.command_path} {args[0]}", hint=hint)
        found: tuple[str | None, Any, list[str]] = super().resolve_command(ctx, args)
        return found

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Commands under their headings, then options."""
        commands = list(registry.below(self.path))
        width = max(len(command.word) for command in commands)
        for heading in registry.GROUPS if not self.path else ("",):
            with formatter.section(heading or "Commands"):
                formatter.write_dl([(f"{c.word:<{width}}", c.summary) for c in commands if c.heading == heading])
        super().format_options(ctx, formatter)


def build(command: registry.Command) -> Any:
    """A command of the registry as the parser's own."""
    if not command.function:
        group = Group(name=command.word, help=command.summary, rich_markup_mode=None)
        group.path = command.name
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(command.word, cls=Leaf, short_help=command.summary)(command.load())
    built = typer.main.get_command(app)
    for param in built.params:
        param._custom_shell_complete = _completions
        if isinstance(param.type, click.types.IntParamType):
            param.type = _Count(getattr(param.type, "min", None), getattr(param.type, "max", None))
    return built


def _completions(ctx: Any, param: Any, incomplete: str) -> list[Any]:
    """What the shell may put in the place of a parameter."""
    from .completing import words_of

    return [
        click.shell_completion.CompletionItem(word, help=told or None) for word, told in words_of(param, incomplete)
    ]


class _Count(click.types.IntRange):
    """A count as filters and settings read it: 500, 1k, 2.5m."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number that a command line or a setting says.

        Raises:
            BadParameter: none, or one that is not allowed.
        """
        number: int | None
        try:
            number = value if isinstance(value, int) else parse_count(str(value), "it")
        except CommandError:
            number = int(value) if str(value).removeprefix("-").isdecimal() and len(str(value)) < 20 else None
        if number is None:
            self.fail(f"{value!r} is no number; expected {COUNT_FORM}", param, ctx)
        if (self.min is not None and number < self.min) or (self.max is not None and number > self.max):
            upper = "or more" if self.max is None else f"to {self.max:,}"
            self.fail(f"{number:,} is not allowed; allowed: {self.min or 0:,} {upper}", param, ctx)
        return number


def _nearest_commands(path: str, word: str) -> list[str]:
    """Names with "gf" before them: of the same group if one is like the word, else those that end in it."""
    words = {name: command for command in registry.below(path) for name in (command.word, *command.aliases)}
    found = [words[name] for name in difflib.get_close_matches(word, words, 3)]
    found = found or [c for c in registry.COMMANDS if word == c.word or word in c.aliases]
    return list(dict.fromkeys(f"gf {command.name}" for command in found))


def complaint(error: click.ClickException, arguments: list[str]) -> CommandError:
    """What the parser says of a command line, in our words.

    Args:
        arguments: the command line.
    """
    command = registry.named(arguments)
    hint = f"see gf {command.name} --help" if command else "see gf --help"
    message = error.format_message().removesuffix(".")
    if isinstance(error, click.exceptions.NoSuchOption):
        message = f"no such option: {error.option_name}"
        if error.possibilities:
            hint = f"did you mean {' or '.join(sorted(error.possibilities))}?"
    elif isinstance(error, click.exceptions.MissingParameter) and error.param is not None:
        message = f"missing {error.param.param_type_name} {_name_of(error.param)}"
    elif isinstance(error, click.exceptions.BadParameter) and error.param is not None:
        message = f"{_name_of(error.param)}: {error.message.removesuffix('.')}"
    elif isinstance(error, click.exceptions.BadOptionUsage):
        message = f"{error.option_name}: expected a value"
    return CommandError(f"{message[:1].lower()}{message[1:]}", hint=hint)


def _name_of(param: Any) -> str:
    """An option by its long name, an argument by what stands in its place."""
    return param.metavar if param.param_type_name == "argument" else max(param.opts, key=len)
