"""The layers above prefill, run over a batch of examples so that they can be trained.

Everything that they read of a document lies in its cache, so a cache of the model serves before and after.

Notation: B examples, n rows read with those of question and answer, P positions that run (the document's tail, the
question, the answer), A answer tokens with the end, C d_model, R width of compressed_k, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from goldfinch.errors import ConfigError
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.layers import rms_scale, split_heads
from goldfinch.models.state import LayerState

from .examples import Example

# Where no row is: behind every position.
NOWHERE = 1 << 30


def check_upper(model: LanguageModel) -> None:
    """Raise ConfigError unless these layers can be trained here."""
    if not model.config.n_gold or model.config.rope:
        raise ConfigError(
            'train = "upper" needs GOLD layers without rotary positions', hint='train = "pointer" takes any model'
        )


def upper_names(model: LanguageModel) -> list[str]:
    """The weights that prefill never reads: those of the GOLD layers, their keys, the last norm, head and pointer."""
    above = tuple(f"blocks.{n}." for n in range(model.config.n_prefill, model.config.n_layer))
    return [key for key, _ in model.named_parameters() if key.startswith((*above, *_OF_ALL))]


_OF_ALL = ("w_kv_cache_b.", "ln_out.", "head.", "pointer.")


@dataclass(frozen=True)
class UpperBatch:
    """B examples side by side, padded behind.

    Attributes:
        ids, ids_before: (B, n), the rows' tokens and those before them.
        keys, keys_before: (B, n, R), their compressed keys.
        positions: (B, n), in the whole sequence; NOWHERE where padded.
        below: (B, P, C), the stream below these layers.
        first: (B,), the position of its first row.
        predicting: (B, A), the rows of `below` that predict the answer.
    """

    ids: Tensor
    ids_before: Tensor
    keys: Tensor
    keys_before: Tensor
    positions: Tensor
    below: Tensor
    first: Tensor
    predicting: Tensor

    def to(self, device: torch.device) -> UpperBatch:
        """The batch on a device."""
        return UpperBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def collate_upper(examples: Sequence[Example]) -> UpperBatch:
    """Examples, made with what lies below these layers, as one batch."""
    parts: dict[str, list[Tensor]] = {f.name: [] for f in fields(UpperBatch)}
    for example in examples:
        assert example.below is not None
        T, m, A = len(example.document[0]), len(example.question[0]), len(example.targets)
        ids = torch.cat([example.document[0].long(), example.question[0].long(), example.targets[:-1]])
        keys = torch.cat([k.float() for k in (example.document[1], example.question[1], example.answer_k)])
        here = torch.cat([example.rows.long(), torch.arange(T, len(ids))])
        before = (here - 1).clamp_min(0)
        first = T + m + A - 1 - len(example.below)
        made = {
            "ids": ids[here], "ids_before": ids[before], "keys": keys[here], "keys_before": keys[before],
            "positions": here, "below": example.below.float(), "first": torch.tensor(first),
            "predicting": torch.arange(A) + T + m - 1 - first,
        }  # fmt: skip
        for key, value in made.items():
            parts[key].append(value)
    padding = {"positions": NOWHERE}
    return UpperBatch(**{
        key: torch.stack(rows) if key == "first" else
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding.get(key, 0))
        for key, rows in parts.items()
    })  # fmt: skip


@dataclass(frozen=True)
class _Rows:
    """A `state.Memory`: per GOLD layer keys and values (B, n, C), and who sees them (B, 1, P, n)."""

    pairs: list[tuple[Tensor, Tensor]]
    seen: Tensor
    length: int = 0  # only rotary positions need it

    def attend(self, index: int, q: Tensor) -> Tensor:
        """Attention of q (B, H, P, D)."""
        k, v = (split_heads(x, q.shape[-1]).transpose(1, 2).to(q.dtype) for x in self.pairs[index])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.seen)


def upper_stream(model: LanguageModel, batch: UpperBatch) -> Tensor:
    """What enters the last norm at the positions that predict the answer, (B, A, C).

    Args:
        model: with GOLD layers and no rotary positions.
        batch: examples of it.
    """
    e, e_before = model.embed(batch.ids), model.embed(batch.ids_before)
    bar, bar_before = rms_scale(e), rms_scale(e_before)
    kappa, kappa_before = model.k_cache_rows(e, batch.keys), model.k_cache_rows(e_before, batch.keys_before)
    begun = (batch.positions > 0)[..., None].to(bar.dtype)  # nothing is before the first row
    shifts = bar_before * begun - bar, kappa_before * begun - kappa
    pairs = [layer.keys_values(bar, shifts[0], kappa, shifts[1], 0) for layer in model.gold_layers]
    at = batch.first[:, None] + torch.arange(batch.below.shape[1], device=batch.first.device)
    memory = _Rows(pairs, (batch.positions[:, None] <= at[..., None])[:, None])
    x = batch.below
    for index, block in enumerate(list(model.blocks)[model.config.n_prefill :]):
        x, _ = block(x, LayerState(), memory, index)
    return x.gather(1, batch.predicting[..., None].expand(-1, -1, x.shape[-1]))


class Teacher:
    """The vocabulary's part of the model as it was before training, from the stream that the examples keep.

    Args:
        model: whose last norm and head are copied.
    """

    def __init__(self, model: LanguageModel) -> None:
        parts = model.ln_out, model.head
        self._norm, self._head = ([p.detach().clone() for p in part.parameters()] for part in parts)

    def loss(self, logits: Tensor, stream: Tensor, targets: Tensor) -> Tensor:
        """Mean KL divergence from what it said, over the tokens that it would have got right.

        Args:
            logits: (N, V), of the model in training.
            stream: (N, C), as it was.
            targets: (N,).
        """
        normed = F.layer_norm(stream, stream.shape[-1:], weight=self._norm[0], bias=self._norm[1])
        said = (normed @ self._head[0].T).float()
        right = said.argmax(-1) == targets
        if not right.any():
            return logits.new_zeros(())
        wanted, found = said[right].log_softmax(-1), logits[right].float().log_softmax(-1)
        return F.kl_div(found, wanted, log_target=True, reduction="batchmean")
