"""What requests may hold, and what replies look like."""

from __future__ import annotations

from typing import Any

import pytest

from goldfinch.serve import openai
from goldfinch.serve.refused import Refused

USER = {"role": "user", "content": "Who?"}


def test_a_chat_is_the_last_message_of_the_user() -> None:
    parts = [{"type": "text", "text": "Who "}, {"type": "text", "text": "keeps it?"}]
    asked = openai.chat(
        {
            "model": "gf-mini-4/notes/a.txt",
            "messages": [{"role": "system", "content": "S"}, USER, {"role": "user", "content": parts}],
            "stream": True, "stream_options": {"include_usage": True}, "stop": "x", "seed": 3, "temperature": 1,
            "max_tokens": 7, "tools": [], "n": 1, "response_format": {"type": "text"}, "user": "anybody",
        }
    )  # fmt: skip
    assert (asked.question, asked.texts, asked.raw) == ("Who keeps it?", ("S", "Who?"), False)
    assert (asked.model, asked.named) == ("gf-mini-4", ("notes/a.txt", "model"))
    assert asked.stream
    assert asked.counts
    sampling = asked.sampling
    assert (sampling.max_tokens, sampling.seed, sampling.stop, sampling.temperature) == (7, 3, ("x",), 1)


def test_what_names_a_cache() -> None:
    body = {"messages": [USER], "model": "gf-mini-4/a"}
    assert openai.chat(body).named == ("a", "model")
    assert openai.chat(body | {"prompt_cache_key": "b"}).named == ("b", "prompt_cache_key")
    assert openai.chat(body | {"prompt_cache_key": "b", "cache": "c"}).named == ("c", "cache")
    assert openai.chat({"messages": [USER], "model": "gf-mini-4"}).named is None


def test_greedy_unless_asked_otherwise() -> None:
    sampling = openai.chat({"messages": [USER]}).sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0, 1, openai.USUAL_TOKENS)
    assert openai.completion({"prompt": ["go on"]}).raw
    assert openai.chat({"messages": [USER], "max_completion_tokens": 9, "max_tokens": 4}).sampling.max_tokens == 9


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"), ({"messages": []}, "messages"), ({"messages": [USER] * 1001}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"), ({"messages": ["Who?"]}, "messages"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"), ({"n": 2}, "n"), ({"n": True}, None),
        ({"stop": ["a"] * 5}, "stop"), ({"stop": [1]}, "stop"), ({"stop": ""}, None), ({"stop": [""]}, "stop"),
        ({"temperature": "hot"}, "temperature"), ({"temperature": 3}, "temperature"), ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"), ({"top_p": -1}, "top_p"), ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"), ({"max_tokens": 1 << 70}, "max_tokens"), ({"seed": -1}, "seed"),
        ({"stream": "yes"}, "stream"), ({"model": 7}, "model"), ({"cache": ["a"]}, "cache"),
        ({"tools": [{"type": "function"}]}, "tools"), ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"), ({"logit_bias": {"5": 1}}, "logit_bias"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_its_field(body: dict[str, Any], param: str | None) -> None:
    whole = body if "messages" in body or not body else {"messages": [USER]} | body
    if param is None:
        openai.chat(whole)
        return
    with pytest.raises(Refused) as found:
        openai.chat(whole)
    assert (found.value.status, found.value.param) == (400, param)
    assert set(found.value.body()["error"]) == {"message", "type", "param", "code"}


def test_texts_are_known_by_their_bytes() -> None:
    import hashlib

    asked = openai.chat({"messages": [{"role": "system", "content": "A text."}, USER]})
    assert hashlib.sha256(b"A text.\n").hexdigest() in asked.digests
    assert hashlib.sha256(b"A text.").hexdigest() in asked.digests
