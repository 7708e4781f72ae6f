"""The section of docs/benchmarks.md about models of others: their caches, codecs, documents in blocks."""

from __future__ import annotations

from typing import Any

from bench.report.sections.codecs import against_published, against_steps


def others_lines(
    saved: dict[str, Any] | None,
    pairs: dict[str, Any] | None,
    answers: dict[str, Any] | None,
    speed: dict[str, Any] | None,
) -> list[str]:
    """What there are records of.

    Args:
        saved: of `bench.speed.foreign`.
        pairs: of `bench.quality.pair_codecs`.
        answers: of `bench.quality.blocks`.
        speed: of `bench.speed.blocks`.
    """
    parts = [
        [] if saved is None else _saved(saved),
        [] if pairs is None else _pairs(pairs),
        [] if answers is None and speed is None else ["### Documents in blocks", ""],
        [] if answers is None else _answers(answers),
        [] if speed is None else _speed(speed),
    ]
    found = [line for part in parts for line in part]
    return ["## Models of others", "", *found] if found else []


def _made(record: dict[str, Any]) -> str:
    conditions = record.get("conditions", record)
    numerics, commit = conditions["numerics"], record.get("commit") or conditions.get("commit")
    return (
        f"{record['model']} ({record['architecture']}), {numerics['compute_dtype']}, {numerics['library']}, "
        f"{conditions['processor']}" + (f", commit {commit}" if commit else "")
    )


def _saved(record: dict[str, Any]) -> list[str]:
    ratios, peaks = record["ratios"], record["peaks"]
    again = ratios["prefill and first token over reload and first token"]
    saving = ratios["saving over prefill"]
    return [
        "### A cache that is saved and read again",
        "",
        _made(record),
        "",
        f"{record['tokens']:,} tokens, the model loaded in both cases, CPU time, medians (minimum to maximum) of "
        f"{len(record['rounds'])} rounds: reading the file again and the first token come {again['median']:.1f} times "
        f"({again['min']:.1f} to {again['max']:.1f}) sooner than pre-filling and the first token. Saving takes "
        f"{saving['median']:.1%} of the time of pre-filling. A process that pre-fills has at most "
        f"{peaks['ours over library']:.2f} times the memory of the library's own forward pass. The file takes "
        f"{record['file_bytes_per_token'] / 1e3:.1f} kB a token.",
        "",
    ]


def _pairs(record: dict[str, Any]) -> list[str]:
    lines = [
        "### Codecs for keys and values",
        "",
        _made(record),
        "",
        f"{record['documents']} held-out texts of {record['tokens']:,} tokens; KL of next-token distributions, in "
        f"nats, behind the {record['positions']} tokens that follow. Bits count everything that the sections hold; a "
        "whole file is compared with one of bf16 values.",
        "",
        "| keys and values | bits per value | whole file | KL | most, any position | top token changed |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        lines.append(
            f"| `{row['codec']}` | {row['bits_per_value']:.2f} | {row['file_share']:.1%} | {row['kl']:.4f} | "
            f"{row['max_kl']:.2f} | {row['flips']:.1%} |"
        )
    curve = [(row["codec"], row["kl"], row["bits_per_value"]) for row in record["rows"]]
    return [*lines, "", *against_steps(curve), *against_published(curve), ""]


def _answers(record: dict[str, Any]) -> list[str]:
    return [
        _made(record),
        "",
        f"{record['questions']} questions about {len(record['documents'])} documents, each answered from the file "
        "and by the library's own `generate` on prompt, block and question in one row of tokens: the greedy text is "
        f"equal for {record['equal']}, the logits of every token within {record['most_difference']:g} for "
        f"{record['within']} (largest difference {record['largest_difference']:.1g}). {record['right']} of "
        f"{record['answered']} questions that the documents answer are answered rightly.",
        "",
    ]


def _speed(record: dict[str, Any]) -> list[str]:
    prefill, first = record["prefill"], record["first_token"]
    short = sorted(row["tokens"] for row in prefill["short"])[len(prefill["short"]) // 2]
    ratios = record["ratios"]
    return [
        _made(record),
        "",
        f"CPU time per token of a prefill of {prefill['long']['tokens']:,} tokens in {prefill['long']['blocks']} "
        f"blocks, of that of {short:,} tokens: "
        f"{ratios['CPU time per token of prefill, long to short']:.2f} times"
        + ("" if prefill["layers"] == first["layers"] else f" (of the model's first {prefill['layers']} layers)")
        + f". First token of a question to {first['tokens']:,} tokens, finding included, of that to a document that "
        "is the block alone: "
        f"{ratios['CPU time of the first token, long to one block']:.2f} times.",
        "",
    ]
