"""A model's chat template, rendered once: in Jinja's sandbox, in a process of its own with limits of time and memory.

A template is a program of a stranger. It sees two marks in place of document and question; what it puts around them
become three strings, and it is never run again.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goldfinch.errors import ModelRefused
from goldfinch.text.json_files import parse_json

SECONDS, _CPU_SECONDS, _MEMORY_BYTES = 60.0, 5, 1 << 30
# No blanks at their ends, which templates cut off; capital and small letters, to notice what changes them.
_DOCUMENT, _QUESTION, _ANSWER = "GfDocument7261", "GfQuestion7261", "GfAnswer7261"
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
    asked = json.dumps({"template": template, "conversations": conversations, "special_texts": dict(special_texts)})
    command = [sys.executable, "-P", "-m", __name__]
    try:
        done = subprocess.run(command, input=asked.encode(), capture_output=True, timeout=SECONDS, check=False)
        found = parse_json(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise _cannot(f"it took more than {SECONDS:.0f} s") from error
    except ValueError as error:
        raise _cannot("it took too much time or memory") from error
    if not isinstance(found, list):
        raise _cannot(str(found))
    return [str(text) for text in found]


def _cannot(reason: str) -> ModelRefused:
    return ModelRefused(f"the chat template cannot be rendered: {reason}")


def rendered_here(asked: bytes) -> bytes:
    """What the process does: a JSON list of texts, or words about what failed."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    try:
        from jinja2.exceptions import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        given = json.loads(asked)
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

        def raise_exception(message: str) -> None:
            raise TemplateError(message)

        environment.globals["raise_exception"] = raise_exception
        environment.filters["tojson"] = _to_json
        compiled = environment.from_string(given["template"])
        texts = [
            compiled.render(messages=messages, add_generation_prompt=number == 0, tools=None, **given["special_texts"])
            for number, messages in enumerate(given["conversations"])
        ]
        if sum(map(len, texts)) > 4 * _MOST_TEXT:
            raise ValueError("it makes too long a text")
        return json.dumps(texts).encode()
    except BaseException as error:
        return json.dumps(f"{type(error).__name__} {str(error)[:200]}").encode()


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


if __name__ == "__main__":
    os.write(sys.stdout.fileno(), rendered_here(sys.stdin.buffer.read()))
