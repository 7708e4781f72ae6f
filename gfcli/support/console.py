"""All that gf prints. Data goes to stdout, words go to stderr, and nothing in either can steer a terminal.

File names, model cards, tags, questions, answers and messages come from others, and may hold escape sequences. A law
of the tests forbids printing anywhere else in gfcli.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TextIO

from . import exits

# Controls (C0, DEL, C1), what reorders or hides (bidi overrides, zero-width), line separators, lone surrogates.
_STEERING = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# Of these, what ordinary text needs: the soft hyphen, and the joiners of Persian, of Indian scripts and of emoji.
_NEEDED = frozenset("\u00ad\u200c\u200d")


def printable(text: str, kept: str = "") -> str:
    """Text of others with "?" for every character that would steer a terminal, break the line, or reorder or hide text.

    Args:
        kept: of these, characters that stay: line breaks, say.
    """
    if text.isprintable():
        return text
    return "".join(c if c in kept or c in _NEEDED or unicodedata.category(c) not in _STEERING else "?" for c in text)


def _bytes_of_names(text: str) -> str:
    """The characters that stand for bytes of a file name that are not UTF-8."""
    return "".join({c for c in text if "\udc80" <= c <= "\udcff"})


# What stands out on a terminal: red for what is wrong, yellow for what needs a look, green for what is well.
_RED, _YELLOW, _GREEN, _CYAN = "1;31", "33", "32", "36"
_COLOURS = {
    **dict.fromkeys(("error", "damaged", "broken", "FAILS", "unreadable"), _RED),
    **dict.fromkeys(("warning", "stale", "orphaned", "unread"), _YELLOW),
    **dict.fromkeys(("fresh", "ok"), _GREEN),
    **dict.fromkeys(("hint", "detached"), _CYAN),
}
_LABELS = ("error:", "warning:", "hint:")
LEAST_COLUMNS = 12


def has_colours(stream: TextIO) -> bool:
    """Whether a stream shows colours: a terminal that has them, unless NO_COLOR says no or FORCE_COLOR yes."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def _coloured(text: str, word: str, stream: TextIO) -> str:
    """A printable line, a word that it begins with or holds in the colour of what that means."""
    colour = _COLOURS.get(word.rstrip(":"))
    return text.replace(word, f"\x1b[{colour}m{word}\x1b[0m", 1) if colour and has_colours(stream) else text


def shortened(path: str, columns: int) -> str:
    """A path in so many columns: the home as ~, and where that is not enough, the middle left out."""
    home = os.path.expanduser("~")
    if len(home) > 1 and (path == home or path.startswith(home + os.sep)):
        path = "~" + path[len(home) :]
    columns = max(columns, LEAST_COLUMNS)
    if len(path) <= columns:
        return path
    name = path[path.rfind(os.sep) :]
    behind = max(len(name), (columns - 3) * 2 // 3) if len(name) <= columns - 7 else (columns - 3) // 2
    return f"{path[: columns - 3 - behind]}...{path[len(path) - behind :]}"


class Console:
    """How this run speaks: `line`, `lines`, `row`, `text`, `path` and `json` on stdout, the others on stderr.

    Attributes:
        json_errors: errors as one JSON object.
        debug: tracebacks too.
        quiet: no progress and no remarks (errors and warnings stay).
        verbose: also what was found and decided on the way.
        said: warnings that one run says once.
        compiling_s: seconds in which kernels were compiled, which the rates of a run leave out.
        kept: whether anything is on the disk from which the same command would resume.
    """

    def __init__(self) -> None:
        self.said: set[str] = set()
        self.json_errors = self.debug = self.quiet = self.verbose = False
        self.compiling_s, self.kept = 0.0, False

    def line(self, text: str = "", *, state: str = "") -> None:
        """One line of data for people.

        Args:
            state: a word of it that says how something is: in colour where there are colours.
        """
        _write(sys.stdout, _coloured(printable(text), state, sys.stdout) + "\n" if state else f"{printable(text)}\n")

    @property
    def columns(self) -> int | None:
        """Of the terminal that stdout is; None for a file or pipe, which lines are not cut for."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def fitted(self, path: str, before: int, behind: int = 0) -> str:
        """A path as it is, on a terminal cut in its middle to what a line has left for it.

        Args:
            before, behind: columns of the line that other things take.
        """
        return path if self.columns is None else shortened(path, self.columns - before - behind - 1)

    @property
    def says_twice(self) -> bool:
        """Whether remarks and data go to one terminal, where a line of each about one thing is one too many."""
        return not self.quiet and sys.stdout.isatty() and sys.stderr.isatty()

    def lines(self, texts: Iterable[str]) -> None:
        """Several lines."""
        _write(sys.stdout, "".join(f"{printable(text)}\n" for text in texts))

    def row(self, *cells: str) -> None:
        """A line of cells with tabs between them."""
        _write(sys.stdout, "\t".join(map(printable, cells)) + "\n")

    def text(self, text: str, end: str = "") -> None:
        """A piece of an answer, or of a page of ours: its lines and tabs stay, in a pipe nothing else does either."""
        _write(sys.stdout, printable(text, "\n\t") + end)

    def path(self, path: str | os.PathLike[str]) -> None:
        """A file, for the next command: as it is called, but for what would steer a terminal.

        Bytes that are not UTF-8 go into a pipe as they are; a terminal might take them for controls.
        """
        name = os.fspath(path)
        _write(sys.stdout, printable(name, "" if sys.stdout.isatty() else _bytes_of_names(name)) + "\n")

    def json(self, value: object, indent: int | None = None) -> None:
        """One value as JSON, which writes all but plain ASCII as escapes: it holds every name exactly."""
        _write(sys.stdout, json.dumps(value, indent=indent) + "\n")

    def error(self, error: BaseException) -> int:
        """Print an error and return its exit code."""
        code = exits.exit_code(error)
        message, hint = exits.describe(error)
        if self.debug:
            import traceback

            _write(sys.stderr, printable("".join(traceback.format_exception(error)), "\n"))
        if self.json_errors:
            values: dict[str, Any] = {"code": code, "message": message}
            if hint:
                values["hint"] = hint
            _write(sys.stderr, json.dumps(values) + "\n")
        else:
            self.words(f"error: {message}")
            if hint:
                self.words(f"hint: {hint}")
        return code

    def warn(self, message: str) -> None:
        """What is odd, said even when quiet."""
        self.words(f"warning: {message}")

    def warn_once(self, message: str) -> None:
        if message not in self.said:
            self.said.add(message)
            self.warn(message)

    def say(self, message: str) -> None:
        """A remark; not when quiet."""
        if not self.quiet:
            self.words(message)

    def detail(self, message: str) -> None:
        """What was found and decided on the way; only when verbose."""
        if self.verbose:
            self.words(message)

    def words(self, text: str, end: str = "\n") -> None:
        """A line that was asked for."""
        label = next((label for label in _LABELS if text.startswith(label)), "")
        _write(sys.stderr, (_coloured(printable(text), label, sys.stderr) if label else printable(text)) + end)

    def page(self, text: str) -> None:
        """Lines of our own, a help page for instance."""
        _write(sys.stderr, printable(text, "\n") + "\n")

    def question(self) -> str:
        """A line from the user, after a prompt where it cannot be taken for an answer.

        Raises:
            EOFError: there is none.
        """
        if sys.stdout.isatty():
            return input("? ")
        _write(sys.stderr, "? ")
        return input()

    def agrees(self, question: str, yes: bool) -> bool:
        """Whether the user agrees to a removal.

        Args:
            yes: said beforehand.

        Raises:
            CommandError: nobody to ask.
        """
        if yes:
            return True
        if not sys.stdin.isatty():
            raise exits.CommandError("nothing removed: no terminal to ask on", hint="look with --dry-run, then add -y")
        self.words(f"{question} [y/N] ", end="")
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return True
        self.say("nothing removed")
        return False

    def progress(self, label: str) -> TokenProgress:
        """A progress bar over tokens; silent unless stderr is a terminal."""
        return TokenProgress(label, visible=not self.quiet and sys.stderr.isatty())


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


class TokenProgress:
    """tokens, tok/s and time left on one line of the terminal."""

    def __init__(self, label: str, visible: bool) -> None:
        self._bar: Any = None
        self._started = time.perf_counter()
        if visible:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} tokens"),
                TextColumn("{task.fields[rate]:,.0f} tok/s"),
                TimeRemainingColumn(),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(printable(label), total=0, rate=0.0)

    def __call__(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.start()  # not earlier: what is there already shows nothing
            elapsed = max(time.perf_counter() - self._started, 1e-9)
            self._bar.update(self._task, completed=done, total=total, rate=done / elapsed)

    def __enter__(self) -> TokenProgress:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class _Compiling(logging.Handler):
    """Says what the kernels log: that they are being compiled, and counts the seconds."""

    def emit(self, record: logging.LogRecord) -> None:
        seconds: float | None = getattr(record, "seconds", None)
        if seconds is None:
            console.say(f"{record.getMessage()} ...")
        else:
            console.compiling_s += seconds


class _Kept(logging.Handler):
    """Notes that there is something to resume from."""

    def emit(self, record: logging.LogRecord) -> None:
        console.kept = True


console = Console()
_KERNELS = logging.getLogger("gfkernels")
_KERNELS.addHandler(_Compiling(logging.INFO))
_KERNELS.setLevel(logging.INFO)
_KEPT = logging.getLogger("goldfinch.kept")
_KEPT.addHandler(_Kept(logging.INFO))
_KEPT.setLevel(logging.INFO)
_KEPT.propagate = False
