"""Where the answers of gf ask --questions go: stdout, or a file that a later run resumes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gfcache
from gfcache.files.regular import NotRegular, read_regular
from gfcache.files.replace import PRIVATE, replacing

from .console import console
from .exits import CommandError
from .question_file import Question
from .tally import Failures
from .values import counted

# Document, id and text of a question.
_Place = tuple[str, str | int, str]
# How a line of answers begins: it tells one that a kill has cut short.
_LINE_START = b'{"id": '
MOST_ANSWERS_BYTES = 1 << 32


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


class Answers:
    """Where answers go: stdout, or a file that a later run resumes.

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
            raise CommandError("-o needs --jsonl", hint="add --jsonl, or write text with > FILE")
        # An output that is a link is written where it leads.
        self._path = None if path is None else Path(os.path.realpath(path) if os.path.islink(path) else path)
        self._tasks, self._as_json = tasks, as_json
        self._lock = contextlib.ExitStack()
        self.done: set[str] = set()
        self.failures, self.kept = Failures(), 0
        self._begun = False
        self._lines: dict[str, str] = {}
        self._others: dict[str, tuple[_Place, str]] = {}

    def __enter__(self) -> Answers:
        if self._path is not None:
            with contextlib.ExitStack() as stack:
                stack.enter_context(gfcache.output_lock(self._path))
                keys = {task.key for task in self._tasks}
                for key, place, line in _earlier(self._path):
                    if key in keys:
                        self._lines[key] = line
                    else:
                        self._others[key] = place, line
                self._lock = stack.pop_all()
            self.done, self.kept = set(self._lines), len(self._lines)
            console.kept = bool(self.kept)
        return self

    def __exit__(self, *_: object) -> None:
        # However the run ends, what is done stands in the order of the command; what failed is asked again next time.
        if self._path is not None:
            with self._lock:
                self._rewrite()
            others = len(self._others_left())
            if others:
                console.say(f"{self._path} keeps {counted(others, 'answer')} that this command did not ask for")

    def _others_left(self) -> list[str]:
        renewed = {task.place for task in self._tasks if task.key in self.done}
        return [line for place, line in self._others.values() if place not in renewed]

    def _rewrite(self) -> None:
        """All lines in order, in one step."""
        assert self._path is not None
        lines = [self._lines[task.key] for task in self._tasks if task.key in self._lines]
        # Answers tell what the document says: a new file is private, that of an earlier run keeps its mode.
        with replacing(self._path, mode=None if self._path.exists() else PRIVATE) as stream:
            stream.writelines(f"{line}\n".encode() for line in lines + self._others_left())

    def answered(self, task: Task, values: dict[str, Any]) -> None:
        """An answer."""
        self.done.add(task.key)
        self._put(task, "ok", values)

    def failed(self, task: Task, error: Exception) -> None:
        """A failure, named."""
        say = not self._as_json or self._path is not None
        failed = self.failures.note(task.document, error, say=say, about=f"question {task.question.id}: ")
        if self._as_json:
            self._put(task, "failed", {"error": failed})

    def _put(self, task: Task, status: str, values: dict[str, Any]) -> None:
        if not self._as_json:
            question, answer = (" ".join(text.split()) for text in (task.question.text, values["answer"]))
            console.row(task.document, str(task.question.id), question, answer)
            return
        place = {"id": task.question.id, "document": task.document, "question": task.question.text}
        row = place | {"status": status, "key": task.key} | values
        if self._path is None:
            console.json(row)
            return
        line = json.dumps(row)
        if not self._begun:  # a line that an earlier run left cut short would join this one
            self._rewrite()
            self._begun = True
        self._lines[task.key] = line
        try:
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(line + "\n")
            console.kept = True
        except OSError as error:
            raise gfcache.CacheWriteError(self._path, error) from error


def _earlier(path: Path) -> Iterator[tuple[str, _Place, str]]:
    """Good answers of earlier runs: key, place and line. Failures and a line cut short are left out.

    Raises:
        CommandError: the file holds anything else.
    """
    if not path.exists():
        return
    foreign = CommandError(f"{path} exists and does not hold answers", hint="choose another file with -o")
    try:
        data = read_regular(path, MOST_ANSWERS_BYTES)
    except NotRegular as error:
        raise foreign from error
    # A power cut leaves zeros where the last lines were to be.
    *lines, last = data.rstrip(b"\0").split(b"\n")
    for raw in lines + ([last] if last else []):
        try:
            row = json.loads(raw)
            key, place = str(row["key"]), (row["document"], row["id"], row["question"])
            if not all(isinstance(part, str) for part in place):
                raise foreign
            is_ok = row["status"] == "ok" and isinstance(row["answer"], str)
            if not is_ok and row["error"] is None:
                raise foreign
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if raw is last and (raw.startswith(_LINE_START) or _LINE_START.startswith(raw)):
                continue
            raise foreign from error
        if is_ok:
            yield key, place, raw.decode()
