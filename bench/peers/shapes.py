"""The sizes at which programs are compared: the same layers, width and vocabulary for each."""

from __future__ import annotations

from dataclasses import dataclass

from goldfinch.weights.directory import DEFAULT_MODEL


@dataclass(frozen=True)
class Shape:
    """One size for all programs; `ffn` is Llama's feed-forward width, `model` gf's name or preset."""

    layers: int
    width: int
    ffn: int
    vocabulary: int
    model: str


SHAPES = {
    "12x768": Shape(12, 768, 2048, 65_536, "goldfinch-12x768"),
    "6x512": Shape(6, 512, 1408, 65_536, "goldfinch-6x512"),
    "gf-mini": Shape(6, 192, 512, 4_096, DEFAULT_MODEL),
}
