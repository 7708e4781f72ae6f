"""The file of gf ask --questions: one question per line, as text or as an object, or one JSON array of them."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .console import console
from .documents import clean_text, read_text
from .exits import CommandError

# What an object of the questions file may hold.
_KEYS = ("id", "question", "documents", "document")
# Of a file, and of a line of it; a question itself has a limit of its own (goldfinch.text.prompt).
MOST_QUESTIONS, MOST_LINE_CHARACTERS = 1_000_000, 1 << 20


# Of an ID that is made of a question's text.
_ID_DIGITS = 8


@dataclass(frozen=True)
class Question:
    """A question of the file.

    Attributes:
        id: as given; by default digits that follow from its text, so that they stay when other lines change.
        text: as it is asked.
        documents: those it asks, in Unicode's composed form; None for all.
        unused: keys of its object that mean nothing here.
    """

    id: str | int
    text: str
    documents: tuple[str, ...] | None = None
    unused: frozenset[str] = frozenset()


def read_questions(name: str) -> list[Question]:
    """Questions of a file, or of stdin for "-", in the encodings of documents; blank lines do not count.

    Raises:
        CommandError: a line that is neither a text nor an object with a question, or too long; no line, or too many;
            an id twice.
        NotText: see `read_text`.
    """
    found: list[Question] = []
    for place, value in _values(read_text(name), name):
        if len(found) == MOST_QUESTIONS:
            raise CommandError(f"{name} holds more than {MOST_QUESTIONS:,} questions, the most for one run")
        found.append(_question(value, place))
    if not found:
        raise CommandError(f"{name} holds no questions")
    unused = sorted(set().union(*(question.unused for question in found)))
    if unused:
        console.say(f"{name}: ignored: {', '.join(unused)}; known: {', '.join(_KEYS)}")
    found = _with_ids(found)
    # As JSON: 1 and "1" are two IDs.
    id_, times = Counter(json.dumps(question.id) for question in found).most_common(1)[0]
    if times > 1:
        raise CommandError(f"{name}: the ID {id_} occurs twice")
    return found


def _values(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """(where, a text or an object) for each question: of an array that is the whole file, or of its lines."""
    array = _array(text)
    if array is not None:
        yield from ((f"{name}, element {number}", value) for number, value in enumerate(array, 1))
        return
    # Not splitlines(): JSON may hold other ends of lines, as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{name}, line {number}", _of_line(line.strip(), f"{name}, line {number}")


def _array(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # "[Draft] Who signed?" is a question
        return None
    return found if isinstance(found, list) else None


def _of_line(line: str, place: str) -> Any:
    if len(line) > MOST_LINE_CHARACTERS:
        raise CommandError(f"{place}: {len(line):,} characters, at most {MOST_LINE_CHARACTERS:,} are allowed")
    if _array(line) is not None:
        raise CommandError(f"{place}: a JSON array, expected one question", hint="an array may be the whole file")
    if not line.startswith("{"):
        return line
    try:
        return json.loads(line)
    except ValueError as error:
        raise CommandError(f"{place}: not JSON (column {getattr(error, 'colno', 1)})") from error
    except RecursionError as error:
        raise CommandError(f"{place}: brackets nested too deeply") from error


def _question(value: Any, place: str) -> Question:
    """The question that a text or an object asks; without an ID its own is still empty."""
    values = {"question": value} if isinstance(value, str) else value
    if not isinstance(values, dict):
        raise CommandError(f"{place}: {value!r:.60}, expected a question, or an object that holds one")
    text = values.get("question")
    if not isinstance(text, str) or not text.strip():
        raise CommandError(f'{place}: no "question", expected text')
    documents = values.get("documents", values.get("document"))
    if isinstance(documents, str):
        documents = [documents]
    if documents is not None and not (
        isinstance(documents, list) and documents and all(isinstance(d, str) for d in documents)
    ):
        hint = "leave it out to ask all documents"
        raise CommandError(f'{place}: "documents" is {documents!r:.60}, expected names', hint=hint)
    names = None if documents is None else tuple(map(composed, documents))
    id_ = values.get("id", "")
    id_ = "" if id_ is None else id_
    if not isinstance(id_, str | int) or isinstance(id_, bool):
        raise CommandError(f'{place}: "id" is {id_!r:.60}, expected a text or a whole number')
    return Question(id_, clean_text(text.strip()), names, frozenset(values).difference(_KEYS))


def composed(name: str) -> str:
    """A name in Unicode's composed form: file systems and editors disagree on it."""
    return unicodedata.normalize("NFC", name)


def _with_ids(questions: list[Question]) -> list[Question]:
    """An ID for each that has none: of its text, and of how often that was asked before."""
    times: Counter[str] = Counter()
    found = []
    for question in questions:
        if question.id == "":
            digest = default_id(question.text)
            times[digest] += 1
            id_ = digest if times[digest] == 1 else f"{digest}-{times[digest]}"
            question = replace(question, id=id_)
        found.append(question)
    return found


def default_id(text: str) -> str:
    """The ID of a question that gives none."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:_ID_DIGITS]
