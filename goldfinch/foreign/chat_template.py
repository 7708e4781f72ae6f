"""A model's chat template, rendered once: in Jinja's sandbox, in a process of its own with limits of time and memory.

A template is a program of a stranger. It sees two marks in place of document and question; what it puts around them
become three strings, and it is never run again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from goldfinch.errors import ModelRefused

SECONDS, _MEMORY_BYTES = 10.0, 2 << 30
# No blanks at their ends, which templates cut off; no letters that templates change.
_DOCUMENT, _QUESTION, _ANSWER = "GFDOCUMENT7261", "GFQUESTION7261", "GFANSWER7261"
_ASKED = "\nAnswer the question from the text above, in a few words.\nQuestion: "
_MOST_TEXT = 1 << 15


@dataclass(frozen=True)
class Rendered:
    """What a chat template puts around a document and a question.

    Attributes:
        before, between, after: the three strings; `after` begins the model's turn.
        turn_end: what follows an answer; empty where nothing does.
    """

    before: str
    between: str
    after: str
    turn_end: str


def render(template: str, special_texts: Mapping[str, str]) -> Rendered:
    """Render a chat template around marks. The document stands in the first user turn, all that changes after it.

    Args:
        template: in Jinja.
        special_texts: bos_token and the like.

    Raises:
        ModelRefused: it fails, takes too long, or does not keep document and question as they are.
    """
    user = {"role": "user", "content": f"{_DOCUMENT}{_ASKED}{_QUESTION}"}
    asked, answered = _in_a_process(
        template, [[user], [user, {"role": "assistant", "content": _ANSWER}]], special_texts
    )
    parts = asked.replace(_QUESTION, _DOCUMENT).split(_DOCUMENT)
    if len(parts) != 3 or asked.find(_DOCUMENT) > asked.find(_QUESTION) or len(asked) > _MOST_TEXT:
        raise ModelRefused("the chat template does not hand on document and question as they are, once each")
    return Rendered(parts[0], parts[1].removeprefix("\n"), parts[2], answered.partition(_ANSWER)[2])


def _in_a_process(template: str, conversations: list[Any], special_texts: Mapping[str, str]) -> list[str]:
    """Each conversation as text; the first with the beginning of the model's turn."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=render_in_child, args=(theirs, template, conversations, dict(special_texts)), daemon=True
    )
    process.start()
    theirs.close()
    try:
        found: Any = ours.recv() if ours.poll(SECONDS) else None
    except EOFError:
        found = "it ended without a word, or took too much memory"
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(found, list):
        return found
    reason = found if found is not None else f"it took more than {SECONDS:.0f} s"
    raise ModelRefused(f"the chat template cannot be rendered: {reason}")


def render_in_child(out: Connection, template: str, conversations: list[Any], special_texts: dict[str, str]) -> None:
    """What the process does: sends a list of texts, or words about what failed."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS)))
    try:
        from jinja2.exceptions import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

        def raise_exception(message: str) -> None:
            raise TemplateError(message)

        environment.globals["raise_exception"] = raise_exception
        environment.filters["tojson"] = _to_json
        compiled = environment.from_string(template)
        out.send([
            compiled.render(messages=messages, add_generation_prompt=number == 0, tools=None, **special_texts)
            for number, messages in enumerate(conversations)
        ])  # fmt: skip
    except BaseException as error:
        with contextlib.suppress(OSError):
            out.send(f"{type(error).__name__} {str(error)[:200]}")


def _to_json(value: object, indent: int | None = None) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, indent=indent)
