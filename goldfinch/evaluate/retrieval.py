"""Retrieval of exact values: one passkey at every depth, many keys with their values, tables, several needles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from goldfinch.datasets.facts import FactMaker, digits
from goldfinch.datasets.phrasings import COLOURS
from goldfinch.datasets.tables import table

from .asking import Reader
from .prose import insert_at, prose_of
from .scoring import exact_match

# The wording of the passkey task as the field has it (Mohtashami and Jaggi, arXiv 2305.16300).
PASSKEY = "The pass key is {value}. Remember it. {value} is the pass key."
PASSKEY_QUESTION = "What is the pass key?"
DEPTHS = tuple(i / 9 for i in range(10))
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16000)
Report = Callable[[dict[str, Any]], None]


def evaluate_passkey(
    reader: Reader,
    texts: Sequence[str],
    *,
    lengths: Sequence[int] = LENGTHS,
    digit_counts: Sequence[int] = (5, 7, 20, 64),
    documents: int = 5,
    seed: int = 0,
    report: Report = lambda row: None,
) -> list[dict[str, Any]]:
    """Exact match of one passkey hidden in held-out prose.

    Args:
        texts: the prose.
        lengths: document lengths in tokens.
        digit_counts: digits of the key; those of 64 digits are asked at every third depth.
        documents: documents per length, depth and number of digits.

    Returns:
        a row per number of digits and length: digits, length, exact (share), questions, depths and by_depth (shares).
    """
    rows = []
    for count in digit_counts:
        depths = DEPTHS[::3] if count > 20 else DEPTHS
        for length in lengths:
            by_depth = []
            for depth in depths:
                seeds = (f"passkey-{seed}-{count}-{length}-{depth:.3f}-{n}" for n in range(documents))
                found = [_passkey(reader, texts, Random(one), length, depth, count) for one in seeds]
                by_depth.append(sum(found) / documents)
            row: dict[str, Any] = {"digits": count, "length": length, "exact": sum(by_depth) / len(depths)}
            row |= {"questions": len(depths) * documents, "depths": list(depths), "by_depth": by_depth}
            rows.append(row)
            report(row)
    return rows


def _passkey(reader: Reader, texts: Sequence[str], rng: Random, length: int, depth: float, count: int) -> bool:
    value = digits(rng, count)
    statement = PASSKEY.format(value=value)
    prose = prose_of(reader.model, rng, texts, length - len(reader.model.tokenizer.encode(statement)))
    answer = reader.answers_to(insert_at(prose, [(depth, statement)]), [PASSKEY_QUESTION], max_tokens=count + 8)
    return exact_match(answer[0], [value])


def evaluate_pairs(
    reader: Reader,
    names: Sequence[str],
    *,
    counts: Sequence[int] = (10, 50, 150),
    documents: int = 10,
    asked: int = 10,
    seed: int = 0,
    report: Report = lambda row: None,
) -> list[dict[str, Any]]:
    """Key-value retrieval: a list of `name: five digits` and nothing else.

    Args:
        names: held-out names, the keys.
        counts: pairs per document.
        asked: keys asked per document, spread evenly.

    Returns:
        a row per count: pairs, exact, questions.
    """
    rows = []
    for count in counts:
        right = total = 0
        for n in range(documents):
            rng = Random(f"pairs-{seed}-{count}-{n}")
            keys = rng.sample(list(names), count)
            values = {key: digits(rng, 5) for key in keys}
            text = "\n".join(f"{key}: {value}" for key, value in values.items()) + "\n"
            chosen = keys[:: max(1, count // asked)][:asked]
            answers = reader.answers_to(text, [f"What is the value of {key}?" for key in chosen], max_tokens=12)
            right += sum(exact_match(answer, [values[key]]) for key, answer in zip(chosen, answers, strict=True))
            total += len(chosen)
        rows.append({"pairs": count, "exact": right / total, "questions": total})
        report(rows[-1])
    return rows


def evaluate_tables(
    reader: Reader,
    names: Sequence[str],
    *,
    counts: Sequence[int] = (5, 15, 50),
    documents: int = 20,
    asked: int = 10,
    seed: int = 0,
    report: Report = lambda row: None,
) -> list[dict[str, Any]]:
    """Cells of tables with headings, as Markdown, CSV, tabs or aligned columns, and nothing else.

    Args:
        names: held-out names; headings and ways of asking are also some that training never saw.
        counts: rows per table.
        asked: cells asked per table.

    Returns:
        a row per count: rows, exact, questions.
    """
    rows = []
    for count in counts:
        right = total = 0
        for n in range(documents):
            rng = Random(f"tables-{seed}-{count}-{n}")
            text, pairs = table(FactMaker(names, held_out=True), rng, count, held_out=True)
            chosen = rng.sample(pairs, min(asked, len(pairs)))
            answers = reader.answers_to(text, [question for question, _ in chosen], max_tokens=24)
            right += sum(exact_match(answer, [value]) for answer, (_, value) in zip(answers, chosen, strict=True))
            total += len(chosen)
        rows.append({"rows": count, "exact": right / total, "questions": total})
        report(rows[-1])
    return rows


def evaluate_needles(
    reader: Reader,
    texts: Sequence[str],
    *,
    counts: Sequence[int] = (2, 4, 8),
    lengths: Sequence[int] = (1024, 4096),
    documents: int = 20,
    seed: int = 0,
    report: Report = lambda row: None,
) -> list[dict[str, Any]]:
    """Several needles that differ in one word: pass keys of different colours, each asked for.

    Returns:
        a row per count and length: needles, length, exact (share of the questions), all_exact (share of the documents
        of which every needle was found), documents.
    """
    rows = []
    for count in counts:
        for length in lengths:
            right = whole = 0
            for n in range(documents):
                rng = Random(f"needles-{seed}-{count}-{length}-{n}")
                values = {colour: digits(rng, 5) for colour in rng.sample(COLOURS, count)}
                needles = [(rng.random(), f"The {colour} pass key is {value}.") for colour, value in values.items()]
                prose = prose_of(reader.model, rng, texts, length - 14 * count)
                questions = [f"What is the {colour} pass key?" for colour in values]
                answers = reader.answers_to(insert_at(prose, needles), questions, max_tokens=12)
                found = [exact_match(a, [v]) for a, v in zip(answers, values.values(), strict=True)]
                right, whole = right + sum(found), whole + all(found)
            row = {"needles": count, "length": length, "exact": right / (count * documents)}
            rows.append(row | {"all_exact": whole / documents, "documents": documents})
            report(rows[-1])
    return rows
