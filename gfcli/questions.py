"""gf ask --questions: documents times questions, each document loaded once, resumable."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .answering import How, answer_json, open_cache_with_model, say_path
from .citing import citations
from .console import console
from .documents import clean_text, read_text
from .exits import NOT_FOUND, SOME_FAILED, CommandError, describe, exit_code
from .explain import read_header, require_cached, warn_if_stale

if TYPE_CHECKING:
    from goldfinch.session import Answer, Session

    from .ask import Options

# Document, id and text of a question.
_Place = tuple[str, str, str]
# What an object of the questions file may hold.
_KEYS = ("id", "question", "documents", "document")
# How a line of answers begins: one that a kill has cut short is told by it.
_LINE_START = b'{"id": '


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


@dataclass(frozen=True)
class Task:
    """One answer to give: a document, a question, and a key that is the same in a later run of the same command."""

    document: str
    question: Question
    key: str

    @property
    def place(self) -> _Place:
        """What a newer answer has to share with an older one to replace it."""
        return self.document, self.question.id, self.question.text


def ask_many(
    first: str | None,
    second: str | None,
    caches: Sequence[str],
    questions: str,
    output: str | None,
    as_json: bool,
    how: How,
    options: Options,
) -> None:
    """The whole command; see `gf ask --help`.

    Raises:
        typer.Exit: exit 3 when some answers failed.
        CommandError: nothing to ask, or a wrong combination of options.
    """
    if second is not None or (caches and first is not None):
        raise CommandError("a question and --questions", hint="put it into the file")
    if options.explain:
        raise CommandError("--explain belongs to one question", hint="ask it without --questions")
    if how.usage:
        raise CommandError("-u with --questions", hint="counts and timings of each answer: --jsonl")
    if how.cite and not as_json:
        raise CommandError("--cite with --questions needs --jsonl", hint="add --jsonl")
    documents = expand(caches) if caches else [] if first is None else [first]
    if not documents:
        raise CommandError("no document", hint="--cache 'kb/*.gfc', or gf ask doc.txt --questions FILE")
    if output is not None and os.path.realpath(output) == os.path.realpath(questions):
        raise CommandError(f"-o {output} is the file of questions", hint="choose another file with -o")
    asked = read_questions(questions)
    _check_names(documents, asked)
    tasks = [t for document in documents for t in _tasks_of(document, asked, how, options)]
    with _Answers(output, tasks, as_json) as answers:
        for document in documents:
            of_document = [t for t in tasks if t.document == document and t.key not in answers.done]
            if of_document:
                _answer_document(document, of_document, answers, how, options)
    done = len(tasks) - answers.failures
    console.say(f"{done} of {len(tasks)} answers" + (f", {answers.kept} of them from before" if answers.kept else ""))
    if answers.failures:
        raise typer.Exit(SOME_FAILED)


def expand(patterns: Sequence[str]) -> list[str]:
    """Files of names and patterns, each once, in the order given.

    Raises:
        CommandError: a pattern that fits nothing (exit 4).
    """
    found: list[str] = []
    for pattern in patterns:
        fitting = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        if not fitting:
            raise CommandError(f"{pattern}: no such file, and nothing fits it", code=NOT_FOUND)
        found += fitting
    return list(dict.fromkeys(found))


def read_questions(name: str) -> list[Question]:
    """Questions of a file, or of stdin for "-", in the encodings of documents; blank lines do not count.

    Raises:
        CommandError: a line that is neither a text nor an object with a question; no line; an id twice.
        NotText: PDF, HTML, or binary data.
    """
    text = read_text(name)
    # Not splitlines(): JSON may hold other ends of lines, as they are.
    found = [_question(line.strip(), n, name) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not found:
        raise CommandError(f"{name} holds no question")
    unused = sorted(set().union(*(question.unused for question in found)))
    if unused:
        console.say(f"{name}: not used: {', '.join(unused)}; known: {', '.join(_KEYS)}")
    twice = [q.id for i, q in enumerate(found) if q.id in {other.id for other in found[:i]}]
    if twice:
        raise CommandError(f"{name}: the id {twice[0]!r} occurs twice")
    return found


def _question(line: str, number: int, name: str) -> Question:
    if not line.startswith("{"):
        return Question(str(number), clean_text(line))
    try:
        values = json.loads(line)
    except ValueError as error:
        raise CommandError(f"{name}, line {number}: not JSON: {error}") from error
    text = values.get("question")
    if not isinstance(text, str) or not text.strip():
        raise CommandError(f'{name}, line {number}: no "question", expected a text')
    documents = values.get("documents", values.get("document"))
    if isinstance(documents, str):
        documents = [documents]
    if documents is not None and not (isinstance(documents, list) and all(isinstance(d, str) for d in documents)):
        raise CommandError(f'{name}, line {number}: "documents" is {documents!r}, expected names')
    documents = None if documents is None else tuple(documents)
    given = values.get("id")
    unused = frozenset(values).difference(_KEYS)
    return Question(str(number if given is None else given), clean_text(text.strip()), documents, unused)


def _names_of(document: str) -> set[str]:
    """What a question may call a document: its path, file name or stem, or those of the source of a cache."""
    names = {document, os.path.basename(document), Path(document).stem}
    if document.endswith(".gfc"):
        import gfcache

        with contextlib.suppress(OSError, gfcache.CacheFormatError), gfcache.read_cache(document) as file:
            source = file.header.source or {}
            names |= {str(source[n]) for n in ("name", "path") if source.get(n)}
    return names


def _check_names(documents: Sequence[str], asked: Sequence[Question]) -> None:
    known = set().union(*(_names_of(document) for document in documents))
    for question in asked:
        for name in question.documents or ():
            if name not in known:
                raise CommandError(f"question {question.id} asks {name!r}, which is none of the documents")


def _tasks_of(document: str, asked: Sequence[Question], how: How, options: Options) -> Iterator[Task]:
    """The tasks of a document; their keys change with its bytes, the question and the options that shape an answer."""
    names, digest = _names_of(document), _digest(document)
    for question in asked:
        if question.documents is None or names & set(question.documents):
            parts = [document, digest, question.id, question.text, how.sampling, how.raw, how.cite]
            parts += [options.model, options.dtype]
            key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
            yield Task(document, question, key)


def _digest(document: str) -> str:
    try:
        with open(document, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""  # fails when it is opened, and is named then


def _answer_document(document: str, tasks: Sequence[Task], answers: _Answers, how: How, options: Options) -> None:
    from goldfinch.batching import MOST_ROWS, ask_many

    try:
        session = _session(document, how, options)
    except Exception as error:
        for task in tasks:
            answers.failed(task, error)
        return
    for start in range(0, len(tasks), MOST_ROWS):
        group = tasks[start : start + MOST_ROWS]
        try:
            found = ask_many(session, [t.question.text for t in group], raw=how.raw, **how.sampling)
            rows = [_values(session, task, answer, how) for task, answer in zip(group, found, strict=True)]
        except Exception as error:
            for task in group:
                answers.failed(task, error)
            continue
        for task, values in zip(group, rows, strict=True):
            answers.answered(task, values)


def _values(session: Session, task: Task, answer: Answer, how: How) -> dict[str, Any]:
    values = answer_json(answer.text, answer.usage, 0.0)
    if how.cite:
        values["citations"] = citations(session, task.question.text, answer.token_ids, how.raw)
    return values


def _session(document: str, how: How, options: Options) -> Session:
    if not document.endswith(".gfc"):
        from .library import library_session

        return library_session(document, how, options)
    if options.require_cached:
        require_cached(document, read_header(document))
    else:
        warn_if_stale(document)
    model, cache = open_cache_with_model(
        document, options.model, options.device, options.dtype, options.strict, options.loaded, checkpoints=False
    )
    from goldfinch import Session

    session = Session(model, cache, memory_bytes=options.memory_bytes)
    say_path(session)
    return session


class _Answers:
    """Where answers go: stdout, or a file that a later run goes on from.

    The file loses no good answer: those that this command does not ask for stay, until a newer answer to the same
    question about the same document takes their place.

    Args:
        path: the file, or None.
        tasks: all that are asked, in the order of the finished file.
        as_json: one JSON object per answer; else text.

    Attributes:
        done: keys of the answers that are there.
        kept: how many of them are from an earlier run.
    """

    def __init__(self, path: str | None, tasks: Sequence[Task], as_json: bool) -> None:
        if path is not None and not as_json:
            raise CommandError("-o needs --jsonl", hint="or a shell's > FILE")
        self._path, self._tasks, self._as_json = None if path is None else Path(path), tasks, as_json
        self.done: set[str] = set()
        self.failures = self.kept = 0
        self._begun = False
        self._lines: dict[str, str] = {}
        self._others: dict[str, tuple[_Place, str]] = {}

    def __enter__(self) -> _Answers:
        if self._path is not None:
            keys = {task.key for task in self._tasks}
            for key, place, line in _earlier(self._path):
                if key in keys:
                    self._lines[key] = line
                else:
                    self._others[key] = place, line
            self.done, self.kept = set(self._lines), len(self._lines)
        return self

    def __exit__(self, *_: object) -> None:
        # However the run ends, what is done stands in the order of the command; what failed is asked again next time.
        if self._path is not None:
            self._rewrite()
            others = len(self._others_left())
            if others:
                console.say(f"{self._path} keeps {others} answers that this command did not ask for")

    def _others_left(self) -> list[str]:
        renewed = {task.place for task in self._tasks if task.key in self.done}
        return [line for place, line in self._others.values() if place not in renewed]

    def _rewrite(self) -> None:
        """All lines in order, in one step."""
        assert self._path is not None
        handle, temporary = tempfile.mkstemp(prefix=f".{self._path.name}.", suffix=".tmp", dir=self._path.parent)
        lines = [self._lines[task.key] for task in self._tasks if task.key in self._lines]
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.writelines(line + "\n" for line in lines + self._others_left())
            os.chmod(temporary, 0o644 if not self._path.exists() else self._path.stat().st_mode & 0o777)
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)
            raise

    def answered(self, task: Task, values: dict[str, Any]) -> None:
        """An answer."""
        self.done.add(task.key)
        self._put(task, "ok", values)

    def failed(self, task: Task, error: Exception) -> None:
        """A failure, named."""
        self.failures += 1
        message, hint = describe(error)
        if not self._as_json or self._path is not None:
            named = message if task.document in message else f"{task.document}: {message}"
            console.error(CommandError(f"question {task.question.id}: {named}", code=exit_code(error), hint=hint))
        if self._as_json:
            self._put(task, "failed", {"error": {"code": exit_code(error), "message": message}})

    def _put(self, task: Task, status: str, values: dict[str, Any]) -> None:
        if not self._as_json:
            print(f"{task.document}\t{task.question.id}\t{' '.join(values['answer'].split())}", flush=True)
            return
        place = {"id": task.question.id, "document": task.document, "question": task.question.text}
        line = json.dumps(place | {"status": status, "key": task.key} | values)
        if self._path is None:
            print(line, flush=True)
            return
        if not self._begun:  # a line that an earlier run left cut short would join this one
            self._rewrite()
            self._begun = True
        self._lines[task.key] = line
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")


def _earlier(path: Path) -> Iterator[tuple[str, _Place, str]]:
    """Good answers of earlier runs: key, place and line. Failures and a line cut short are left out.

    Raises:
        CommandError: the file holds anything else.
    """
    if not path.exists():
        return
    foreign = CommandError(f"{path} exists and holds something else than answers", hint="choose another file with -o")
    if not path.is_file():
        raise foreign
    *lines, last = path.read_bytes().split(b"\n")
    for raw in lines + ([last] if last else []):
        try:
            row = json.loads(raw)
            key, place = str(row["key"]), (row["document"], row["id"], row["question"])
            is_ok = row["status"] == "ok" and isinstance(row["answer"], str)
            if not is_ok and row["error"] is None:
                raise foreign
        except (ValueError, KeyError, TypeError) as error:
            if raw is last and raw.startswith(_LINE_START):
                continue
            raise foreign from error
        if is_ok:
            yield key, place, raw.decode()
