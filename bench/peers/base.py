"""What every program measured beside gf can do: prefill, save, and answer from what it saved.

Weights are random: speed does not depend on them. Llama, RWKV-6 and GoldFinch of one shape have the same number of
layers, the same width and the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class Peer:
    """One program at one precision: prefill, save, then answer from the file."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.file = name, folder / f"{name.replace(' ', '-')}.cache"

    def prefill(self, ids: list[int]) -> object:
        """Process a prompt up to the logits or state after its last token."""
        raise NotImplementedError

    def save(self, cache: object) -> None:
        """Write what `prefill` left to self.file."""
        raise NotImplementedError

    def first_token(self, question: list[int]) -> Callable[[], None]:
        """Read self.file, run the question to the first token; returns a function that decodes one more."""
        raise NotImplementedError
