"""Chat templates of strangers, rendered within limits."""

from __future__ import annotations

import pytest

from goldfinch.errors import ModelRefused
from goldfinch.foreign.chat_template import render, rendered_here
from tests.goldfinch.foreign.folders import CHAT_TEMPLATE

SYSTEM_FIRST = "{% if messages[0].role != 'system' %}<s>be kind</s>{% endif %}" + CHAT_TEMPLATE.replace(
    "{{ message['content'] }}", "{{ message.content | trim }}"
)


def test_three_strings() -> None:
    found = render(SYSTEM_FIRST, {"bos_token": "<b>"})
    assert found.before == "<s>be kind</s><b><|turn|>user\n"
    assert found.between.endswith("\nQuestion: ")
    assert not found.between.startswith("\n")  # the line break belongs to the document
    assert found.after == "<|end|>\n<|turn|>assistant\n"
    assert found.turn_end.startswith("<|end|>")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('no users here') }}", "no users here"),
        ("{% for", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError|handed|hand on"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.system('touch ran') }}", "SecurityError|UndefinedError"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "time or memory|more than"),
        ("{{ 'x' * 9999999999 }}", "MemoryError|OverflowError|time or memory"),
        ("{{ 'x' * 99999999 }}", "too long a text"),
        ("{{ messages[0].content | upper }}", "as they are"),
        ("nothing of it", "as they are"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "as they are"),
    ],
)
def test_a_template_that_is_not_taken(template: str, words: str) -> None:
    with pytest.raises(ModelRefused, match=words):
        render(template, {})


def test_it_is_rendered_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are set on a process, so they must not be set on this one."""
    monkeypatch.setattr("goldfinch.foreign.chat_template.rendered_here", lambda asked: pytest.fail("rendered here"))
    assert render(CHAT_TEMPLATE, {"bos_token": ""}).after.startswith("<|end|>")
    assert callable(rendered_here)
