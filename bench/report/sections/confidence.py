"""The part of docs/benchmarks.md about confidence and "Not stated.", from bench.quality.confidence."""

from __future__ import annotations

from typing import Any

from bench.report.models import conditions_line, percent

# Of the thresholds, those that the table shows; the curve has all.
SHOWN = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NAMES = {"hybrid": "best block, words and likeness", "lexical": "best block, words", "all": "whole document"}


def confidence_lines(record: dict[str, Any]) -> list[str]:
    """The sections of docs/benchmarks.md."""
    policies = [name for name in NAMES if name in record]
    lines = ["## Embedded model: is the answer right?", "", conditions_line(record["conditions"]), ""]
    lengths = " and ".join(f"{n:,}" for n in record["lengths"])
    lines += [
        f"{record['questions']} questions about the first {lengths} tokens of "
        f"{record['articles']} articles that training never saw, {record['absent_questions']} of which the text does "
        'not answer ("Not stated." is right for these). `confidence` is a logistic function of the finding score and '
        "the logarithm of the answer's likelihood. AUC: how often a right answer has a higher one than a wrong one, by "
        "fits to the other articles; 50 % says nothing.",
        "",
        "| read | answers that are right | AUC | `confidence` |",
        "|---|---|---|---|",
    ]
    for name in policies:
        found = record[name]["confidence"]
        given = "null: it tells too little" if found["intercept"] is None else "given"
        lines.append(f"| {NAMES[name]} | {percent(record[name]['right'])} | {percent(found['auc'])} | {given} |")
    return [*lines, "", *_not_stated_lines(record, policies[0])]


def _not_stated_lines(record: dict[str, Any], policy: str) -> list[str]:
    lines = ["## Not stated", ""]
    lines += [
        f"The same questions, {NAMES[policy]}: what `--least-likelihood` X gains and costs. Recall: of the questions "
        'that the text does not answer, those that get "Not stated."; precision: how often that is right. Last, the '
        "answered questions that are answered exactly.",
        "",
        "| X | recall | precision | answered exactly |",
        "|---|---|---|---|",
    ]
    for row in record[policy]["not_stated"]:
        if row["least_likelihood"] in SHOWN:
            precision = "" if row["precision"] is None else percent(row["precision"])
            cells = [f"{row['least_likelihood']:.1f}", percent(row["recall"]), precision, percent(row["exact"])]
            lines.append("| " + " | ".join(cells) + " |")
    whole, chosen = record["all"]["not_stated"][0], {name: record[name].get("least_likelihood", 0.0) for name in NAMES}
    lines += [
        "",
        f"Reading the whole document, without a threshold: {percent(whole['recall'])} and "
        f"{percent(whole['precision'])}. gf follows the highest threshold of those measured that loses no right answer "
        "and is no worse than that in both, where there is one: "
        + ", ".join(
            f"{NAMES[name]} {x:.2f}" if x else f"{NAMES[name]} none" for name, x in chosen.items() if name != "all"
        )
        + ".",
    ]
    return [*lines, "", '![recall and precision of "Not stated."](plots/not-stated.png)', ""]
