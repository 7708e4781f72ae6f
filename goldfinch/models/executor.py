"""Who runs the layers: the protocol that the readable executor and the fast ones answer to.

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, H heads, D head dim, V vocab_size, N documents.

A model owns one executor, chosen when it is loaded (argument > GF_KERNELS > device). `TorchExecutor` is the readable
twin and the base class of the others, which override what they do faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from .state import GoldDocument, LayerState, Memory, ModelState, Ranges

    KeysValues = tuple[Tensor, Tensor]
    Partial = tuple[Tensor, Tensor]
else:
    KeysValues = Partial = tuple


class Decoder(Protocol):
    """Decodes one sequence token by token in buffers of its own."""

    def step(self, token: int) -> Tensor:
        """Logits (V,) after one more token; the tensor is overwritten by the next step."""


class Executor(Protocol):
    """Runs the layers of one model."""

    @property
    def name(self) -> str:
        """Noted in the numerics of a cache: "torch", "native", "triton"."""

    @property
    def block_tokens(self) -> int:
        """Tokens that one step of a prefill should hold."""

    @property
    def packing_obstacle(self) -> str | None:
        """Why several documents in one pass gain nothing here, None where they do."""

    @property
    def fewest_batch_rows(self) -> int:
        """Fewer answers than this are faster one by one than together."""

    def lower_layers(
        self, token_ids: Tensor, states: Sequence[LayerState], lengths: Sequence[int] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        """The layers below the GOLD layers over new tokens.

        Args:
            token_ids: (B, T) int64, or with `lengths` (1, sum(lengths)).
            states: one per layer of the model; those of the lower layers are replaced in what is returned.
            lengths: tokens of N documents that stand behind each other in one row, each at least 1; the states
                have them along the batch axis, or are empty.

        Returns:
            the residual stream, (B, T, C) or (1, sum(lengths), C), and the states.
        """

    def upper_layers(self, x: Tensor, states: Sequence[LayerState], memory: Memory) -> tuple[Tensor, list[LayerState]]:
        """The GOLD layers over the last T positions of a memory.

        Args:
            x: the residual stream there, (B, T, C).
            states: one per layer of the model; those of the GOLD layers are replaced in what is returned.
            memory: holds those positions already.

        Returns:
            x (B, T, C) after the last layer, and the states.
        """

    def rebuild(
        self,
        token_ids: Tensor,
        compressed_k: Tensor,
        previous: tuple[Tensor, Tensor] | None,
        start: int | Tensor,
        only: int | None = None,
    ) -> list[KeysValues]:
        """Keys and values of the GOLD layers for consecutive rows (paper eq. 15, 18-20), keys rotated.

        Args:
            token_ids: (B, T); compressed_k: (B, T, R).
            previous: (token id (B, 1), compressed_k (B, 1, R)) of the row before them, None at the beginning.
            start: absolute position of the first row; a tensor (1,) where a captured graph is to read it.
            only: 0-based GOLD layer to rebuild, or None for all.

        Returns:
            (K, V), each (B, T, C), per layer.
        """

    def rebuilt(self, document: GoldDocument, index: int) -> Iterator[tuple[int, KeysValues]]:
        """(start, (K, V)) of one GOLD layer, block by block over all rows of a document that are there."""

    def expand(self, document: GoldDocument, rows: Ranges | None = None) -> GoldDocument:
        """The document with keys and values of every GOLD layer held in memory.

        Args:
            rows: (start, end) of the rows to hold, ascending and apart; None for all. Their keys and values are
                those of the whole document: each row is rebuilt with its true predecessor, at its true position.
        """

    def attend(self, q: Tensor, k: Tensor, v: Tensor, q_start: int, k_start: int) -> Iterator[Partial]:
        """Partial results over keys that are held.

        Args:
            q: (B, H, Tq, D), the first at absolute position q_start.
            k, v: (B or 1, n, C), the first at absolute position k_start.

        Yields:
            out (B, H, Tq, D) and log-sum-exp (B, H, Tq), as `gfkernels.attend_block` gives them.
        """

    def attend_document(self, index: int, q: Tensor, q_start: int, document: GoldDocument) -> Iterator[Partial]:
        """Partial results of one GOLD layer over a document, expanded or not; arguments and results as in `attend`."""

    def attend_memory(self, index: int, q: Tensor, memory: Any) -> Tensor:
        """Attention of the last positions of a `memory.GoldMemory` over it, as `state.Memory.attend`."""

    def decoder(self, state: ModelState, capacity: int) -> Decoder | None:
        """A decoder for `capacity` tokens from a state, which it copies; None where there is none that gains."""


# Tokens rebuilt at a time; the transient keys and values of one block, whatever the context, stay this small.
REBUILD_BLOCK = 2048
# Tokens per block: large enough for the matrix products, small enough for the caches of the CPU.
BLOCK_TOKENS = 512
# Name of the executor without torch, in the numerics of caches.
WITHOUT_TORCH = "numpy"
# A GPU needs long products, and the intermediate rows must stay small.
GPU_BLOCK_TOKENS = 8192


def block_tokens_of(name: str | None, device: str | None) -> int:
    """`Executor.block_tokens` of the executor of that name on a kind of device, as a cache's numerics note both."""
    return GPU_BLOCK_TOKENS if name == "triton" and device == "cuda" else BLOCK_TOKENS


def blocks_of(ranges: Ranges, size: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, rows before it) of blocks of at most `size` rows, each within one range."""
    at = 0
    for first, last in ranges:
        for start in range(first, last, size):
            end = min(start + size, last)
            yield start, end, at
            at += end - start
