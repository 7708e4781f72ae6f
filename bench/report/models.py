"""The parts of docs/benchmarks.md about the quality of models and their training."""

from __future__ import annotations

import statistics
from typing import Any


def conditions_line(values: dict[str, Any]) -> str:
    """The conditions of a record in one sentence."""
    numerics = values["numerics"]
    return (
        f"{values['model']} ({values['shape']}), {numerics['compute_dtype']} on {numerics['device']} with "
        f"{threads_of(values)}, {processor_of(values)}, torch {values['torch']}, commit {values['commit']}"
    )


def threads_of(values: dict[str, Any]) -> str:
    """How many threads a record was made with."""
    threads = values["numerics"]["threads"]
    return f"{threads} thread{'' if threads == 1 else 's'}"


def processor_of(values: dict[str, Any]) -> str:
    """The processor of a record, and what it has for bf16, where that was noted."""
    features = values.get("processor_features")
    if features is None:
        return str(values["processor"])
    return f"{values['processor']} ({', '.join(features) or 'no instructions for bf16'})"


def without_others(values: dict[str, Any]) -> str:
    """What the times of a record leave out: since the same commit that notes the processor's features."""
    return ", time in which other programs had the CPUs left out" if "processor_features" in values else ""


def percent(share: float) -> str:
    """A share as per cent with one decimal."""
    return f"{100 * share:.1f} %"


def quality_lines(quality: dict[str, Any]) -> list[str]:
    """Questions, retrieval, perplexity and overlap of the embedded model."""
    return [*_question_lines(quality), *_retrieval_lines(quality), *_perplexity_lines(quality)]


def _question_lines(quality: dict[str, Any]) -> list[str]:
    q = quality["questions"]
    said = percent(q["absent_precision"])
    lines = ["", "## Embedded model: questions about passages of unseen articles", ""]
    lines += [f"{q['questions']} questions about {q['passages']} passages (SQuAD articles kept from training), and", ""]
    lines[-2] += f" {q['absent_questions']} that their passage does not answer."
    lines += [
        "| | exact match | F1 |",
        "|---|---|---|",
        f"| {quality['conditions']['model']} | {percent(q['exact'])} | {100 * q['f1']:.1f} |",
        f"| copying the sentence that shares most words | {percent(q['exact_copying'])} | "
        f"{100 * q['f1_copying']:.1f} |",
        "",
        f'"Not stated." was said to {percent(q["false_absent"])} of the answerable and '
        f"{percent(q['absent_recall'])} of the",
        f"unanswerable questions; where it was said it was right in {said} of cases.",
        "",
        "The first pages of whole articles kept from training, and questions from all of their paragraphs:",
        "",
        "| up to tokens | articles | questions | answered exactly | F1 | F1 of copying a sentence |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['length']:,} | {r['documents']} | {r['questions']} | {percent(r['exact'])} | {100 * r['f1']:.1f} "
            f"| {100 * r['f1_copying']:.1f} |"
            for r in quality["articles"]
        ),
        "",
        "Whole real documents, most of them far longer than any of the training, and checked questions about them:",
        "",
        "| document | tokens | questions | answered exactly | F1 |",
        "|---|---|---|---|---|",
        *(
            f"| {r['document']} | {r['tokens']:,} | {r['questions']} | "
            f"{round(r['exact'] * r['questions'])} | {100 * r['f1']:.1f} |"
            for r in quality["samples"]
        ),
    ]
    return lines


def _retrieval_lines(quality: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Embedded model: retrieval",
        "",
        "A passkey in held-out prose, in the words that training also used for passkeys; exact match "
        "over ten depths (four for",
        "64 digits):",
        "",
    ]
    lengths = sorted({row["length"] for row in quality["passkey"]})
    lines += ["| digits | " + " | ".join(f"{n:,} tokens" for n in lengths) + " |", "|---" * (len(lengths) + 1) + "|"]
    for digits in sorted({row["digits"] for row in quality["passkey"]}):
        shares = {row["length"]: row["exact"] for row in quality["passkey"] if row["digits"] == digits}
        lines.append(f"| {digits} | " + " | ".join(percent(shares[n]) for n in lengths) + " |")
    lines += ["", "![passkey by length and depth](plots/passkey.png)", ""]
    lines += ["| other retrieval | exact match |", "|---|---|"]
    lines += [f"| list of {r['pairs']} `name: number` | {percent(r['exact'])} |" for r in quality["pairs"]]
    lines += [
        f"| a cell of a table with {r['rows']} rows, unseen headings and ways of asking | {percent(r['exact'])} |"
        for r in quality["tables"]
    ]
    lines += [
        f"| what an invented word means, explained in {r['length']:,} tokens of prose | {percent(r['exact'])} |"
        for r in quality["definitions"]
    ]
    lines += [
        f"| {r['needles']} pass keys of different colours in {r['length']:,} tokens | {percent(r['exact'])} "
        f"({percent(r['all_exact'])} of the documents all right) |"
        for r in quality["needles"]
    ]
    return lines


def _perplexity_lines(quality: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Embedded model: training, perplexity and overlap",
        "",
        "![loss over the training](plots/training.png)",
        "",
    ]
    lines += ["| held-out text | tokens | perplexity | bits per byte |"]
    lines += ["|---|---|---|---|"]
    for name, row in quality["perplexity"].items():
        cells = [TEXTS[name], f"{row['tokens']:,}", f"{row['perplexity']:.1f}", f"{row['bits_per_byte']:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    placed = quality["positions"]
    lines += [
        "",
        "Loss by place in the four longest held-out documents (no rotary positions; trained on at "
        "most 4,096 tokens at a time):",
        "",
    ]
    lines += [
        "| up to token | " + " | ".join(f"{row['until']:,}" for row in placed) + " |",
        "|---" * (len(placed) + 1) + "|",
    ]
    lines += ["| nats per token | " + " | ".join(f"{row['loss']:.2f}" for row in placed) + " |"]
    lines += [
        "",
        "What the evaluation reads against all that training read (texts, passages, documents with "
        "questions), by runs of 13 words;",
        "an article with questions that is also one of the training texts is not asked about:",
        "",
        "| held out | documents | runs that training holds too | documents with one | documents with more than half |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {row['documents']:,} | {percent(row['shared_runs'])} | {percent(row['touched_documents'])} "
            f"| {percent(row['copied_documents'])} |"
            for name, row in quality["overlap"].items()
        ),
        "",
        *saving_lines(quality),
    ]
    return lines


def saving_lines(quality: dict[str, Any]) -> list[str]:
    """How many answers differed once the cache had been saved, where that was tried (`gf eval --through-file`)."""
    through = quality.get("through_file")
    if through is None:
        return []
    said = f"Every cache was also saved, opened again and asked: of {through['answers']:,} answers "
    return [f"{said}{through['differences']} differed.", ""]


TEXTS = {
    "encyclopedia": "encyclopedia",
    "books": "novels (chapters 1 to 3 of Treasure Island, a fragment of another)",
}
NAMES = {
    "goldfinch": "GoldFinch",
    "goldfinch_rope": "GoldFinch with rotary positions",
    "gptalpha": "GPTAlpha",
    "finch_c2": "Finch-C2",
    "llama": "Llama",
    "finch": "Finch",
}


def _over_seeds(values: list[float], form: str) -> str:
    """The mean, and where there are several what each seed has."""
    each = f" ({', '.join(map(form.format, values))})" if len(values) > 1 else ""
    return form.format(statistics.mean(values)) + each


def _encyclopedia(row: dict[str, Any]) -> float:
    return float(row["perplexity"]["encyclopedia"]["loss"])


def _facts(row: dict[str, Any]) -> float:
    return statistics.mean(found["exact"] for found in row["facts"] if found["length"] <= 1000)


def _trained(models: list[dict[str, Any]], tokens: int) -> str:
    """In what precision, where and by which code the models of so many tokens were trained."""
    rows = [row for row in models if row["tokens"] == tokens]
    # Rows in which none is noted were trained as bench/compare.toml says.
    precisions = sorted({row.get("precision", "bfloat16") for row in rows})
    places = sorted({processor_of(row["conditions"]) for row in rows})
    commits = sorted({row["conditions"]["commit"] for row in rows})
    return f"Trained in {' and '.join(precisions)} on {' and '.join(places)}, commit {', '.join(commits)}"


def comparison_lines(models: list[dict[str, Any]]) -> list[str]:
    """Architectures and rotary positions on the same training tokens."""
    lines = ["", "## Other architectures and positions on the same tokens", ""]
    lines += [
        "`python -m bench.quality.compare_models`: one recipe, one tokenizer, the same batches for "
        "all. Means over the seeds, each seed in",
        "brackets, sorted by the loss on held-out encyclopedia text; the order of losses in the "
        "paper's table 4 is GoldFinch <",
        "GPTAlpha < Finch-C2 < Llama < Finch. Answers are about passages of unseen articles, facts "
        "are in 250 to 1,000 tokens, within",
        "the trained lengths. An eighth of the training tokens is padding, alike for all. Looking "
        "facts up is learned suddenly, at a",
        "moment that differs between seeds: a seed at 0 % had not reached it within these tokens.",
        "The runs of a few million tokens compare losses only: they are asked fewer questions.",
    ]
    for tokens in sorted({row["tokens"] for row in models}, reverse=True):
        held_out = next(row["perplexity"] for row in models if row["tokens"] == tokens)
        read = " and ".join(f"{held_out[name]['tokens']:,} tokens of {name}" for name in ("encyclopedia", "books"))
        lines += ["", f"{tokens / 1e6:.2g} M training tokens; losses over {read}. {_trained(models, tokens)}:", ""]
        lines += ["| model | optimiser | parameters | seeds | loss, encyclopedia | loss, books | answers F1 | facts |"]
        lines += ["|---" * 8 + "|"]
        alike: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
        for row in sorted(models, key=lambda row: row["seed"]):
            if row["tokens"] == tokens:
                alike.setdefault((row["kind"], row["optimizer"], row["parameters"]), []).append(row)
        for key, rows in sorted(alike.items(), key=lambda item: statistics.mean(map(_encyclopedia, item[1]))):
            kind, optimizer, parameters = key
            cells = [NAMES[kind], optimizer, f"{parameters / 1e6:.2f} M", ", ".join(str(row["seed"]) for row in rows)]
            cells += [
                _over_seeds(list(map(_encyclopedia, rows)), "{:.3f}"),
                _over_seeds([row["perplexity"]["books"]["loss"] for row in rows], "{:.3f}"),
                _over_seeds([100 * row["questions"]["f1"] for row in rows], "{:.1f}"),
                _over_seeds([100 * _facts(row) for row in rows], "{:.1f} %"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    placed = [row for row in models if row["kind"] in ("goldfinch", "goldfinch_rope") and row["optimizer"] == "adamw"]
    ends = [r["until"] for r in placed[0]["positions"]["as trained"]]
    lines += ["", "Loss by place in long held-out documents, trained on sequences of at most 1,024 tokens:", ""]
    lines += ["| up to token | " + " | ".join(f"{end:,}" for end in ends) + " |", "|---" * (len(ends) + 1) + "|"]
    for row in placed:
        for way, found in row["positions"].items():
            name = f"{NAMES[row['kind']]}, {row['tokens'] / 1e6:.2g} M tokens, seed {row['seed']}"
            name += "" if way == "as trained" else f", {way}"
            lines.append(f"| {name} | " + " | ".join(f"{r['loss']:.3f}" for r in found) + " |")
    return lines


def training_speed_lines(speed: dict[str, Any]) -> list[str]:
    """Training steps on the CPU with WKV6 in C and in torch."""
    lines = [
        "",
        "Training steps with `gf train` on the CPU, forward and backward, WKV6 and its gradients in C against torch:",
        "",
    ]
    lines += [
        f"{conditions_line(speed['conditions'])}, trained in {speed['precision']}; medians of "
        f"{speed['repeats']} interleaved steps{without_others(speed['conditions'])}.",
        "",
    ]
    lines += ["| sequences x tokens | tok/s, C | tok/s, torch | ratio |", "|---|---|---|---|"]
    for row in speed["rows"]:
        cells = [
            f"{row[name]['median']:,.0f} ({row[name]['min']:,.0f} to {row[name]['max']:,.0f})"
            for name in ("native", "torch")
        ]
        lines.append(f"| {row['sequences']} x {row['tokens']:,} | {cells[0]} | {cells[1]} | {row['ratio']:.2f} |")
    return lines
