"""Bytes and operations of every architecture and method, by formula: what a measurement has to agree with.

Notation: T tokens, n values of a row, b bits, p share of rows that is kept; others as in `architectures`.

Bytes are those on disk, everything counted: rows, scales and minima, tails that stay as they are, token ids, states.
What depends on the data has no formula and is left to measurements: entropy coding (its codes are given their nominal
rate), and the rows before runs that GoldFinch's dropping stores as well (between none and one for each row).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .architectures import ARCHITECTURES, Architecture

# KIVI (arXiv 2402.02750) and FlexGen (2303.06865) as the benchmark 2407.01527 has them: values of a group, and the last
# rows that KIVI leaves as they are; a group has a scale and a minimum of 16 bits.
GROUP, RESIDUAL = 32, 128
_GROUP_BITS = 2 * 16 / GROUP
KEEPS = (0.5, 0.25, 0.125)


@dataclass(frozen=True)
class Method:
    """What is done to the rows of an architecture.

    Attributes:
        name: for people.
        formula: bits of a row and token.
        row_bits: bits of all rows, from (n, T), n values in a row; ids and states are added.
        seed_ratio: the compression as the benchmark states it: 16 / mean bits, or rows of the input for each one kept.
        read: share of the rows that a token of an answer attends to.
        prefill: what a pre-fill costs besides, from an architecture and T, operations for each token.
        prefill_note: the same in words.
    """

    name: str
    formula: str
    row_bits: Callable[[int, int], float]
    seed_ratio: float
    read: float = 1.0
    prefill: Callable[[Architecture, int], float] = lambda architecture, tokens: 0.0
    prefill_note: str = ""


def kivi_bits(n: int, tokens: int, bits: int) -> float:
    """Bits of n values a row, half of them keys: of keys all whole groups of RESIDUAL rows, of values all but the last.

    Args:
        n: values of a row, keys and values together.
        tokens: T.
    """
    keys, values = tokens // RESIDUAL * RESIDUAL, max(tokens - RESIDUAL, 0)
    coded = n / 2 * (keys + values)
    return coded * (bits + _GROUP_BITS) + (n * tokens - coded) * 16


def _kivi(bits: int) -> Method:
    at_10k = 16 * 10_000 / kivi_bits(1, 10_000, bits)
    return Method(
        f"KIVI-{bits}", f"n ({bits} + 32 / {GROUP}), last {RESIDUAL} rows 16 n",
        lambda n, tokens: kivi_bits(n, tokens, bits), round(at_10k, 2),
    )  # fmt: skip


def _constant(name: str, bits: float, note: str = "") -> Method:
    formula = note or f"{bits:g} n"
    return Method(name, formula, lambda n, tokens: bits * n * tokens, round(16 / bits, 2))


def _dropping(name: str, keep: float, prefill: Callable[[Architecture, int], float], note: str) -> Method:
    return Method(
        f"{name} {keep:g}", f"{keep:g} x 16 n", lambda n, tokens: 16 * n * int(keep * tokens), round(1 / keep, 2),
        read=keep, prefill=prefill, prefill_note=note,
    )  # fmt: skip


def _nothing(architecture: Architecture, tokens: int) -> float:
    return 0.0


def _column_sums(architecture: Architecture, tokens: int) -> float:
    """All queries: where a pre-fill does not run the attention layers, one more pass through all layers.

    Either way weights are made once more beside attention, whose kernels never write them out.
    """
    if architecture.decode_weights is None or not architecture.rebuild:
        return 2 * architecture.prefill_attention * tokens / 2
    return 2 * (architecture.decode_weights - architecture.head) + 6 * architecture.decode_attention * tokens / 2


def _last_queries(architecture: Architecture, tokens: int) -> float:
    """The lower layers once more, where a pre-fill leaves no stream at the window; 32 queries are lost in the rest."""
    return 2 * (architecture.prefill_weights or 0) if architecture.rebuild else 0.0


FULL = _constant("full, 16 bits", 16)
# Of an architecture that keeps rows of keys and values.
OF_ATTENTION: tuple[Method, ...] = (
    FULL, _kivi(4), _kivi(2), _constant("FlexGen-4", 4 + _GROUP_BITS, f"n (4 + 32 / {GROUP})"),
    *(_dropping("H2O", keep, _column_sums, "all queries") for keep in KEEPS),
    *(_dropping("StreamingLLM", keep, _nothing, "") for keep in KEEPS),
    *(_dropping("SnapKV", keep, _last_queries, "the last 32 queries") for keep in KEEPS),
    *(
        Method(f"InfLLM {keep:g}", "16 n, read in part", FULL.row_bits, round(1 / keep, 2), keep)
        for keep in KEEPS
    ),
)  # fmt: skip
# Of GoldFinch's compressed keys.
OF_GOLDFINCH: tuple[Method, ...] = (
    FULL,
    Method("f32, as computed on a CPU", "32 n", lambda n, tokens: 32.0 * n * tokens, 0.5),
    Method("int8", "8 n + 16", lambda n, tokens: (8.0 * n + 16) * tokens, 2.0),
    *(_constant(f"step{bits:g}", bits, f"about {bits:g} n") for bits in (4, 3, 2)),
    _constant("FlexGen-4", 4 + _GROUP_BITS, f"n (4 + 32 / {GROUP})"),
    *(_dropping("H2O", keep, _column_sums, "all queries, all layers") for keep in KEEPS),
    *(_dropping("StreamingLLM", keep, _nothing, "") for keep in KEEPS),
    *(_dropping("SnapKV", keep, _last_queries, "32 queries, the lower layers again") for keep in KEEPS),
)  # fmt: skip
# Of what keeps no rows.
OF_RECURRENT: tuple[Method, ...] = (Method("state", "0", lambda n, tokens: 0.0, 1.0),)


@dataclass(frozen=True)
class Row:
    """Figures of one architecture with one method, at one length.

    Attributes:
        architecture, shape, method: which.
        tokens: T.
        row_formula, state_formula: bits of a row, values of the state.
        bytes_per_token: on disk, of rows and ids; without the state.
        state_bytes: once: 32 bits for each value of a recurrent state.
        total_bytes: of T tokens, the state included.
        ratio: to keys and values of all layers, width by width, in 16 bits (2 L d), all included.
        seed_ratio: as the benchmark counts it.
        prefill_operations: for each token, on average, what the method needs included; None where unknown.
        decode_operations: for each token of an answer; None where unknown.
        rebuild_operations: for each row that is kept, once for a question, where keys and values are made from it.
        note: what the method adds to a pre-fill.
    """

    architecture: str
    shape: str
    method: str
    tokens: int
    row_formula: str
    state_formula: str
    bytes_per_token: float
    state_bytes: int
    total_bytes: float
    ratio: float
    seed_ratio: float
    prefill_operations: float | None
    decode_operations: float | None
    rebuild_operations: int
    note: str


def methods_of(architecture: Architecture) -> tuple[Method, ...]:
    """What can be done to its rows."""
    if architecture.rebuild:
        return OF_GOLDFINCH
    if not architecture.rows:
        return OF_RECURRENT
    return OF_ATTENTION if architecture.decode_weights is not None else (FULL,)


def row_of(architecture: Architecture, method: Method, tokens: int) -> Row:
    """The figures of an architecture with a method for T tokens."""
    id_bits = 16 if architecture.ids else 0
    bits = method.row_bits(architecture.rows, tokens) + id_bits * tokens
    window = 2 * architecture.window_rows * min(architecture.window, tokens)
    state_bytes = 4 * architecture.state
    total = bits / 8 + window + state_bytes
    layers, width = (int(n) for n in architecture.shape.split(" x "))
    prefill, decode = architecture.prefill_operations(tokens), architecture.decode_operations(tokens)
    if decode is not None:
        decode -= 4 * architecture.decode_attention * tokens * (1 - method.read)
    return Row(
        architecture.name, architecture.shape, method.name, tokens,
        method.formula + (" + 16 (id)" if id_bits else ""), architecture.state_formula,
        round(bits / 8 / tokens, 3), state_bytes, round(total), round(4 * layers * width * tokens / total, 1),
        method.seed_ratio, None if prefill is None else prefill + method.prefill(architecture, tokens), decode,
        architecture.rebuild, method.prefill_note,
    )  # fmt: skip


def table(lengths: tuple[int, ...] | list[int]) -> Iterator[Row]:
    """Every architecture with every method, at every length."""
    for tokens in lengths:
        for architecture in ARCHITECTURES:
            for method in methods_of(architecture):
                yield row_of(architecture, method, tokens)


def record(lengths: tuple[int, ...] | list[int]) -> dict[str, Any]:
    """The table, as `gf bench methods --json` prints it."""
    return {"schema_version": 1, "what": "methods", "rows": [asdict(row) for row in table(lengths)]}
