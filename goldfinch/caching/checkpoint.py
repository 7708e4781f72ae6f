"""A position of a document from which one can resume, append, truncate or ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.models.state import ModelState


@dataclass(frozen=True)
class Checkpoint:
    """A position from which one can go on: the state there and the tail before it.

    Attributes:
        position: tokens before it.
        state: layer states after them.
        tail_hidden: (1, min(K, position), C).
    """

    position: int
    state: ModelState
    tail_hidden: Tensor
