"""The layers of a model and their weights; who runs them is another's matter (`executor.py`).

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, V vocab_size.

    e = LN_ln0(emb[token]);  x = e
    every layer:  x = x + time_mix(LN_ln1(x));  x = x + channel_mix(LN_ln2(x))
    logits = LN_ln_out(x) head^T
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .block import Block
from .config import ModelConfig
from .gold import GoldTimeMix
from .layers import Embedding, LayerNorm, Linear, rms_scale


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
