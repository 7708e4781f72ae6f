"""The kinds of processors that records beside other programs are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# A figure that gf is measured by; gf's row, or an other's; the tokens; the others of which the best counts; the goal.
Target = tuple[str, str, int, tuple[str, ...], float]

RWKV6 = ("llama.cpp RWKV-6 bf16",)
BF16 = ("transformers Llama bfloat16", "llama.cpp Llama bf16", "llama.cpp Llama bf16, no flash attention")
F32 = ("transformers Llama float32", "llama.cpp Llama float32", "llama.cpp Llama float32, no flash attention")


def _each(figure: str, ours: str, others: tuple[str, ...], goals: dict[int, float]) -> tuple[Target, ...]:
    return tuple((figure, ours, tokens, others, goal) for tokens, goal in goals.items())


@dataclass(frozen=True)
class Machine:
    """A kind of processor.

    Attributes:
        name: for people.
        record: the one beside other programs at 12x768 that was made on such a machine.
        ours: gf's row in the precision that is quicker there.
        llamas: the Llamas of other programs in that precision.
        targets: the goals that were set for it.
    """

    name: str
    record: str
    ours: str
    llamas: tuple[str, ...]
    targets: tuple[Target, ...]


AMX = Machine(
    "with AMX",
    "peers",
    "gf bfloat16",
    BF16,
    (
        *_each("prefill_tok_s", "gf bfloat16", BF16, {512: 1.2, 2048: 2.2, 8192: 4.5}),
        *_each("prefill_tok_s", "gf bfloat16", RWKV6, dict.fromkeys((512, 2048, 8192), 3.0)),
        *_each("prefill_tok_s", "gf float32", F32[:1], {512: 1.3, 2048: 1.4, 8192: 2.4}),
        *_each("first_token_ms", "gf bfloat16", BF16[:1], dict.fromkeys((512, 2048, 8192), 1.25)),
        *_each("first_token_ms", "gf bfloat16", BF16[1:], {8192: 3.0}),
        *_each("decode_tok_s", "gf bfloat16", BF16[:1], {512: 1.2, 8192: 2.5}),
        *_each("decode_tok_s", "gf bfloat16", BF16[1:], {512: 0.8, 8192: 1.5}),
        *_each("file_bytes", "gf bfloat16", BF16[1:], {8192: 120.0}),
    ),
)
AVX2 = Machine(
    "with AVX2 only",
    "peers-avx2",
    "gf float32",
    F32,
    (
        *_each("prefill_tok_s", "gf float32", F32[:1], {512: 1.3, 2048: 1.4, 8192: 2.4}),
        *_each("first_token_ms", "gf float32", F32[:1], dict.fromkeys((512, 2048, 8192), 1.25)),
        *_each("first_token_ms", "gf float32", F32[1:], {8192: 3.0}),
        *_each("decode_tok_s", "gf float32", F32[:1], {512: 1.2, 8192: 2.5}),
        *_each("decode_tok_s", "gf float32", F32[1:], {512: 0.8, 8192: 1.5}),
        *_each("file_bytes", "gf float32", F32[:1], {8192: 120.0}),
    ),
)
MACHINES = (AMX, AVX2)
# By the record.
KINDS = {"peers": AMX, "peers-6x512": AMX, "peers-avx2": AVX2, "peers-gf-mini": AVX2}

LESS_IS_BETTER = ("first_token_ms", "file_bytes")
BEST = {2: "the better llama.cpp Llama", 3: "the best Llama"}


def compared(
    rows: list[dict[str, Any]], figure: str, ours: str, tokens: int, others: tuple[str, ...]
) -> tuple[float, str] | None:
    """(how many times better gf is than the best of the others, the name of what it is compared with); None where one
    of the two was not measured.

    Args:
        rows: of a record beside other programs.
        figure: a key of its rows.
        ours, others: names of programs.
        tokens: of the document.
    """
    values = {row["peer"]: row[figure]["median"] for row in rows if row["tokens"] == tokens and figure in row}
    found = {name: values[name] for name in others if name in values}
    if ours not in values or not found:
        return None
    less = figure in LESS_IS_BETTER
    ratio = min(found.values()) / values[ours] if less else values[ours] / max(found.values())
    return ratio, next(iter(found)) if len(found) == 1 else BEST[len(others)]
