"""What training a pointer minimises.

Notation: B examples, n rows, m question tokens, A answer tokens, M tokens before a row, C d_model, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from goldfinch.models.language_model import LanguageModel
from goldfinch.models.pointer import MATCHED, NOTHING, Pointing, Rows, tokens_before

from .examples import Example

# Loss of attention that does not lie on a place where the answer stands, beside that of the answer's tokens.
PLACE_WEIGHT = 0.3


@dataclass(frozen=True)
class PointerBatch:
    """B examples side by side, padded behind.

    Attributes:
        row_ids: (B, n) and question_ids: (B, m), NOTHING where padded; rows_k, question_k: their compressed keys.
        before: (B, n, M).
        stream: (B, A, C); recent: (B, A, M), the last tokens at each position, the latest first.
        targets: (B, A), NOTHING where padded.
        places: (B, A, n) bool, the rows that hold the answer's token at each position.
    """

    row_ids: Tensor
    rows_k: Tensor
    before: Tensor
    question_ids: Tensor
    question_k: Tensor
    stream: Tensor
    recent: Tensor
    targets: Tensor
    places: Tensor

    def to(self, device: torch.device) -> PointerBatch:
        """The batch on a device."""
        return PointerBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def collate(examples: Sequence[Example]) -> PointerBatch:
    """Examples as one batch."""
    rows = [example.rows.long() for example in examples]
    ids = [example.document[0].long() for example in examples]
    before = [tokens_before(i[None])[0][r] for i, r in zip(ids, rows, strict=True)]
    recent = []
    for example in examples:
        line = torch.cat([example.question[0].long(), example.targets[:-1]])
        line = F.pad(line, (MATCHED, 0), value=NOTHING)
        recent.append(line.unfold(0, MATCHED, 1)[-len(example.targets) :].flip(-1))
    n, A = max(map(len, rows)), max(len(example.targets) for example in examples)
    places = torch.zeros(len(examples), A, n, dtype=torch.bool)
    for b, example in enumerate(examples):
        for first in example.places:
            # The end is said at the row behind the answer.
            steps = torch.arange(min(len(example.targets), len(rows[b]) - first))
            places[b, steps, first + steps] = True
    return PointerBatch(
        row_ids=_padded([i[r] for i, r in zip(ids, rows, strict=True)], NOTHING),
        rows_k=_padded([e.document[1][r].float() for e, r in zip(examples, rows, strict=True)]),
        before=_padded(before, NOTHING),
        question_ids=_padded([example.question[0].long() for example in examples], NOTHING),
        question_k=_padded([example.question[1].float() for example in examples]),
        stream=_padded([example.stream.float() for example in examples]),
        recent=_padded(recent, NOTHING),
        targets=_padded([example.targets for example in examples], NOTHING),
        places=places,
    )


def _padded(parts: Sequence[Tensor], value: float = 0.0) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=value)


def pointer_loss(model: LanguageModel, batch: PointerBatch, stream: Tensor | None = None) -> dict[str, Tensor]:
    """What a step minimises ("loss"), and of it the loss of tokens, of first tokens, and of places.

    The marginal likelihood of each target under the mixture, and the attention on the places where the answer stands.

    Args:
        model: with a pointer.
        batch: examples of it.
        stream: (B, A, C), where it is not that of the batch.
    """
    pointer = model.pointer
    with torch.no_grad():
        embedded, asked = (model.embed(ids.clamp_min(0)) for ids in (batch.row_ids, batch.question_ids))
    stream = model.ln_out(batch.stream if stream is None else stream)
    document, question = Rows(batch.row_ids, embedded, batch.rows_k), Rows(batch.question_ids, asked, batch.question_k)
    pointing: Pointing = pointer.open(document, batch.before, question, batch.recent[:, 0])
    attention, gates, changed = pointer.shares(stream, pointing, batch.recent)
    real = batch.targets != NOTHING
    targets = batch.targets.clamp_min(0)
    spoken = model.head(changed[real]).float().log_softmax(-1).gather(-1, targets[real][:, None])[:, 0]
    here = batch.row_ids[:, None] == targets[..., None]
    copied = (attention * here).sum(-1)[real].clamp_min(1e-9).log()
    last = F.pad(real[:, 1:], (0, 1)).logical_not()[real]
    ended = torch.where(last, 0.0, -torch.inf)
    g = gates[real]
    losses = -torch.stack([g[:, 0] + spoken, g[:, 1] + copied, g[:, 2] + ended]).logsumexp(0)
    placed = batch.places.any(-1)
    at = (attention * batch.places).sum(-1)[placed].clamp_min(1e-9).log()
    place_loss = -at.mean() if placed.any() else losses.new_zeros(())
    first = F.pad(real[:, :-1], (1, 0)).logical_not()[real]
    tokens = losses.mean()
    return {
        "loss": tokens + PLACE_WEIGHT * place_loss,
        "answer_loss": tokens.detach(),
        "first_loss": losses[first].mean().detach(),
        "place_loss": place_loss.detach(),
    }
