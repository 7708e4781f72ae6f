"""Every task by name."""

from __future__ import annotations

from collections.abc import Sequence

from goldfinch.errors import GoldFinchError

from . import reading, retrieval, writing
from .base import Task

TASKS: dict[str, Task] = {task.name: task for task in (*retrieval.TASKS, *reading.TASKS, *writing.TASKS)}


def tasks_of(names: Sequence[str]) -> list[Task]:
    """The tasks of these names, in their order; all of them for "all".

    Raises:
        GoldFinchError: no such task.
    """
    found: dict[str, Task] = {}
    for name in names:
        if name == "all":
            found |= TASKS
        elif name in TASKS:
            found[name] = TASKS[name]
        else:
            raise GoldFinchError(f"a task is {name!r:.60}, allowed: all, {', '.join(TASKS)}")
    return list(found.values())
