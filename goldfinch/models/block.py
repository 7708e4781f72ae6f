"""One layer: a time mix and a channel mix.

Notation: B batch, T tokens, C d_model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from .attention import GPTAlphaTimeMix, LlamaTimeMix
from .config import ModelConfig
from .finch import FinchC2TimeMix, FinchTimeMix
from .gold import GoldTimeMix
from .layers import CHANNEL_MIXES, LayerNorm
from .state import LayerState

TIME_MIXES = {
    "finch": FinchTimeMix,
    "finch_c2": FinchC2TimeMix,
    "gptalpha": GPTAlphaTimeMix,
    "llama": LlamaTimeMix,
    "gold": GoldTimeMix,
}


class Block(nn.Module):
    """One layer: time mix and channel mix, each behind a layer norm and added to the stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        C = config.d_model
        if layer == 0:
            self.ln0 = LayerNorm(C)  # of the embedding; kept here because published checkpoints do
        self.ln1, self.ln2 = LayerNorm(C), LayerNorm(C)
        self.att = TIME_MIXES[config.layer_kind(layer)](config)
        self.ffn = CHANNEL_MIXES[config.layer_channel_mix(layer)](config)
        self.shifts_channels = config.layer_channel_mix(layer) == "finch"

    def forward(self, x: Tensor, state: LayerState, *attention: Any) -> tuple[Tensor, LayerState]:
        """x (B, T, C) -> x (B, T, C) and the layer's state; `attention` is the memory of a GOLD layer."""
        h = self.ln1(x)
        out, state = self.att(h, state, *attention)
        x = x + out
        h = self.ln2(x)
        x = x + self.ffn(h, state.channel_shift_state)
        if self.shifts_channels:
            state = replace(state, channel_shift_state=h[:, -1])
        return x, state
