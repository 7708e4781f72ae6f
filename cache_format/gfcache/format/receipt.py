"""What the codecs of a cache cost, measured when it was made (SPEC 1.1, error_receipt)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gfcache import layout

from .reader import CacheFile

# Version of the layout; numbers before the first tokens of the passages.
_VERSION, _HEAD = 1, 12
# A larger section is no receipt.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Divergence:
    """How far the next-token distributions behind two caches are apart: KL(as computed || rounded).

    Attributes:
        positions: how many were compared.
        mean_kl, max_kl: in nats.
        flips: positions at which another token is the most likely one.
    """

    positions: int
    mean_kl: float
    max_kl: float
    flips: int


@dataclass(frozen=True)
class Receipt:
    """What the codecs of a cache cost.

    Attributes:
        seed: of the draw of passages.
        starts: first token of each passage.
        passage_tokens: of each of them.
        document: behind the passages, read once more after the document.
        questions: behind questions that suit any document.
        channel_errors: R root mean squares of the error of compressed_k, relative to those of its values.
    """

    seed: int
    starts: tuple[int, ...]
    passage_tokens: int
    document: Divergence
    questions: Divergence
    channel_errors: tuple[float, ...]

    @property
    def mean_kl(self) -> float:
        """The larger of both means, in nats: what a bound is a bound of."""
        return max(self.document.mean_kl, self.questions.mean_kl)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def to_array(self) -> np.ndarray:
        """(12 + passages + R,) float64, as the section holds it."""
        halves = [(d.positions, d.mean_kl, d.max_kl, d.flips) for d in (self.document, self.questions)]
        head = (_VERSION, self.seed, len(self.starts), self.passage_tokens, *halves[0], *halves[1])
        return np.array((*head, *self.starts, *self.channel_errors), np.float64)

    @classmethod
    def from_array(cls, values: np.ndarray) -> Receipt | None:
        """Undo `to_array`; None for what is no receipt of this layout."""
        found = values.reshape(-1).tolist()
        if len(found) < _HEAD or found[0] != _VERSION or not 0 <= found[2] <= len(found) - _HEAD:
            return None
        end = _HEAD + int(found[2])
        halves = [Divergence(int(n), mean, most, int(flips)) for n, mean, most, flips in (found[4:8], found[8:12])]
        starts = tuple(int(at) for at in found[_HEAD:end])
        return cls(int(found[1]), starts, int(found[3]), halves[0], halves[1], tuple(found[end:]))


def receipt_in(file: CacheFile) -> Receipt | None:
    """The receipt of an open file; None where there is none that this version reads.

    Raises:
        DamagedCache: R14 to R16.
    """
    for section in file.header.of_kind(layout.ERROR_RECEIPT):
        if section.dtype == "f64" and section.raw_bytes <= _MOST_BYTES:
            found = Receipt.from_array(file.array(section))
            if found is not None:
                return found
    return None
