"""Write docs/benchmarks.md, docs/methods-results.md and the figures of README.md from the records.

python -m bench.report.page
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.places import EMBEDDED, RESULTS, ROOT, of_embedded
from bench.report.machines import AMX, KINDS, compared
from bench.report.models import (
    comparison_lines,
    conditions_line,
    percent,
    quality_lines,
    threads_of,
    training_speed_lines,
    without_others,
)
from bench.report.sections.architectures import architecture_lines
from bench.report.sections.choice import choice_lines
from bench.report.sections.codecs import codec_lines, codec_speed_lines
from bench.report.sections.confidence import confidence_lines
from bench.report.sections.dropping import dropping_lines
from bench.report.sections.first_token import first_token_lines
from bench.report.sections.light import light_lines
from bench.report.sections.many import many_lines
from bench.report.sections.methods import methods_page
from bench.report.sections.ordinary import ordinary_lines, ordinary_rows
from bench.report.sections.others import others_lines
from bench.report.sections.probe import probe_lines
from bench.report.sections.reading import policy_lines, reading_lines, right_of, table, text_rows
from bench.report.summary import goal_lines, summary_lines

WIDTH = 116
MARKS = re.compile(r"(<!-- (figures|training|size|reading|architectures) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def record(name: str) -> dict[str, Any]:
    """A record of bench/results by name."""
    return json.loads((RESULTS / f"{name}.json").read_text())  # type: ignore[no-any-return]


def known(name: str) -> dict[str, Any] | None:
    """A record by name, where there is one."""
    return record(name) if (RESULTS / f"{name}.json").exists() else None


def embedded(what: str) -> dict[str, Any]:
    """A record about the embedded model."""
    return record(of_embedded(what).stem)


def peers() -> dict[str, dict[str, Any]]:
    """The records beside other programs that there are, by name."""
    return {name: found for name in KINDS if (found := known(name)) is not None}


def as_read() -> dict[str, Any]:
    """What `gf eval` found of the embedded model, read as gf reads by default."""
    found = embedded("reading")
    return found["read"]["auto"] | {"conditions": found["conditions"]}  # type: ignore[no-any-return]


def benchmarks_page() -> str:
    """docs/benchmarks.md."""
    quality = as_read()
    lines = ["# Benchmarks", "", "Generated from `bench/results/` by `python -m bench.report.page`; do not edit.", ""]
    lines += [*summary_lines(figures_rows(), embedded("cite"), peers()), ""]
    lines += goal_lines(peers())
    lines += ["## Embedded model: planted facts", "", conditions_line(quality["conditions"]), ""]
    lines += ["Five facts per document of held-out encyclopedia text, unseen names and phrasings; exact match.", ""]
    lines += [
        '"Value first": the value stands before its subject or attribute ("48213 is the code of '
        'Harwick"); a GOLD key is made from',
        "what came before it, so nothing at the value can say what it is the value of.",
        "",
        "| document tokens | 5-digit values | values of 2 to 7 digits, some with letters | 5-digit "
        "values in lines of 80 characters "
        "| 5-digit values, value first |",
        "|---|---|---|---|---|",
    ]
    for row in quality["facts"]:
        five = f"{percent(row['exact'])} of {row['questions']}"
        mixed = f"{percent(row['exact_mixed'])} of {row['questions_mixed']}"
        broken = f"{percent(row['exact_wrapped'])} of {row['questions_wrapped']}"
        first = f"{percent(row['exact_value_first'])} of {row['questions_value_first']}"
        lines.append(f"| {row['length']:,} | {five} | {mixed} | {broken} | {first} |")
    lines += quality_lines(quality)
    lines += ["", *reading_lines(embedded("reading"))]
    lines += policy_lines(embedded("policies"))
    lines += ordinary_lines(quality)
    if (RESULTS / of_embedded("choice").name).exists():
        lines += choice_lines(embedded("choice"))
    lines += confidence_lines(embedded("confidence"))
    lines += many_lines(embedded("many"))
    lines += codec_lines(embedded("codecs"))
    lines += codec_speed_lines(known("codec-speed"))
    lines += dropping_lines(embedded("dropping"))
    lines += probe_lines(known("probe"))
    lines += others_lines(*map(known, ("foreign", "pair-codecs", "blocks-answers", "blocks-speed")))
    lines += ["## Prefill against length", ""]
    for name in ("flatness", "flatness-12x768"):
        lines += flatness_lines(record(name))
    lines += ask_section()
    lines += first_token_lines(record("first-token"))
    lines += light_lines(known("light"))
    lines += comparison_lines(record("compare")["models"])
    lines += training_speed_lines(record("training-speed"))
    lines += library_sections()
    lines += peers_section()
    return "\n".join(filled(lines))


def filled(lines: Iterable[str]) -> Iterator[str]:
    """Paragraphs in lines of at most WIDTH characters; headings, tables and pictures stay as they are."""
    paragraph: list[str] = []
    for line in (*lines, ""):
        if line and line[0] not in "|#!":
            paragraph.append(line)
            continue
        yield from textwrap.wrap(" ".join(paragraph), WIDTH, break_long_words=False, break_on_hyphens=False)
        paragraph = []
        yield line


def flatness_lines(flat: dict[str, Any]) -> list[str]:
    """One record of prefill speed and memory against length."""
    lines = [conditions_line(flat["conditions"]) + ".", ""]
    lines += [
        f"Medians of {flat['repeats']} repeats (minimum to maximum), lengths interleaved"
        f"{without_others(flat['conditions'])}; memory in a process of its own.",
        "",
        "| tokens | tok/s | peak memory grew by | token ids and compressed keys in memory |",
        "|---|---|---|---|",
    ]
    for row in flat["rows"]:
        rate, grew = row["tok_s"], row["peak_bytes"] - row["resident_bytes_before"]
        span = f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})"
        lines.append(f"| {row['tokens']:,} | {span} | {grew / 1e6:.1f} MB | {row['cache_bytes'] / 1e6:.1f} MB |")
    first, last = flat["rows"][0]["tok_s"]["median"], flat["rows"][-1]["tok_s"]["median"]
    return [*lines, "", f"Longest against shortest: {last / first:.3f}.", ""]


def ask_section() -> list[str]:
    """The first token, with keys and values kept or rebuilt."""
    lines = ["## First token from a file: keys and values kept, or rebuilt and thrown away", ""]
    lines += [
        "`gf bench ask`: open, check, rebuild, a question of 32 tokens; medians (minimum to maximum), "
        "interleaved. This is one pass over",
        "the document, in which keeping has the least to offer; every further question or token reads what is kept.",
        "",
        "| model | tokens | kept, ms | rebuilt, ms | rebuilt / kept |",
        "|---|---|---|---|---|",
    ]
    for name in ("ask-gf-mini", "ask-12x768"):
        found = record(name)
        shape = found["conditions"]["shape"]
        for row in found["rows"]:
            kept, rebuilt = row["first_token_ms"], row["first_token_rebuilt_ms"]
            ratio = rebuilt["median"] / kept["median"]
            lines.append(
                f"| {shape}, {found['conditions']['numerics']['compute_dtype']} | {row['tokens']:,} "
                f"| {_milliseconds(kept)} | {_milliseconds(rebuilt)} | {ratio:.2f} |"
            )
    conditions = [conditions_line(record(name)["conditions"]) for name in ("ask-gf-mini", "ask-12x768")]
    return [*lines, "", *(line + "." for line in conditions), ""]


def _milliseconds(values: dict[str, float]) -> str:
    return f"{values['median']:,.1f} ({values['min']:,.1f} to {values['max']:,.1f})"


PLOT_LINES = [
    f"![{title}](plots/{file}.png)"
    for title, file in (
        ("prefill speed against length", "prefill-speed"),
        (
            "memory of prefill against length (llama.cpp allocates it all at its start and is not drawn)",
            "prefill-memory",
        ),
        ("size of the saved cache against length", "file-size"),
        ("decode speed after documents of growing length", "decode-speed"),
    )
]


def library_sections() -> list[str]:
    """Citations, batches and questions, from the records of citations, batches and questions."""
    cited, batch = embedded("cite"), record("batch")
    lines = ["", "## Lines cited for planted facts", "", conditions_line(cited["conditions"]), ""]
    lines += [
        f"Held-out encyclopedia text in lines of at most {cited['line_characters']} characters, five "
        "facts per document; the line with the fact is",
        "among the places that `gf ask --cite` names, or among the three single lines that were read most.",
        "",
        "| document tokens | questions | first place | its line read most | first three places | three single lines | "
        "first three, when answered exactly |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in cited["rows"]:
        names = ("first", "line", "among_first_three", "among_three_single_lines", "among_first_three_when_right")
        shares = " | ".join(percent(row[name]) for name in names)
        lines.append(f"| {row['length']:,} | {row['questions']} | {shares} |")
    lines += [
        "",
        "Cells of tables with unseen headings and names: the row of the cell is",
        "",
        "| rows | questions | in the first place | its line read most | the same, when answered exactly |",
        "|---|---|---|---|---|",
    ]
    for row in cited["tables"]:
        shares = " | ".join(percent(row[name]) for name in ("first", "line", "line_when_right"))
        lines.append(f"| {row['rows']} | {row['questions']} | {shares} |")
    lines += [
        "",
        f"## {batch['documents']} documents of {batch['tokens']} tokens",
        "",
        conditions_line(batch["conditions"]),
        "",
    ]
    lines += [f"Medians of {batch['repeats']} repeats (minimum to maximum), other work on the machine.", ""]
    lines += ["| one `gf prefill` against | times as fast, wall clock | CPU time |", "|---|---|---|"]
    for name, key in (
        ("a process per document (a few of them, scaled up)", "faster_than_a_process_each"),
        ("a plain loop in one process", "speed_of_the_loop"),
    ):
        wall, busy = _range(batch[key]), _range(batch[f"{key}_processor_time"])
        lines.append(f"| {name} | {wall} | {busy} |")
    asked = record("questions")
    lines += ["", "## Questions decoded together", "", conditions_line(asked["conditions"]), ""]
    lines += [
        f"One document of {asked['document_tokens']:,} tokens; `gf ask --questions` against the same "
        "questions one by one.",
        "",
    ]
    lines += ["| questions | tokens generated | equal answers | times as fast |", "|---|---|---|---|"]
    for row in asked["rows"]:
        cells = (row["questions"], row["tokens_generated"], row["equal_answers"], _range(row["times_as_fast"]))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _range(row: dict[str, float]) -> str:
    return f"{row['median']:,.2f} ({row['min']:,.2f} to {row['max']:,.2f})"


def peers_section() -> list[str]:
    """gf beside other programs, from the records peers*.json."""
    lines = ["", "## Beside other programs", "", *PLOT_LINES]
    for name, found in peers().items():
        versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items() if version != "absent")
        lines += [
            "",
            f"### {found['shape']}, vocabulary {found.get('vocabulary', 65_536):,}, random weights, on a processor "
            f"{KINDS[name].name}",
            "",
        ]
        lines += [conditions_line(found["conditions"]) + "; " + versions + ".", ""]
        lines += [
            f"Same layers and width, {threads_of(found['conditions'])}, programs interleaved, medians (minimum to "
            f"maximum){without_others(found['conditions'])}; freed memory goes back to the system between "
            "measurements, as for a process that reads one document. First token: read the file, run a question of 32 "
            "tokens, model loaded. Ratios are those of the medians to gf's of the same precision.",
            "",
            "| tokens | program | repeats | prefill tok/s | gf is faster by | file | first token ms | decode tok/s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in found["rows"]:
            lines.append(_peer_line(row, found["rows"]))
        for remark in found.get("remarks", ()):
            lines += ["", remark[0].upper() + remark[1:] + "."]
        for name, reason in found["absent"].items():
            lines += ["", f"Left out: {name} ({reason})."]
    return lines


def _peer_line(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    own = "gf float32" if "float32" in row["peer"] else "gf bfloat16"
    ours = [r for r in rows if r["peer"] == own and r["tokens"] == row["tokens"]]
    ratio = "" if row["peer"] == own or not ours else _ratio(ours[0], row)
    cells = [f"{row['tokens']:,}", row["peer"], str(row["repeats"]), _span(row, "prefill_tok_s", 0), ratio]
    size = f"{row['file_bytes']['median'] / 1e6:,.2f} MB" if "file_bytes" in row else ""
    cells += [size, _span(row, "first_token_ms", 0), _span(row, "decode_tok_s", 1)]
    return "| " + " | ".join(cells) + " |"


def _ratio(ours: dict[str, Any], row: dict[str, Any]) -> str:
    return f"{ours['prefill_tok_s']['median'] / row['prefill_tok_s']['median']:.2f}"


def _span(row: dict[str, Any], name: str, digits: int) -> str:
    if name not in row:
        return ""
    low, middle, high = (row[name][k] for k in ("min", "median", "max"))
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


README = ROOT / "README.md"
CONCEPTS = ROOT / "docs" / "concepts.md"
MODELS = ROOT / "docs" / "models.md"
MODEL_CARD = EMBEDDED / "MODEL_CARD.md"


def with_figures(page: Path) -> str:
    """A page with the text between its marks renewed, as far as it has them."""
    made = {
        "figures": figures_table, "training": training_line, "size": size_line, "reading": reading_table,
        "architectures": architectures_table,
    }  # fmt: skip
    return MARKS.sub(lambda m: m.group(1) + made[m.group(2)]() + "\n" + m.group(3), page.read_text())


def architectures_table() -> str:
    """What the self-check finds in each architecture of others."""
    return "\n".join(architecture_lines(record("architectures")))


def figures_table() -> str:
    """What the embedded model answers exactly, as a table."""
    head = ["| asked for, in text it never saw | right |", "|---|---|"]
    return "\n".join([*head, *(f"| {what} | {share} |" for what, share in figures_rows())])


def figures_rows() -> list[tuple[str, str]]:
    """What the embedded model answers exactly as it reads by default, in a few rows."""
    quality = as_read()
    facts = next(row for row in quality["facts"] if row["length"] == 4000)
    planted, articles = (
        percent(facts["exact"]),
        [r["exact"] for r in quality["articles"] if r["length"] in (2000, 8000)],
    )
    q, samples = quality["questions"], quality["samples"]
    asked = sum(r["questions"] for r in samples)
    shortest, longest = (f(r["tokens"] for r in samples) for f in (min, max))

    def shares(values: Iterable[float]) -> str:
        return ", ".join(percent(value) for value in values)

    tables = " / ".join(str(row["rows"]) for row in quality["tables"])
    return [
        *ordinary_rows(quality),
        (
            "a 5-digit fact planted in 4,000 tokens; its value first",
            f"{planted}; {percent(facts['exact_value_first'])}",
        ),
        (f"a cell of a table with {tables} rows", shares(row["exact"] for row in quality["tables"])),
        ("an encyclopedia passage; 2,000 / 8,000 tokens", f"{percent(q['exact'])}; {shares(articles)}"),
        (f"a whole document of {shortest:,} to {longest:,} tokens", f"{right_of(quality)} of {asked}"),
    ]


def reading_table() -> str:
    """Questions about text with the whole document read, and with the best block."""
    read = embedded("reading")["read"]
    return "\n".join(table(text_rows(read["all"], read["auto"])))


def training_line() -> str:
    """How long the embedded model was trained."""
    runs = record("training-gf-mini")["runs"]
    tokens, hours = sum(run["tokens"] for run in runs) / 1e6, sum(run["seconds"] for run in runs) / 3600
    return f"Training: {len(runs)} runs, {tokens:.0f} million tokens, {hours:.1f} hours on two CPU cores."


def size_line() -> str:
    """The size of a cache file beside that of the smallest Llama state."""
    tokens = 8192
    found = compared(record(AMX.record)["rows"], "file_bytes", AMX.ours, tokens, AMX.llamas[1:])
    assert found is not None
    return (
        f"A file of {tokens:,} tokens is {found[0]:.0f} times smaller than what llama.cpp saves for a "
        "Llama of the same shape\n"
        "(12 x 768, bf16); the longer the document, the larger the ratio."
    )


def main() -> None:
    """Write all pages."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    (ROOT / "docs" / "benchmarks.md").write_text(benchmarks_page())
    (ROOT / "docs" / "methods-results.md").write_text(methods_page(record("methods")))
    for page in (README, MODEL_CARD, CONCEPTS, MODELS):
        page.write_text(with_figures(page))


if __name__ == "__main__":
    main()
