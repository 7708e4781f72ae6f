"""Retrieval of exact values: one passkey at every depth, many keys with their values, tables, several needles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from goldfinch.datasets.facts import FactMaker, digits
from goldfinch.datasets.phrasings import COLOURS
from goldfinch.datasets.tables import table

from .asking import Reader
from .prose import HasTokenizer, insert_at, prose_of
from .scoring import exact_match

# The wording of the passkey task as the field has it (Mohtashami and Jaggi, arXiv 2305.16300).
PASSKEY = "The pass key is {value}. Remember it. {value} is the pass key."
PASSKEY_QUESTION = "What is the pass key?"
PAIR_QUESTION = "What is the value of {key}?"
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
    text, value = document_with_passkey(reader.model, rng, texts, length, depth, count)
    answer = reader.answers_to(text, [PASSKEY_QUESTION], max_tokens=count + 8)
    return exact_match(answer[0], [value])


def document_with_passkey(
    model: HasTokenizer, rng: Random, texts: Sequence[str], length: int, depth: float, count: int
) -> tuple[str, str]:
    """Prose of `length` tokens with a passkey of `count` digits at a depth (0 to 1), and the passkey."""
    value = digits(rng, count)
    statement = PASSKEY.format(value=value)
    prose = prose_of(model, rng, texts, length - len(model.tokenizer.encode(statement)))
    return insert_at(prose, [(depth, statement)]), value


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
            text, values = list_of_pairs(rng, names, count)
            chosen = list(values)[:: max(1, count // asked)][:asked]
            answers = reader.answers_to(text, [PAIR_QUESTION.format(key=key) for key in chosen], max_tokens=12)
            right += sum(exact_match(answer, [values[key]]) for key, answer in zip(chosen, answers, strict=True))
            total += len(chosen)
        rows.append({"pairs": count, "exact": right / total, "questions": total})
        report(rows[-1])
    return rows


def list_of_pairs(rng: Random, names: Sequence[str], count: int) -> tuple[str, dict[str, str]]:
    """A list of `name: five digits`, and its pairs."""
    values = {key: digits(rng, 5) for key in rng.sample(list(names), count)}
    return "\n".join(f"{key}: {value}" for key, value in values.items()) + "\n", values


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
                text, pairs = document_with_needles(reader.model, rng, texts, length, count)
                answers = reader.answers_to(text, [question for question, _ in pairs], max_tokens=12)
                found = [exact_match(a, [value]) for a, (_, value) in zip(answers, pairs, strict=True)]
                right, whole = right + sum(found), whole + all(found)
            row = {"needles": count, "length": length, "exact": right / (count * documents)}
            rows.append(row | {"all_exact": whole / documents, "documents": documents})
            report(rows[-1])
    return rows


def document_with_needles(
    model: HasTokenizer,
    rng: Random,
    texts: Sequence[str],
    length: int,
    count: int,
    *,
    digit_count: int = 5,
    depths: Sequence[float] | None = None,
) -> tuple[str, list[tuple[str, str]]]:
    """Prose of about `length` tokens with pass keys of different colours, and a (question, value) for each.

    Args:
        count: of pass keys, len(COLOURS) at most.
        depths: of each, 0 to 1; by default at random.
    """
    values = {colour: digits(rng, digit_count) for colour in rng.sample(COLOURS, count)}
    places = [rng.random() for _ in values] if depths is None else depths
    needles = [
        (place, f"The {colour} pass key is {value}.")
        for place, (colour, value) in zip(places, values.items(), strict=True)
    ]
    prose = prose_of(model, rng, texts, length - (digit_count + 9) * count)
    return insert_at(prose, needles), [(f"What is the {colour} pass key?", value) for colour, value in values.items()]
