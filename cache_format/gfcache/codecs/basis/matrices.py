"""Bases of keys and values: for each head a matrix of integers, by which a codec makes values of its codes.

A basis belongs to a model (who makes it says how); it is a file beside the model, and a section that was coded with it
names its SHA-256 (SPEC, "Bases").

Notation: H heads of a layer, D channels of a head.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

MAGIC = b"\x89GFB\r\n\x1a\n"
# Sizes of the entries of a matrix: with codes up to `codes.MOST`, sums over MOST_CHANNELS are exact in float64.
MOST_ENTRY, MOST_CHANNELS, MOST_HEADS, MOST_LAYERS = 255, 1024, 4096, 4096
MOST_BYTES = 1 << 30  # of a file
EXPONENTS = range(-60, 61)
_COUNT, _ENTRY = struct.Struct("<I"), struct.Struct("<HBBHH")
_PARTS = ("keys", "values")  # by the number that stands for them


@dataclass(frozen=True, eq=False)
class Matrices:
    """Of the heads of a section, one behind the other.

    Attributes:
        integers: (heads, D, D) int16, of channels and components.
        exponents: (heads,) int16: a matrix is its integers times 2^e.
    """

    integers: np.ndarray
    exponents: np.ndarray

    @cached_property
    def exact(self) -> np.ndarray:
        """The integers as float64."""
        return self.integers.astype(np.float64)

    @cached_property
    def nearly(self) -> np.ndarray:
        """The integers as float32, which sums of few and small ones are exact in."""
        return self.integers.astype(np.float32)

    @cached_property
    def longest(self) -> np.ndarray:
        """(heads,): the largest sum of sizes of a row."""
        return np.abs(self.exact).sum(axis=2).max(axis=1)

    @cached_property
    def inverse(self) -> np.ndarray:
        """(heads, D, D) float64: components of channels, the exponents counted in; ValueError where there is none."""
        try:
            found = np.linalg.inv(self.exact)
        except np.linalg.LinAlgError as error:
            raise ValueError("a matrix of the basis has no inverse") from error
        return found * np.ldexp(1.0, -self.exponents.astype(int))[:, None, None]


@dataclass(frozen=True, eq=False)
class Basis:
    """The matrices of a model.

    Attributes:
        matrices: by layer and part ("keys", "values").
    """

    matrices: Mapping[tuple[int, str], Matrices]
    digest: str = field(default="")

    def of(self, layers: Sequence[int], part: str) -> Matrices:
        """Of the heads of these layers; KeyError where it has none of one."""
        found = [self.matrices[layer, part] for layer in layers]
        return Matrices(np.concatenate([m.integers for m in found]), np.concatenate([m.exponents for m in found]))

    def to_bytes(self) -> bytes:
        """The file."""
        heads = [_ENTRY.pack(n, _PARTS.index(part), 0, *m.integers.shape[:2]) for (n, part), m in self._sorted()]
        values = [m.exponents.astype("<i2").tobytes() + m.integers.astype("<i2").tobytes() for _, m in self._sorted()]
        return MAGIC + _COUNT.pack(len(heads)) + b"".join(heads + values)

    def _sorted(self) -> list[tuple[tuple[int, str], Matrices]]:
        return sorted(self.matrices.items(), key=lambda one: (one[0][0], _PARTS.index(one[0][1])))


def parse(data: bytes) -> Basis:
    """A basis from the bytes of its file.

    Raises:
        ValueError: these are none.
    """
    at = len(MAGIC) + _COUNT.size
    if data[: len(MAGIC)] != MAGIC or len(data) < at:
        raise ValueError("this is no basis of a codec")
    (count,) = _COUNT.unpack_from(data, len(MAGIC))
    if count > 2 * MOST_LAYERS or len(data) < at + count * _ENTRY.size:
        raise ValueError(f"{count} matrices in {len(data)} bytes")
    entries = [_ENTRY.unpack_from(data, at + n * _ENTRY.size) for n in range(count)]
    at += count * _ENTRY.size
    if [one[:2] for one in entries] != sorted({one[:2] for one in entries}):
        raise ValueError("matrices that are not in order")
    matrices = {}
    for layer, part, reserved, heads, D in entries:
        if layer >= MOST_LAYERS or part >= len(_PARTS) or reserved or not 0 < heads <= MOST_HEADS:
            raise ValueError(f"matrices of {heads} heads, part {part} of layer {layer}")
        if not 0 < D <= MOST_CHANNELS or len(data) < at + 2 * heads * (1 + D * D):
            raise ValueError(f"matrices of {D} channels in {len(data) - at} bytes")
        exponents = np.frombuffer(data, "<i2", heads, at)
        integers = np.frombuffer(data, "<i2", heads * D * D, at + 2 * heads).reshape(heads, D, D)
        if not np.isin(exponents, EXPONENTS).all() or int(np.abs(integers.astype(np.int32)).max()) > MOST_ENTRY:
            raise ValueError(f"entries of a matrix beyond {MOST_ENTRY}")
        matrices[layer, _PARTS[part]] = Matrices(integers, exponents)
        at += 2 * heads * (1 + D * D)
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the last matrix")
    return Basis(matrices, hashlib.sha256(data).hexdigest())
