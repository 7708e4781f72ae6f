"""Parts that several layer kinds share: token shift, norms, low-rank pairs, rotary positions, channel mixes.

Notation: B batch, T tokens, C d_model, F d_ffn, H heads, D head dim. Attribute names are the keys of the
published checkpoints; the paper's symbols stand in the comments.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gfkernels import linear
from gfkernels.precision import accumulation_dtype
from torch import Tensor, nn

from .config import ModelConfig, RopeConfig


def token_shift(h: Tensor, previous: Tensor | None) -> Tensor:
    """h_{t-1} - h_t.

    Args:
        h: (B, T, C).
        previous: the row before the first, (B, C); None at the beginning of a sequence (zero).

    Returns:
        (B, T, C).
    """
    first = torch.zeros_like(h[:, :1]) if previous is None else previous[:, None].to(h.dtype)
    return torch.cat([first, h[:, :-1]], dim=1) - h


def rms_scale(x: Tensor) -> Tensor:
    """x / (sqrt(mean(x^2)) + 1e-8), no weight; the epsilon stands outside the root, as published."""
    acc = x.to(accumulation_dtype(x.dtype))
    return (acc / (acc.pow(2).mean(-1, keepdim=True).sqrt() + 1e-8)).to(x.dtype)


def lora_pair(rank_in: int, rank: int, rank_out: int) -> tuple[nn.Parameter, nn.Parameter]:
    """The matrices A (in, rank) and B (rank, out) of lora(x) = tanh(x A) B (paper eq. 2)."""
    return parameter(rank_in, rank), parameter(rank, rank_out)


def mix_vector(width: int) -> nn.Parameter:
    """A per-channel lerp weight (1, 1, C)."""
    return parameter(1, 1, width)


def parameter(*shape: int) -> nn.Parameter:
    """A parameter that holds nothing yet; initialise.py fills it, or a file does."""
    return nn.Parameter(torch.empty(*shape))


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """(B, T, C) -> (B, T, H, D), contiguous groups of channels."""
    return x.unflatten(-1, (-1, head_dim))


class Blank:
    """A module of torch whose parameters hold nothing until `as_torch_begins` or a file fills them.

    Memory that nobody writes is not taken from the system, so an empty model costs nothing.
    """

    def reset_parameters(self) -> None:
        """Called by the constructor of the module."""

    def as_torch_begins(self) -> None:
        """Fill the parameters as torch does."""
        super().reset_parameters()  # type: ignore[misc]


class Embedding(Blank, nn.Embedding):
    """As in torch."""


class LayerNorm(Blank, nn.LayerNorm):
    """As in torch."""


class GroupNorm(Blank, nn.GroupNorm):
    """As in torch."""


class PlainLinear(Blank, nn.Linear):
    """A matrix product without bias."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)


class Linear(PlainLinear):
    """One that takes the fast path for a single row, as decoding has it."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return linear(input, self.weight)


class Rope(nn.Module):
    """Rotary positions on interleaved pairs (2i, 2i + 1), in float32 or better."""

    def __init__(self, config: RopeConfig, head_dim: int) -> None:
        super().__init__()
        self.config, self.head_dim = config, head_dim

    def rotation(self, start: int | Tensor, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angles at positions start, start + 1, ..., (rows, D / 2) each, float64.

        Args:
            start: a number, or a tensor (1,) int64 that a captured graph reads anew at every replay.
        """
        # Angles in float64: at position 100,000 a float32 product is off by more than the result's ulp.
        i = torch.arange(self.head_dim // 2, dtype=torch.float64, device=device)
        frequency = (self.config.base * self.config.rebase) ** (-2 * i / self.head_dim) / self.config.rescale
        angle = (start + torch.arange(rows, dtype=torch.float64, device=device))[:, None] * frequency
        return angle.cos(), angle.sin()

    def forward(self, x: Tensor, start: int | Tensor) -> Tensor:
        """Rotate x (B, H, T, D) whose first row stands at absolute position `start`."""
        return self._turned(x, self.rotation(start, x.shape[-2], x.device))

    def at(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate x (B, H, T, D) whose rows stand at `positions`, (T,) or (H, T) int64; bits are those of `forward`."""
        cos, sin = self.rotation(0, int(positions.max()) + 1, x.device)
        return self._turned(x, (cos[positions], sin[positions]))

    def _turned(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        acc = accumulation_dtype(x.dtype)
        cos, sin = (a.to(acc) for a in rotation)
        a, b = x.to(acc).unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(x.dtype)


class FinchChannelMix(nn.Module):
    """Channel mix of RWKV-6 (GoldFinch eq. 22-25): sigmoid(r) * (relu(k)^2 W_V)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        C, width = config.d_model, config.d_ffn
        self.time_maa_k = mix_vector(C)
        self.time_maa_r = mix_vector(C)
        self.key = Linear(C, width)
        self.receptance = Linear(C, C)
        self.value = Linear(width, C)

    def forward(self, h: Tensor, previous: Tensor | None) -> Tensor:
        """h (B, T, C), previous row (B, C) or None -> (B, T, C)."""
        shift = token_shift(h, previous)
        k = torch.relu(self.key(h + shift * self.time_maa_k)).square()  # (B, T, F)
        return torch.sigmoid(self.receptance(h + shift * self.time_maa_r)) * self.value(k)


class LlamaChannelMix(nn.Module):
    """SwiGLU: (silu(h w1) * (h w3)) w2."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        C, width = config.d_model, config.d_ffn
        self.w1 = PlainLinear(C, width)
        self.w2 = PlainLinear(width, C)
        self.w3 = PlainLinear(C, width)

    def forward(self, h: Tensor, previous: Tensor | None) -> Tensor:
        """h (B, T, C) -> (B, T, C); has no token shift."""
        return self.w2(F.silu(self.w1(h)) * self.w3(h))


CHANNEL_MIXES = {"finch": FinchChannelMix, "llama": LlamaChannelMix}
