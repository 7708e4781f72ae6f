"""Documents that a command names: files and stdin."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from goldfinch.errors import EmptyInput
from goldfinch.jobs.selection import Selection, selection
from goldfinch.jobs.sources import STDIN, Source
from goldfinch.text.documents import STDIN_LABEL, USUAL, Document, Reading
from goldfinch.text.encodings import checked_encoding, decode
from goldfinch.text.inputs import MOST_LIST_BYTES, read_named, read_stdin
from goldfinch.text.prompt import MOST_QUESTION_CHARACTERS, check_question

from .console import console
from .exits import CommandError


def clean_text(text: str) -> str:
    """Text that was typed or piped in; bytes of it that are not UTF-8 came as surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def question_of(given: str | None, *, may_be_empty: bool = False) -> str:
    """The question of the command line, or the text of stdin.

    Raises:
        EmptyInput: there is none.
        QuestionTooLong: as said.
    """
    question = clean_text(sys.stdin.read(MOST_QUESTION_CHARACTERS + 1).strip() if given is None else given)
    check_question(question)
    if not (question.strip() or may_be_empty):
        raise EmptyInput("the question is empty", hint='gf ask doc.txt "QUESTION"')
    return question


def is_piped() -> bool:
    """Whether something is piped or redirected into this process: a terminal, or nothing at all, is not."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def read_text(name: str) -> str:
    """The text of a file, or of stdin for "-", in any encoding that documents may have.

    Raises:
        OSError, NotText, InputRefused: see `read_document`.
    """
    data = read_stdin(MOST_LIST_BYTES) if name == STDIN else read_named(Path(name), MOST_LIST_BYTES)
    decoded = decode(data, STDIN_LABEL if name == STDIN else name)
    if decoded.remark:
        console.warn(decoded.remark)
    return decoded.text


def reading_of(encoding: str, verbatim: bool, skip_blobs: bool) -> Reading:
    """How the options say that files become text."""
    return Reading(checked_encoding(encoding), verbatim=verbatim, skip_blobs=skip_blobs)


def read_document(source: Source | str, reading: Reading = USUAL) -> Document:
    """Read a document; what is odd about it goes to stderr.

    Args:
        source: a path, "-" for stdin, or one of several that were found, which know how to be read.
        reading: how it becomes text.

    Raises:
        the errors of `Source.read`.
    """
    found = Source(source, reading=reading) if isinstance(source, str) else source
    document = found.read()
    if document.remark:
        console.warn(document.remark)
    return document


def check_list_options(files_from: str | None, null: bool) -> None:
    """Refuse -0 without the list that it is about.

    Raises:
        CommandError: exit 2.
    """
    if null and files_from is None:
        raise CommandError(
            "-0 belongs to --files-from", hint="find . -name '*.md' -print0 | gf prefill --files-from - -0"
        )


def chosen_files(
    recursive: bool, exclude: list[str] | None, include: list[str] | None, extensions: list[str] | None
) -> Selection | None:
    """Which files of folders the options want; None for all.

    Raises:
        CommandError: exit 2, without -r.
        SourceError: see `selection`.
    """
    if not (exclude or include or extensions):
        return None
    if not recursive:
        raise CommandError(
            "--exclude, --include and -e choose among the files of folders", hint="add -r: gf prefill -r docs/ -e md"
        )
    return selection(exclude or (), include or (), extensions or ())
