"""What an answer was copied from: the rows of a document from which a model with a pointer took the answer's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import ModelState

from .session import Session


@torch.no_grad()
def copied_from(session: Session, state: ModelState, question_ids: Sequence[int], answer_ids: Sequence[int]) -> Tensor:
    """How much of the probability of an answer's tokens comes from copying each token of the document, (T,), added up.

    Args:
        state: behind the document, its memory holding what was read.
        question_ids: may be empty.
        answer_ids: one or more.

    Returns:
        zeros for a model that copies nothing; else a sum of at most the number of the answer's tokens.
    """
    model = session.model
    weights = torch.zeros(session.cache.length, device=model.device)
    before, state = session.behind_layers(list(question_ids), state)
    pointing, memory = state.pointing, state.memory
    if pointing is None or not isinstance(memory, GoldMemory) or memory.document is None:
        return weights
    positions = memory.document.positions()
    ids = torch.tensor([list(answer_ids)], dtype=torch.int64, device=model.device)
    if len(answer_ids) > 1:
        rest, state = model.hidden(ids[:, :-1], state)
        before = torch.cat([before, rest], dim=1)
    shares = model.copied(before, ids, pointing)[0].sum(0)  # (n,)
    weights[positions] = shares.to(weights.dtype)
    return weights
