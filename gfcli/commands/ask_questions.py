"""gf ask --questions: documents times questions, each document loaded once, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfcache import layout
from gfcache.files.regular import open_regular

from gfcli.support.answers import How, answer_json, citations, cited_tokens, document_name, note_answer
from gfcli.support.answers_file import Answers, Task
from gfcli.support.cache_files import expand
from gfcli.support.console import console
from gfcli.support.documents import STDIN, read_document
from gfcli.support.exits import CommandError
from gfcli.support.explain import read_header
from gfcli.support.options import model_card, numerics
from gfcli.support.question_file import Question, composed, read_questions
from gfcli.support.sessions import Options, cache_session, library_session
from gfcli.support.values import SHORT_DTYPES
from goldfinch.library.opening import model_asked
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.text.documents import Document

if TYPE_CHECKING:
    from goldfinch.engine.answer import Answer
    from goldfinch.engine.session import Session


@dataclass(frozen=True)
class Asked:
    """A document that questions are asked about.

    Attributes:
        name: as the command has it.
        names: what a question may call it: its path, file name or stem, or those of the source of a cache.
        basis: what answers follow from besides question and options: the bytes of the document, and the model.
        document: its text, read once (it may be a pipe); None for a cache file.
        obstacle: why it cannot be read.
    """

    name: str
    names: frozenset[str]
    basis: tuple[str, ...] = ()
    document: Document | None = None
    obstacle: Exception | None = None


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
        raise CommandError("a question and --questions do not go together", hint="put the question into the file")
    if options.explain:
        raise CommandError("--explain belongs to one question", hint="ask it without --questions")
    if how.usage:
        raise CommandError(
            "-u and --questions do not go together", hint="--jsonl prints counts and timings of each answer"
        )
    if how.cite and not as_json:
        raise CommandError("--cite with --questions needs --jsonl", hint="add --jsonl")
    names = expand(caches) if caches else [] if first is None else [first]
    if not names:
        raise CommandError(
            "no document",
            hint=f"add --cache 'kb/*.gfc', or name a document: gf ask doc.txt --questions {shlex.quote(questions)}",
        )
    if names[0] == questions == STDIN:
        raise CommandError("the document and the questions are both stdin", hint="put one of them into a file")
    if output is not None and os.path.realpath(output) == os.path.realpath(questions):
        raise CommandError(f"-o {output} is the file of questions", hint="choose another file with -o")
    asked = read_questions(questions)
    if caches or names[0].endswith(layout.SUFFIX):
        cards: dict[str, str] = {}
        documents = [_asked_cache(name, options, cards) for name in names]
    else:
        documents = [_asked_text(names[0], options)]
    _check_names(documents, asked)
    tasks = {d.name: list(_tasks_of(d, asked, how)) for d in documents}
    in_order = [task for of_document in tasks.values() for task in of_document]
    with Answers(output, in_order, as_json) as answers:
        for document in documents:
            to_do = [task for task in tasks[document.name] if task.key not in answers.done]
            if to_do:
                _answer_document(document, to_do, answers, how, options)
    done = len(in_order) - len(answers.failures)
    console.say(f"{done} of {len(in_order)} answers" + (f", {answers.kept} of them reused" if answers.kept else ""))
    answers.failures.end()


def _asked_cache(name: str, options: Options, cards: dict[str, str]) -> Asked:
    """A cache file to ask; what is wrong with it shows, and is named, when it is opened.

    Args:
        cards: descriptions of models by fingerprint, as far as they are known; added to.
    """
    import gfcache

    from goldfinch.errors import GoldFinchError

    dtype = options.models.dtype or ""  # else the cache's own
    names, basis = _names(name), [SHORT_DTYPES.get(dtype, dtype)]
    with contextlib.suppress(OSError, gfcache.CacheFormatError, GoldFinchError):
        with os.fdopen(open_regular(name, follow=True), "rb") as stream:  # a pipe or device may never end
            basis.append(hashlib.file_digest(stream, "sha256").hexdigest())
        header = read_header(name)
        names |= {composed(str(header.source[n])) for n in ("name", "path") if header.source and header.source.get(n)}
        key = options.model or header.model["prefill_fingerprint"] + header.model["model_fingerprint"]
        if key not in cards:
            cards[key] = model_asked(header, options.model, remark=console.warn_once).to_json()
        basis.append(cards[key])
    return Asked(name, frozenset(names), tuple(basis))


def _asked_text(name: str, options: Options) -> Asked:
    """A document to ask through the library."""
    card = model_card(options.model)
    try:
        document = read_document(name, options.reading)
    except Exception as error:
        return Asked(name, _names(name), obstacle=error)
    _, dtype = numerics(options.models.device, options.models.dtype, card=card)
    return Asked(name, _names(name), (dtype, document.source["sha256"], card.to_json()), document)


def _names(name: str) -> frozenset[str]:
    return frozenset(map(composed, (name, os.path.basename(name), Path(name).stem)))


def _check_names(documents: Sequence[Asked], asked: Sequence[Question]) -> None:
    known = frozenset().union(*(document.names for document in documents))
    for question in asked:
        for name in question.documents or ():
            if name not in known:
                raise CommandError(f"question {question.id} asks {name!r}, which is none of the documents")


def _tasks_of(document: Asked, asked: Sequence[Question], how: How) -> Iterator[Task]:
    """The tasks of a document; their keys change with all that shapes an answer."""
    for question in asked:
        if question.documents is None or not document.names.isdisjoint(question.documents):
            shaped = [question.id, question.text, how.sampling, how.raw, how.cite, how.read, how.read_blocks]
            shaped += [how.passage] if how.passage else []  # without it, keys of earlier versions stay
            parts = [document.name, document.basis, *shaped, vectors_at_hand()]
            key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
            yield Task(document.name, question, key)


def _answer_document(document: Asked, tasks: Sequence[Task], answers: Answers, how: How, options: Options) -> None:
    from goldfinch.engine.batch_decode import MOST_ROWS
    from goldfinch.errors import GoldFinchError
    from goldfinch.library.opening import engine_of

    try:
        session = _session(document, how, options)
    except Exception as error:
        for task in tasks:
            answers.failed(task, error)
        return
    asked = []
    for task in tasks:
        try:
            session.question_token_ids(task.question.text, raw=how.raw)
        except GoldFinchError as error:  # too long: it alone fails
            answers.failed(task, error)
        else:
            asked.append(task)
    for start in range(0, len(asked), MOST_ROWS):
        group = asked[start : start + MOST_ROWS]
        try:
            texts = [task.question.text for task in group]
            found = engine_of(session.model).ask_many(session, texts, raw=how.raw, **how.sampling)
            rows = [_values(session, task, answer, how) for task, answer in zip(group, found, strict=True)]
        except Exception as error:
            for task in group:
                answers.failed(task, error)
            continue
        for task, values in zip(group, rows, strict=True):
            answers.answered(task, values)


def _values(session: Session, task: Task, answer: Answer, how: How) -> dict[str, Any]:
    values = answer_json(answer, document_name(session), 0.0, how.computed)
    how.computed = 0  # the next answer finds it cached
    note_answer(session, task.question.text, answer.text, answer.confidence, how)
    if how.cite:
        values["citations"] = citations(session, task.question.text, cited_tokens(answer), how)
    return values


def _session(document: Asked, how: How, options: Options) -> Session:
    if document.obstacle is not None:
        raise document.obstacle
    if document.document is not None:
        return library_session(document.document, how, options)
    return cache_session(document.name, how, options)
