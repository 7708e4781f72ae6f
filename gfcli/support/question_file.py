"""The file of gf ask --questions: one question per line, as text or as an object."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from .console import console
from .documents import clean_text, read_text
from .exits import CommandError

# What an object of the questions file may hold.
_KEYS = ("id", "question", "documents", "document")
# Of a file, and of a line of it; a question itself has a limit of its own (goldfinch.text.prompt).
MOST_QUESTIONS, MOST_LINE_CHARACTERS = 1_000_000, 1 << 20


@dataclass(frozen=True)
class Question:
    """A line of the questions file.

    Attributes:
        id: by default its number, from 1.
        text: as it is asked.
        documents: those it asks; None for all.
        unused: keys of its object that mean nothing here.
    """

    id: str
    text: str
    documents: tuple[str, ...] | None = None
    unused: frozenset[str] = frozenset()


def read_questions(name: str) -> list[Question]:
    """Questions of a file, or of stdin for "-", in the encodings of documents; blank lines do not count.

    Raises:
        CommandError: a line that is neither a text nor an object with a question, or too long; no line, or too many;
            an id twice.
        NotText: PDF, HTML, or binary data.
    """
    text = read_text(name)
    # Not splitlines(): JSON may hold other ends of lines, as they are.
    found: list[Question] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            if len(found) == MOST_QUESTIONS:
                raise CommandError(f"{name} holds more than {MOST_QUESTIONS:,} questions, the most for one run")
            found.append(_question(line.strip(), number, name))
    if not found:
        raise CommandError(f"{name} holds no questions")
    unused = sorted(set().union(*(question.unused for question in found)))
    if unused:
        console.say(f"{name}: ignored: {', '.join(unused)}; known: {', '.join(_KEYS)}")
    id_, times = Counter(question.id for question in found).most_common(1)[0]
    if times > 1:
        raise CommandError(f"{name}: the ID {id_!r} occurs twice")
    return found


def _question(line: str, number: int, name: str) -> Question:
    if len(line) > MOST_LINE_CHARACTERS:
        raise CommandError(
            f"{name}, line {number}: {len(line):,} characters, at most {MOST_LINE_CHARACTERS:,} are allowed"
        )
    if not line.startswith("{"):
        return Question(str(number), clean_text(line))
    try:
        values = json.loads(line)
    except ValueError as error:
        raise CommandError(f"{name}, line {number}: not JSON: {error}") from error
    except RecursionError as error:
        raise CommandError(f"{name}, line {number}: brackets nested too deeply") from error
    text = values.get("question")
    if not isinstance(text, str) or not text.strip():
        raise CommandError(f'{name}, line {number}: no "question", expected text')
    documents = values.get("documents", values.get("document"))
    if isinstance(documents, str):
        documents = [documents]
    if documents is not None and not (isinstance(documents, list) and all(isinstance(d, str) for d in documents)):
        raise CommandError(f'{name}, line {number}: "documents" is {documents!r}, expected names')
    documents = None if documents is None else tuple(documents)
    given = values.get("id")
    unused = frozenset(values).difference(_KEYS)
    return Question(str(number if given is None else given), clean_text(text.strip()), documents, unused)
