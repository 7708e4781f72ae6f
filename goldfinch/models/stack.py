"""One block, and the stack of them that a model is, with their weights; who runs them is another's matter.

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, V vocab_size.

    e = LN_ln0(emb[token]);  x = e
    every layer:  x = x + time_mix(LN_ln1(x));  x = x + channel_mix(LN_ln2(x))
    logits = LN_ln_out(x) head^T
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .attention import GPTAlphaTimeMix, LlamaTimeMix
from .config import ModelConfig
from .finch import FinchC2TimeMix, FinchTimeMix
from .gold import GoldTimeMix
from .layers import CHANNEL_MIXES, Embedding, LayerNorm, Linear, rms_scale
from .pointer import Pointer
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


class Stack(nn.Module):
    """Embedding, lower layers, key compression, upper layers, head; the weights hold nothing yet.

    Attributes:
        config: the ModelConfig.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        C = config.d_model
        self.emb = Embedding(config.vocab_size, C)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_out = LayerNorm(C)
        self.head = Linear(C, config.vocab_size)
        if config.n_gold:
            self.w_kv_cache_a = Linear(C, config.d_compressed)  # W^KD, eq. 14
            self.w_kv_cache_b = Linear(C + config.d_compressed, C)  # W^KU, eq. 15
        if config.pointer_width:
            self.pointer = Pointer(config)

    @property
    def gold_layers(self) -> list[GoldTimeMix]:
        """The GOLD time mixes, bottom up."""
        return [block.att for block in list(self.blocks)[self.config.n_prefill :]]  # type: ignore[misc]

    @property
    def device(self) -> torch.device:
        return self.emb.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.emb.weight.dtype

    def embed(self, token_ids: Tensor) -> Tensor:
        """e = LN_ln0(emb[token]), (B, T) -> (B, T, C)."""
        return self.blocks[0].ln0(self.emb(token_ids))  # type: ignore[operator,return-value]

    def compress_keys(self, x: Tensor) -> Tensor:
        """compressed_k = x W^KD, (B, T, C) -> (B, T, R) (paper eq. 14)."""
        return self.w_kv_cache_a(x)

    def k_cache_rows(self, e: Tensor, compressed_k: Tensor) -> Tensor:
        """TokenCat (paper eq. 15): kappa = rms([e, c] W_KU), (B, T, C)."""
        return rms_scale(self.w_kv_cache_b(torch.cat([e, compressed_k], dim=-1)))

    def logits(self, x: Tensor) -> Tensor:
        """LN_ln_out(x) head^T, (B, T, C) -> (B, T, V)."""
        return self.head(self.ln_out(x))
