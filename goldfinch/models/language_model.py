"""The language model: embedding, lower layers, key compression, upper layers, head.

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, V vocab_size, S lower layers.

    e = LN_ln0(emb[token]);  x = e
    every layer:  x = x + time_mix(LN_ln1(x));  x = x + channel_mix(LN_ln2(x))
    logits = LN_ln_out(x) head^T
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from gfkernels import choose_backend
from torch import Tensor, nn

from goldfinch.backends.native import decode as decode_native
from goldfinch.backends.native import layers as finch_native
from goldfinch.backends.triton import layers as finch_triton

from .attention import GPTAlphaTimeMix, LlamaTimeMix
from .config import ModelConfig
from .finch import FinchC2TimeMix, FinchTimeMix
from .gold import GoldMemory, GoldTimeMix
from .layers import CHANNEL_MIXES, Linear
from .state import LayerState, ModelState

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
            self.ln0 = nn.LayerNorm(C)  # of the embedding; kept here because published checkpoints do
        self.ln1, self.ln2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.att = TIME_MIXES[config.layer_kind(layer)](config, layer)
        self.ffn = CHANNEL_MIXES[config.layer_channel_mix(layer)](config, layer)
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


class LanguageModel(nn.Module):
    """Any model of the family, built from its configuration.

    Attributes:
        config: the ModelConfig.
        tokenizer: object with encode(text) -> list of ids and decode(ids) -> text, or None.
        card: what the model directory says of itself (`checkpoint.ModelCard`), or None for bare weights.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer: Any = None
        self.card: Any = None
        C = config.d_model
        self.emb = nn.Embedding(config.vocab_size, C)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_out = nn.LayerNorm(C)
        self.head = Linear(C, config.vocab_size)
        if config.n_gold:
            self.w_kv_cache_a = Linear(C, config.d_compressed)  # W^KD, eq. 14
            self.w_kv_cache_b = Linear(C + config.d_compressed, C)  # W^KU, eq. 15
            nn.init.orthogonal_(self.w_kv_cache_a.weight)
            nn.init.orthogonal_(self.w_kv_cache_b.weight)
        nn.init.uniform_(self.emb.weight, -1e-4, 1e-4)
        nn.init.orthogonal_(self.head.weight, gain=0.5)

    @property
    def gold_layers(self) -> list[GoldTimeMix]:
        return [block.att for block in list(self.blocks)[self.config.n_prefill :]]  # type: ignore[misc]

    @property
    def device(self) -> torch.device:
        return self.emb.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.emb.weight.dtype

    def layer_backend(self) -> str:
        """What runs the recurrent layers without gradients at batch 1: "native" (fused C kernels), "triton" or "torch".

        Raises:
            gfkernels.BackendUnavailable: GF_KERNELS names one that cannot run this model here.
        """
        return choose_backend(
            "the recurrent layers",
            native_obstacle=finch_native.supports(self),
            triton_obstacle=finch_triton.supports(self),
        )

    def fused_backend(self, rows: Tensor) -> str:
        """What runs these rows (B, T, ...): the C kernels take one sequence, Triton any number, "torch" gradients."""
        backend = "torch" if torch.is_grad_enabled() else self.layer_backend()
        return "torch" if backend == "native" and rows.shape[0] != 1 else backend

    def empty_state(self) -> ModelState:
        """The state before the first token."""
        gold = GoldMemory(self) if self.config.n_gold else None
        return ModelState(tuple(LayerState() for _ in range(self.config.n_layer)), 0, gold)

    def embed(self, token_ids: Tensor) -> Tensor:
        """e = LN_ln0(emb[token]), (B, T) -> (B, T, C)."""
        return self.blocks[0].ln0(self.emb(token_ids))  # type: ignore[operator,return-value]

    def run_prefill_layers(self, token_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Run every layer below the GOLD layers over new tokens: all that prefill ever computes.

        Args:
            token_ids: (B, T) int64.
            state: the state before them; its GOLD memory is left as it is.

        Returns:
            the residual stream x (B, T, C) after those layers, and the state after the tokens.
        """
        layers = list(state.layers)
        fused = self.fused_backend(token_ids)
        if fused == "native":
            run = decode_native.run_finch_layers if token_ids.shape[1] == 1 else finch_native.run_layers
            x, layers = run(self, token_ids, layers)
        elif fused == "triton":
            x, layers = finch_triton.run_layers(self, token_ids, layers)
        else:
            x = self.embed(token_ids)
            for i in range(self.config.n_prefill):
                x, layers[i] = self.blocks[i](x, layers[i])
        return x, replace(state, layers=tuple(layers), position=state.position + token_ids.shape[1])

    def compress_keys(self, x: Tensor) -> Tensor:
        """compressed_k = x W^KD, (B, T, C) -> (B, T, R) (paper eq. 14)."""
        return self.w_kv_cache_a(x)

    def remember(self, state: ModelState, token_ids: Tensor, compressed_k: Tensor) -> ModelState:
        """The state with new rows in its GOLD memory: token_ids (B, T), compressed_k (B, T, R)."""
        assert isinstance(state.gold, GoldMemory)
        return replace(state, gold=state.gold.append(token_ids, compressed_k))

    def run_gold_layers(self, x: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Run the GOLD layers over the last T positions of the memory.

        Args:
            x: the residual stream at those positions, (B, T, C).
            state: a state whose memory holds them already.

        Returns:
            x (B, T, C) after the last layer and the state with the shift states of the GOLD layers.
        """
        layers = list(state.layers)
        first = self.config.n_prefill
        memory = state.gold
        if (
            x.shape[1] == 1
            and isinstance(memory, GoldMemory)
            and memory.is_expanded
            and self.fused_backend(x) == "native"
        ):
            x, layers[first:] = decode_native.run_gold_layers(self, x, layers[first:], memory)
            return x, replace(state, layers=tuple(layers))
        for i in range(first, self.config.n_layer):
            x, layers[i] = self.blocks[i](x, layers[i], state.gold, i - first)
        return x, replace(state, layers=tuple(layers))

    def logits(self, x: Tensor) -> Tensor:
        """LN_ln_out(x) head^T, (B, T, C) -> (B, T, V)."""
        return self.head(self.ln_out(x))

    def hidden(self, token_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """The residual stream after the last layer, (B, T, C), and the state after the tokens."""
        x, state = self.run_prefill_layers(token_ids, state)
        if self.config.n_gold:
            state = self.remember(state, token_ids, self.compress_keys(x))
            x, state = self.run_gold_layers(x, state)
        return x, state

    def forward(self, token_ids: Tensor, state: ModelState | None = None) -> tuple[Tensor, ModelState]:
        """Run all layers over new tokens.

        Args:
            token_ids: (B, T) int64, T >= 1.
            state: the state before them, or None at the beginning. It is not changed.

        Returns:
            logits (B, T, V) in the dtype of the weights, and the state after the tokens.
        """
        x, state = self.hidden(token_ids, self.empty_state() if state is None else state)
        return self.logits(x), state


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross entropy in float32: logits (N, V), targets (N,), weights (N,)."""
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)
