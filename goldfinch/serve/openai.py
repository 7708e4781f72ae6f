"""The shapes of the OpenAI API: what requests may hold, and how answers, pieces and counts are given.

https://platform.openai.com/docs/api-reference. A request is one question to one cached document: the last message of
the user. Nothing is remembered between requests, and what of the API has no meaning here is refused, unless leaving it
out changes nothing.
"""

from __future__ import annotations

import hashlib
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from goldfinch.engine.answer import Answer
from goldfinch.engine.sampling import Sampling

from .refused import Refused
from .scheduler import Done
from .shelf import Shelved

# Limits of what a request may hold.
MOST_MESSAGES, MOST_STOPS, MOST_STOP_CHARACTERS, MOST_TOKENS, MOST_SEED = 1000, 4, 1000, 4096, (1 << 63) - 1
USUAL_TOKENS = 128
# What would change the answer in a way that is not built here; an empty or usual value is no request for it.
_REFUSED = (
    "tools", "functions", "tool_choice", "function_call", "logprobs", "top_logprobs", "logit_bias", "audio",
    "modalities", "best_of", "echo", "suffix", "prediction", "web_search_options", "frequency_penalty",
    "presence_penalty",
)  # fmt: skip
_USUAL: tuple[object, ...] = (None, False, 0, 0.0, [], {}, "", "none", "auto", ["text"])


@dataclass(frozen=True)
class Asked:
    """What a request asks.

    Attributes:
        named: (name of a cache, the field that says it), or None.
        model: the model that is named, without a cache, or None.
        texts: of the messages before the question: one may be the text of a cached document.
        question: the last message of the user; or, with `raw`, text to continue.
        raw: whether it is.
        sampling: how it is answered.
        stream: send pieces.
        counts: with a stream: send the counts at the end.
        cite: name the places that were read most.
    """

    named: tuple[str, str] | None
    model: str | None
    texts: tuple[str, ...]
    question: str
    raw: bool
    sampling: Sampling
    stream: bool
    counts: bool
    cite: bool

    @property
    def digests(self) -> list[str]:
        """SHA-256 of the texts, as of the bytes of a file that holds one, with a line end behind it or without."""
        ends = ("", "\n")
        return [hashlib.sha256((text + end).encode()).hexdigest() for text in self.texts for end in ends]


def chat(body: Mapping[str, Any]) -> Asked:
    """The request of POST /v1/chat/completions.

    Raises:
        Refused: 400.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= MOST_MESSAGES:
        raise _bad("messages", f"a list of 1 to {MOST_MESSAGES:,} messages")
    texts = [(_role(one), _content(one)) for one in messages]
    if texts[-1][0] != "user":
        raise _bad("messages", "the last one the user's: the question")
    return _asked(body, tuple(text for _, text in texts[:-1]), texts[-1][1], raw=False)


def completion(body: Mapping[str, Any]) -> Asked:
    """The request of POST /v1/completions: text that goes on behind the document; as `chat`."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise _bad("prompt", "one text")
    return _asked(body, (), prompt, raw=True)


def _asked(body: Mapping[str, Any], texts: tuple[str, ...], question: str, *, raw: bool) -> Asked:
    for name in _REFUSED:
        if body.get(name) not in _USUAL:
            raise Refused(400, f"{name} is not built here", code="unsupported_parameter", param=name)
    if body.get("n") not in (None, 1):
        raise _bad("n", "1: a question has one answer")
    answer_format = body.get("response_format")
    if answer_format not in (None, {"type": "text"}):
        raise _bad("response_format", 'of type "text"')
    if not question.strip() and not raw:
        raise _bad("messages", "a question in the last one")
    model, named = body.get("model"), None
    if model is not None and not isinstance(model, str):
        raise _bad("model", "a text")
    if model and "/" in model:
        model, _, cache = model.partition("/")
        named = (cache, "model")
    for name in ("prompt_cache_key", "cache"):
        cache_name = body.get(name)
        if cache_name is not None:
            if not isinstance(cache_name, str):
                raise _bad(name, "the name of a cache")
            named = (cache_name, name)
    options = body.get("stream_options") or {}
    stream = _flag(body, "stream")
    counts = stream and isinstance(options, dict) and options.get("include_usage") is True
    return Asked(named, model or None, texts, question, raw, _sampling(body), stream, counts, _flag(body, "cite"))


def _sampling(body: Mapping[str, Any]) -> Sampling:
    most = body.get("max_completion_tokens")
    most = body.get("max_tokens") if most is None else most
    stops = body.get("stop")
    stops = [stops] if isinstance(stops, str) and stops else stops or []
    if (
        not isinstance(stops, list)
        or len(stops) > MOST_STOPS
        or not all(isinstance(stop, str) and 0 < len(stop) <= MOST_STOP_CHARACTERS for stop in stops)
    ):
        raise _bad("stop", f"a text, or up to {MOST_STOPS} of them, of up to {MOST_STOP_CHARACTERS} characters")
    seed, temperature, top_p = body.get("seed"), body.get("temperature"), body.get("top_p")
    return Sampling(
        max_tokens=USUAL_TOKENS if most is None else int(_number(most, "max_tokens", 1, MOST_TOKENS, whole=True)),
        temperature=0.0 if temperature is None else _number(temperature, "temperature", 0, 2),
        top_p=1.0 if top_p is None else _number(top_p, "top_p", 0, 1),
        seed=None if seed is None else int(_number(seed, "seed", 0, MOST_SEED, whole=True)),
        stop=tuple(stops),
    )


def _number(value: Any, name: str, least: float, most: float, *, whole: bool = False) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most or (whole and value != int(value)):
        raise _bad(name, f"a {'whole ' if whole else ''}number from {least} to {most}")
    return float(value) if not whole else int(value)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    if body.get(name) not in (None, True, False):
        raise _bad(name, "true or false")
    return bool(body.get(name))


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "developer", "user", "assistant"):
        raise _bad("messages", "objects with the role system, developer, user or assistant")
    return str(role)


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts: list[Any] = content if isinstance(content, list) else [None]
    if not all(isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in parts):
        raise _bad("messages", "texts: nothing else is read")
    return "".join(part["text"] for part in parts)


def _bad(param: str, allowed: str) -> Refused:
    return Refused(400, f"{param} must be {allowed}", code="invalid_value", param=param)


@dataclass(frozen=True)
class Shape:
    """How the reply to one request is written.

    Attributes:
        asked: the request.
        document: that it is about.
        model: name, as the reply gives it.
    """

    asked: Asked
    document: Shelved
    model: str

    def head(self) -> dict[str, Any]:
        """What stands in a reply whole, and in each of its pieces."""
        if self.asked.raw:
            kind, prefix = "text_completion", "cmpl-"
        else:
            kind, prefix = "chat.completion" + (".chunk" if self.asked.stream else ""), "chatcmpl-"
        return {
            "id": prefix + uuid.uuid4().hex,
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
        }

    def whole(self, done: Done) -> dict[str, Any]:
        """A reply in one."""
        text = done.answer.text
        part = {"text": text} if self.asked.raw else {"message": {"role": "assistant", "content": text}}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": done.answer.usage.finish_reason}
        return self.head() | {"choices": [choice], "usage": usage(done.answer), "gf": self.about(done)}

    def piece(self, head: Mapping[str, Any], text: str | None, finish: str | None = None) -> dict[str, Any]:
        """A piece of a streamed reply: text, or the end."""
        if self.asked.raw:
            part: dict[str, Any] = {"text": text or ""}
        else:
            part = {"delta": {} if text is None else {"content": text}}
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]} | ({"usage": None} if self.asked.counts else {})

    def first(self, head: Mapping[str, Any]) -> dict[str, Any]:
        """The first piece of a streamed chat."""
        choice = {
            "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None,
        }  # fmt: skip
        return {**head, "choices": [choice]} | ({"usage": None} if self.asked.counts else {})

    def about(self, done: Done) -> dict[str, Any]:
        """What gf says besides: which cache answered, how surely, from where, and how fast."""
        answer, reading = done.answer, done.answer.usage.reading
        blocks = [] if reading is None else reading.found
        return {
            "cache": self.document.name,
            "digest": self.document.digest,
            "confidence": None if answer.confidence is None else round(answer.confidence, 4),
            "withheld": answer.withheld,
            "read": None if reading is None else {
                "policy": reading.policy,
                "blocks": [{"first_line": b.first_line, "last_line": b.last_line} for b in blocks],
                "tokens_attended": reading.tokens,
            },
            "citations": [_place(one) for one in done.citations] if self.asked.cite else None,
            "loaded_ms": round(done.load_s * 1e3, 3),
            "first_token_ms": round(done.first_token_s * 1e3, 3),
        }  # fmt: skip


def _place(citation: Any) -> dict[str, Any]:
    values = asdict(citation)
    del values["passage"]
    return values | {"share": round(float(values["share"]), 4)}


def usage(answer: Answer) -> dict[str, Any]:
    """The counts of a reply. No request computes a document, so none is written."""
    found = answer.usage
    prompt = found.document_tokens_cached + found.question_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": found.generated_tokens,
        "total_tokens": prompt + found.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": found.document_tokens_cached, "cache_write_tokens": 0},
        "cache_write_tokens": 0,
    }


def models(documents: Sequence[Shelved], default: str | None) -> dict[str, Any]:
    """The reply of GET /v1/models: each model, and each with a document."""
    names = sorted({one.model for one in documents if one.model} | ({default} if default else set()))
    ids = [*names, *(f"{one.model}/{one.name}" for one in documents if one.model)]
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": "gf"} for name in ids]
    return {"object": "list", "data": rows}
