"""The section of docs/benchmarks.md about codecs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bench.report.models import conditions_line

PUBLISHED = ("kivi4", "kivi2", "flexgen4")


def codec_lines(record: dict[str, Any]) -> list[str]:
    """What each codec saves and costs, and ours against published ones at equal divergence."""
    rows = record["rows"]
    lengths = list(dict.fromkeys(row["tokens"] for row in rows))
    first = [row for row in rows if row["tokens"] == lengths[0]]
    lines = ["## Codecs", "", conditions_line(record["conditions"]), ""]
    lines += [
        f"{first[0]['documents']} documents of held-out encyclopedia text for each length. KL of next-token "
        "distributions, in nats, behind 256 positions of each document that are read once more, and behind general "
        "questions; means over the documents. Bits count scales, tables and what a codec leaves alone; a file holds "
        "everything, and is compared with the one without codecs.",
        "",
        f"Keys alone, {lengths[0]:,} tokens:",
        "",
        "| keys | bits per value | KL, document | most, any position | top token changed | KL, questions |",
        "|---|---|---|---|---|---|",
    ]
    keys = [row for row in first if row["state_codec"] == "raw"]
    for row in keys:
        lines.append(
            f"| `{row['codec']}` | {row['bits_per_value']:.2f} | {row['document_kl']:.4f} | "
            f"{row['document_max_kl']:.2f} | {row['document_flips']:.1%} | {row['questions_kl']:.4f} |"
        )
    curve = [(row["codec"], row["document_kl"], row["bits_per_value"]) for row in keys]
    lines += ["", *against_published(curve), ""]
    lines += [
        "State, and both together:",
        "",
        "| tokens | keys | state | state's bytes | whole file | bits per id | KL, document | KL, questions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["state_codec"] != "raw":
            lines.append(
                f"| {row['tokens']:,} | `{row['codec']}` | `{row['state_codec']}` | {row['state_share']:.1%} | "
                f"{row['file_share']:.1%} | {row['id_bits']:.2f} | {row['document_kl']:.4f} | "
                f"{row['questions_kl']:.4f} |"
            )
    return [*lines, ""]


def codec_speed_lines(record: dict[str, Any] | None) -> list[str]:
    """How fast codecs are, and what asking a rounded cache takes beside one that is not."""
    if record is None:
        return []
    lines = [
        "### What codecs cost in time",
        "",
        conditions_line(record["conditions"]),
        "",
        f"CPU time of one thread, medians (minimum to maximum) of {record['repeats']} rounds, in each of which all is "
        "measured. MB/s count values as bf16; encoding includes the check that the very same bits are read. Keys and "
        f"values are those of {record['others']}.",
        "",
        "| codec | values of | encode MB/s | decode MB/s |",
        "|---|---|---|---|",
    ]
    for row in record["rows"]:
        lines.append(f"| `{row['codec']}` | {row['what']} | {span(row['encode_mb_s'])} | {span(row['decode_mb_s'])} |")
    lines += [
        "",
        f"A question to {record['document_tokens']:,} tokens: CPU time from a rounded file against a plain one.",
        "",
        "| keys | state | `gf ask`, the whole process | answer from all rows, kept | the same, rebuilt at every step |",
        "|---|---|---|---|---|",
    ]
    for rows in zip(record["ask"], record["kept"], record["rebuilt"], strict=True):
        if rows[0]["codec"] != "raw":
            cells = " | ".join(f"{span(row['ratio'], 2)} times" for row in rows)
            lines.append(f"| `{rows[0]['codec']}` | `{rows[0]['state_codec']}` | {cells} |")
    return [*lines, ""]


def span(value: dict[str, float], decimals: int = 0) -> str:
    """Median (minimum to maximum)."""
    median, least, most = (f"{value[name]:,.{decimals}f}" for name in ("median", "min", "max"))
    return f"{median} ({least} to {most})"


def against_published(rows: Sequence[tuple[str, float, float]]) -> list[str]:
    """The bits of a constant step at the divergence of each published codec, between the measured steps around it.

    Args:
        rows: codec, KL, bits per value.
    """
    steps, based = _curve(rows, "step"), _curve(rows, "basis")
    found = [(codec, bits, bits_at(steps, kl)) for codec, kl, bits in rows if codec in PUBLISHED]
    words = [f"of `{codec}`, {own / bits:.2f} of its bits" for codec, bits, own in found if own]
    least = min((kl for kl, _ in steps), default=0.0)
    beyond = [f"`{codec}`" for codec, kl, _ in rows if codec in PUBLISHED and kl < least]
    worse = [f"`{codec}`" for codec, kl, _ in rows if codec in PUBLISHED and steps and kl > steps[-1][0]]
    lines = (
        [f"A constant step needs, at the divergence {', and at that '.join(words)} (interpolated)."] if words else []
    )
    found = [(codec, bits, bits_at(based, kl)) for codec, kl, bits in rows if codec in PUBLISHED]
    words = [f"of `{codec}`, {own / bits:.2f}" for codec, bits, own in found if own]
    lines += [f"In a basis of the model, it needs at that {', and at that '.join(words)} of its bits."] if words else []
    if beyond:
        lines.append(f"Less is lost by {' and '.join(beyond)} than by any step measured here, in more bits.")
    if worse:
        lines.append(f"More is lost by {' and '.join(worse)} than by any step measured here, in more bits.")
    return lines


def against_steps(rows: Sequence[tuple[str, float, float]]) -> list[str]:
    """The bits of a constant step in a basis of the model at the divergence of each without one; rows as above."""
    based = _curve(rows, "basis")
    found = [(codec, bits, bits_at(based, kl)) for codec, kl, bits in rows if codec.startswith("step")]
    words = [f"of `{codec}` {own / bits:.2f}" for codec, bits, own in found if own]
    return [f"In a basis of the model, a constant step needs less: {', '.join(words)} (interpolated)."] if words else []


def _curve(rows: Sequence[tuple[str, float, float]], family: str) -> list[tuple[float, float]]:
    return sorted((kl, bits) for codec, kl, bits in rows if codec.startswith(family))


def bits_at(curve: Sequence[tuple[float, float]], kl: float) -> float | None:
    """Bits per value at a divergence on a curve of (KL, bits), straight in log KL; None beyond its ends."""
    for (low, most), (high, fewest) in pairwise(curve):
        if low <= kl <= high and low > 0:
            share = (math.log(kl) - math.log(low)) / max(math.log(high) - math.log(low), 1e-9)
            return most + share * (fewest - most)
    return None
