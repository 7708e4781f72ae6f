"""Which prompt a model answers better with: asked about a text that comes with gf, when the model is taken in.

The form of the prompt matters more than the model among small ones, and no rule tells which form a model needs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from goldfinch.text.template import PromptTemplate
from goldfinch.weights.foreign_config import Schedule

from . import library
from .prompts import ForeignTokenizer, document_ids, question_ids
from .selfcheck import restored

_FOLDER = Path(__file__).parent.parent / "assets" / "prompt-check"
MOST_ANSWER_TOKENS = 16
# A model that takes longer for one prompt is not asked on.
_MOST_SECONDS = 300.0


def choose_prompt(
    network: Any,
    tokenizer: ForeignTokenizer,
    prompts: Mapping[str, PromptTemplate],
    stop_token_ids: tuple[int, ...],
    schedule: Schedule,
    *,
    told: Callable[[str], object] = lambda text: None,
) -> tuple[str, dict[str, str | float | None]]:
    """The name of the prompt with more right answers, the chat prompt where equal, and the figures.

    Args:
        network: in any dtype.
        told: takes words about what is being done.
    """
    right: dict[str, int | None] = {}
    for name, template in prompts.items():
        told(f"asking {len(_questions())} questions in the {name} prompt")
        right[name] = right_answers(network, tokenizer, template, stop_token_ids, schedule)
    best = max((figure for figure in right.values() if figure is not None), default=None)
    named = [name for name, figure in right.items() if figure == best]
    return ("chat" if "chat" in named else named[0]), {"questions": len(_questions()), **right}


def right_answers(
    network: Any,
    tokenizer: ForeignTokenizer,
    template: PromptTemplate,
    stop_token_ids: tuple[int, ...],
    schedule: Schedule,
) -> int | None:
    """Questions answered with the words that the text has; None for a model that is too slow to be asked."""
    ids, _ = document_ids(tokenizer, template, (_FOLDER / "text.txt").read_text())
    document = torch.tensor(ids)
    begin, right = time.monotonic(), 0
    cache = library.new_cache(network)
    library.forward(network, document, cache)
    for question, words in _questions():
        asked = torch.tensor(question_ids(tokenizer, template, question))
        pieces = [asked] if schedule == "blocks" else list(asked.split(1))
        answer = _greedy(network, restored(network, cache, len(ids)), pieces, len(ids), tokenizer, stop_token_ids)
        text = _until_stop(tokenizer.decode(answer), template.stop)
        right += all(word.lower() in text.lower() for word in words)
        if time.monotonic() - begin > _MOST_SECONDS:
            return None
    return right


def _questions() -> list[tuple[str, list[str]]]:
    return [(question, words) for question, words in json.loads((_FOLDER / "questions.json").read_text())]


def _greedy(
    network: Any, cache: Any, pieces: list[torch.Tensor], start: int, tokenizer: ForeignTokenizer,
    stop_token_ids: tuple[int, ...],
) -> list[int]:  # fmt: skip
    """Ids of the first line of the most likely answer, without the token that ends it."""
    out: list[int] = []
    while len(out) < MOST_ANSWER_TOKENS:
        for piece in pieces:
            logits = library.forward(network, piece, cache, start)
            start += len(piece)
        token = int(logits[-1].argmax())
        if token in stop_token_ids:
            break
        out.append(token)
        if "\n" in tokenizer.decode(out).lstrip():
            break
        pieces = [torch.tensor([token])]
    return out


def _until_stop(text: str, stop: tuple[str, ...]) -> str:
    text = text.lstrip()
    for mark in (*stop, "\n"):
        text = text.partition(mark)[0]
    return text
