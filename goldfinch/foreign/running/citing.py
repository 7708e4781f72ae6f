"""Which lines of a document were read most for an answer: the attention that the library computes, over what was read.

Notation: n tokens of the document's own, S rows that a layer holds, N of them that G key-value heads were left of the
document.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from goldfinch.engine.cite import Citation, cited
from goldfinch.engine.reading import Reading
from goldfinch.errors import TokenizerError
from goldfinch.foreign import library

from .session import ForeignSession


def cite(session: ForeignSession, question: str, answer_ids: Sequence[int], *, raw: bool = False) -> list[Citation]:
    """The lines that were read most for an answer, most read first; arguments and errors as of `engine.cite.cite`.

    Returns:
        up to `engine.cite.MOST_CITATIONS` places; none for an empty answer, or a model that attends to nothing.
    """
    if session.model.tokenizer is None:
        raise TokenizerError("this model has no tokenizer, so its tokens have no lines")
    reading = session.reader.read(None if raw else question)
    if not answer_ids or not any(layer.kind in ("full", "sliding") for layer in session.model.layers):
        return []
    weights = attended(session, reading, session.question_token_ids(question, raw=raw), answer_ids)
    return cited(weights, session.reader.index, reading.found)


def attended(session: ForeignSession, reading: Reading, question: Sequence[int], answer: Sequence[int]) -> Tensor:
    """The attention (n,) float64 that the document had of the rows which predicted an answer, over heads and layers.

    Args:
        reading: what was read.
        question, answer: token ids, one or more.
    """
    model, state = session.model, session.reader.state(reading)
    if len(question) > 1:
        _, layers = session.start(list(question[:-1]), len(answer), state)
    else:
        layers = session.resumed(state, state.position + len(answer))
    at, rows = state.position + len(question) - 1, [question[-1], *answer[:-1]]
    weights = torch.zeros(state.position, dtype=torch.float64)
    step = len(rows) if model.schedule == "blocks" else 1
    attending, kept = (
        [n for n, layer in enumerate(model.layers) if layer.kind in ("full", "sliding")],
        session.cache.kept,
    )
    for start in range(0, len(rows), step):
        ids = torch.tensor(rows[start : start + step])
        of_layers = library.attention(model.network, ids, layers, at + start)
        for number, found in zip(attending, of_layers, strict=True):
            per_head = found.sum(1).double().cpu()
            rows_kept = None if kept is None else kept[number]
            if rows_kept is not None:
                G, N = rows_kept.shape
                each = per_head[:, :N].reshape(G, -1, N).sum(1)
                weights.scatter_add_(0, torch.from_numpy(rows_kept).flatten(), each.flatten())
                continue
            first = at + start + len(ids) - found.shape[-1]  # a window holds the last rows alone
            held = per_head.sum(0)[: max(state.position - first, 0)]
            weights[first : first + len(held)] += held
    own = torch.zeros(len(session.reader.index.token_ids), dtype=torch.float64)
    places = session.reader.own_tokens(reading)
    there = places >= 0
    return own.index_add_(0, places[there], weights[session.cache.document_range[0] :][: len(places)][there])
