"""Questions at a prompt, one after the other: what is typed, what is a command, and the history of both."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from gfcache.files.places import make_private, user_folder
from gfcache.files.regular import open_regular

from .console import console
from .documents import clean_text

HELP = """A question is answered about the document. Each is on its own: it does not know the ones before.
/cite         also print the lines that were read most; again, to stop that
/help         this page
exit, quit    end, as an empty line or Ctrl-D do"""
LAST_WORDS = ("exit", "quit", "/exit", "/quit")
MOST_HISTORY = 1000


def prompt(answer: Callable[[str], None], greeting: str, cite: Callable[[], bool]) -> None:
    """Questions one after the other with the model loaded.

    Args:
        answer: answers a question.
        cite: turns citations on or off, and says which.
    """
    console.say(greeting)
    with _history():
        while True:
            try:
                question = clean_text(console.question().strip())
            except (EOFError, KeyboardInterrupt) as error:
                console.words("")
                if isinstance(error, EOFError):
                    return
                raise
            if not question or question.lower() in LAST_WORDS:
                return
            if question == "/help":
                console.page(HELP)
            elif question == "/cite":
                console.words("citations on" if cite() else "citations off")
            elif question.startswith("/") and " " not in question:
                console.words(f"{question} is not a command; /help shows them")
            else:
                _answer(answer, question)


def _answer(answer: Callable[[str], None], question: str) -> None:
    try:
        answer(question)
    except KeyboardInterrupt:
        console.page("\n(stopped)")
    except BrokenPipeError:
        raise
    except Exception as error:  # of one question: the next one may do
        console.error(error)


def history_file() -> Path:
    """Where questions that were typed at a prompt are kept, for the arrow keys; nobody else may read it."""
    return user_folder("data", "goldfinch") / "history"


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing, with the questions of earlier prompts; without it where the file cannot be used."""
    try:
        import readline
    except ImportError:
        yield
        return
    with contextlib.suppress(OSError):
        os.close(open_regular(history_file()))  # a file, no link: else nothing is read
        readline.read_history_file(history_file())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path = history_file()
            make_private(path.parent)
            handle = open_regular(path, os.O_WRONLY | os.O_CREAT, mode=0o600)
            os.fchmod(handle, 0o600)
            os.close(handle)
            readline.set_history_length(MOST_HISTORY)
            readline.write_history_file(path)
