"""A document kept in blocks: each computed right behind the prompt's beginning, blind to the others.

Prompt Cache (Gim et al., arXiv 2311.04934), Block-Attention (2409.15355) and TurboRAG (2410.07590) cache passages so.
The time grows with the length of the document and not with its square, no document is too long for the model's
context, and a block whose tokens are those of another is never computed again, wherever it stands.

Notation: P tokens of the prompt before the document, T tokens with it, R rows of a block, H heads, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from goldfinch.errors import ContextTooLong, ModelRefused
from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.measured import ModelRecord, record_of
from goldfinch.policies.places import Found
from goldfinch.weights.noted import place_of

from .states import Held, SequenceState, put_in, taken_out

Tokens = tuple[int, ...]
# Documents whose blocks are remembered: they are asked for several times on the way to a cache.
_REMEMBERED = 2
# A state stands behind each block, so that it may hold as many numbers as keys and values of an ordinary block would
# in a model that attends alone, with as many layers of the same width: 2 x layers x width for each of its tokens.
ORDINARY_TOKENS = 200


class Blocks:
    """The blocks of a document and what the layers hold of each.

    Args:
        token_ids: of each block, as they were computed behind the prompt.
        rows_of: keys and values (H, R, D) of all layers for the block of a number, and their states behind it; may read
            a file.
        places: (N, 4) integers, where each stands among the document's own tokens: its heading rows from the first to
            past the last (equal: none), then its text.
        lent: numbers of those that other files hold.
    """

    def __init__(
        self,
        token_ids: Sequence[Tokens],
        rows_of: Callable[[int], Sequence[Held]],
        places: np.ndarray,
        lent: Collection[int] = (),
    ) -> None:
        self.token_ids, self.rows_of, self.places = tuple(token_ids), rows_of, places.astype(np.int64)
        self.numbers = {tokens: n for n, tokens in enumerate(self.token_ids)}
        self.own = {tokens: n for n, tokens in enumerate(self.token_ids) if n not in lent}

    def at(self, token: int) -> int:
        """The number of the block that a token of the document's own stands in."""
        return max(int(np.searchsorted(self.places[:, 2], token, side="right")) - 1, 0)

    def behind(self, prompt: SequenceState, number: int) -> SequenceState:
        """What the layers hold behind the prompt and one block.

        Args:
            prompt: behind the P tokens before the document.
            number: of the block.
        """
        rows = self.rows_of(number)
        layers = tuple(_joined(one, other) for one, other in zip(prompt.layers, rows, strict=True))
        return SequenceState(prompt.position + len(self.token_ids[number]), layers)


def lent_among(blocks: Blocks, held: Sequence[Blocks | None]) -> tuple[list[int], list[int]]:
    """For each block 0, or the number from 1 of the one who lends it, of those that lend something; and which these are
    among `held`."""
    lenders = [{} if one is None else one.own for one in held]
    of_blocks = [next((n for n, own in enumerate(lenders) if t in own), None) for t in blocks.token_ids]
    used = sorted({n for n in of_blocks if n is not None})
    return [0 if n is None else used.index(n) + 1 for n in of_blocks], used


def _joined(before: Held, after: Held) -> Held:
    if before.keys is None or before.values is None or after.keys is None or after.values is None:
        return after
    keys, values = ([before.keys, after.keys], [before.values, after.values])
    return replace(after, keys=torch.cat(keys, dim=1), values=torch.cat(values, dim=1))


def record_for(model: ForeignModel) -> ModelRecord:
    """What was measured of a model (`gf model measure`): from how many tokens on it answers better from blocks."""
    fingerprint = model.fingerprints["model_fingerprint"]
    return record_of(fingerprint, place_of(fingerprint) if fingerprint else None)


def obstacle_to_blocks(model: ForeignModel) -> str | None:
    """Why a model cannot keep documents in blocks, None where it can."""
    found = sum(math.prod(shape) for layer in model.layers for shape in layer.states.values())
    most = ORDINARY_TOKENS * 2 * model.config.n_layer * model.config.d_model
    if found > most:
        return (
            f"each would need a state of {found:,} numbers, and {most:,} are what keys and values of {ORDINARY_TOKENS} "
            f"tokens are in a model of its size that attends alone"
        )
    if model.tokenizer is None:
        return "it has no tokenizer, and blocks are parts of a text"
    return None


def document_index(model: ForeignModel, token_ids: np.ndarray) -> tuple[DocumentIndex, int]:
    """The blocks of a document (T,), and P: they are parts of what stands behind the prompt's beginning."""
    tokenizer: Any = model.tokenizer
    return _index_of(tokenizer, model.template.document_prefix, token_ids.astype(np.int64).tobytes())


@lru_cache(_REMEMBERED)
def _index_of(tokenizer: Any, beginning: str, data: bytes) -> tuple[DocumentIndex, int]:
    ids = np.frombuffer(data, np.int64)
    prompt = tokenizer.encode_template(beginning) if beginning else []
    start = len(prompt) if ids[: len(prompt)].tolist() == prompt else 0
    return DocumentIndex(tokenizer, ids[start:]), start


def tokens_of(model: ForeignModel, index: DocumentIndex, found: Found) -> Tokens:
    """The tokens that a block is computed from: its own, behind those of its heading, and a line break at the end.

    A question stands behind a line break wherever a document is asked, so one is put behind a block that has none.
    """
    tokenizer = model.tokenizer
    assert tokenizer is not None
    ids = [int(token) for first, last in found.rows for token in index.token_ids[first:last]]
    if not ids or not tokenizer.decode(ids[-1:]).endswith("\n"):
        ids += tokenizer.encode("\n")
    return tuple(ids)


@dataclass(frozen=True)
class Planned:
    """A block to compute.

    Attributes:
        tokens: its own, behind those of its heading.
        place: as of `Blocks.places`.
        end: the first token behind it, that of the prompt being 0.
    """

    tokens: Tokens
    place: tuple[int, int, int, int]
    end: int


def planned_blocks(model: ForeignModel, token_ids: np.ndarray) -> tuple[Tokens, list[Planned]]:
    """The prompt's beginning, and the blocks behind it.

    Args:
        token_ids: (T,), the prompt's beginning and the document.
    """
    index, start = document_index(model, token_ids)
    places = [index.found(n, 0.0) for n in range(len(index))]
    rows = [Planned(tokens_of(model, index, found), place_among(found), start + found.rows[-1][1]) for found in places]
    own = tuple(token_ids[start:].tolist())
    whole = Planned(own, (0, 0, 0, len(own)), len(token_ids))
    return tuple(token_ids[:start].tolist()), rows or [whole]


def place_among(found: Found) -> tuple[int, int, int, int]:
    """Where a block stands, as `Blocks.places` has it."""
    heading = found.rows[0] if len(found.rows) > 1 else (0, 0)
    return (*heading, *found.rows[-1])


def rows_of_blocks(prompt: Tokens, blocks: Sequence[Tokens]) -> list[int]:
    """`model.blocks` of a header: rows of the prompt, where it has any, and of each block."""
    return [len(tokens) for tokens in (prompt, *blocks) if tokens]


def check_lengths(model: ForeignModel, prompt: Tokens, blocks: Sequence[Tokens]) -> None:
    """Refuse blocks that do not fit, before anything is computed.

    Raises:
        ContextTooLong: a block that the model has no positions for.
        ModelRefused: one that is longer than a window of the model sees.
    """
    longest = len(prompt) + max(map(len, blocks))
    if longest >= model.context_length:
        raise ContextTooLong(longest + 1, model.context_length, model.name, "a block of the document")
    window = min((layer.window for layer in model.layers if layer.window), default=None)
    if window is not None and longest > window - 1:
        raise ModelRefused(
            f"a block of the document has {longest:,} tokens with what stands before it; layers of {model.name} see "
            f"{window - 1:,}",
            hint="keep the document whole: --layout whole",
        )


def computed(model: ForeignModel, before: SequenceState | None, tokens: Tokens) -> SequenceState:
    """What the layers hold behind some tokens.

    Args:
        before: what they follow; nothing by default, and nothing of a model that is right in one piece alone.
    """
    start = 0 if before is None else before.position
    layers: Any = put_in(lambda: library.new_cache(model.network), model.layers, before, start + len(tokens))
    ids = torch.tensor(tokens, dtype=torch.int64)
    step = model.block_tokens if model.schedule == "blocks" else len(ids)
    for at in range(0, len(ids), step):
        library.forward(model.network, ids[at : at + step], layers, start + at, last=True)
    return taken_out(layers, model.layers, start + len(ids))


def computed_block(model: ForeignModel, prompt: Tokens, behind: SequenceState, tokens: Tokens) -> tuple[Held, ...]:
    """What the layers hold of a block: its rows, in memory of their own, and the states behind it.

    Args:
        prompt: tokens before it, which a model that is right in one piece alone computes anew.
        behind: what the layers hold behind them (`prompt_state`).
    """
    if model.schedule == "blocks":
        state = computed(model, behind if prompt else None, tokens)
    else:
        state = computed(model, None, (*prompt, *tokens))
    return tuple(
        replace(held, keys=held.keys[:, len(prompt) :].clone(), values=held.values[:, len(prompt) :].clone())
        if held.keys is not None and held.values is not None
        else held
        for held in state.layers
    )


def prompt_state(model: ForeignModel, prompt: Tokens) -> SequenceState:
    """What the layers hold behind the prompt's beginning, which may be empty."""
    return computed(model, None, prompt) if prompt else SequenceState(0, tuple(Held() for _ in model.layers))
