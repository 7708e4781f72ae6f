"""gf bench methods: codecs, dropping and reading policies compared on equal terms; by formula, too."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfcli.support.console import console
from gfcli.support.exits import CommandError
from gfcli.support.options import DeviceOption, DtypeOption, QuietOption, load, model_card
from gfcli.support.outputs import check_folder, write_record
from gfcli.support.progress import ComparisonProgress
from gfcli.support.values import parse_lengths, parse_wait, show_bytes
from goldfinch.policies.named import WHOLE

if TYPE_CHECKING:
    from goldfinch.compare.run import Options
    from goldfinch.compare.summary import Summary
    from goldfinch.compare.tasks.material import Material

_LENGTHS, _ARITHMETIC_LENGTHS = "1k,4k", "8192,131072"
_MOST_LENGTH = 1 << 20
PAGE, ROWS = "index.html", "rows.jsonl"


def methods(
    arithmetic: Annotated[
        bool, typer.Option("--arithmetic", help="Bytes and operations by formula, also of shapes that nobody can run.")
    ] = False,
    models: Annotated[
        str | None, typer.Option("--models", metavar="NAME|DIR,...", help="Models; by default that of the settings.")
    ] = None,
    names: Annotated[
        str,
        typer.Option(
            "--methods",
            metavar="NAME,...",
            help="Methods beside the full cache: all, codec, dropping, reading, or names: step3+int8, h2o-0.25, "
            "read-lexical-2.",
        ),
    ] = "all",
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="NAME,...", help="Tasks: all, or names: needles-7, pairs, article, ...")
    ] = "all",
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths",
            metavar="N,N,...",
            help=f"Document lengths in tokens; by default {_LENGTHS}, with --arithmetic {_ARITHMETIC_LENGTHS}.",
        ),
    ] = None,
    budget: Annotated[
        str,
        typer.Option("--budget", metavar="AGE", help="Time for all of it, like 30m or 8h; 0 for all it takes."),
    ] = "30m",
    questions: Annotated[
        int, typer.Option("--questions", min=1, max=100_000, metavar="N", help="Questions of a cell that are enough.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, max=1 << 32, metavar="N", help="Of the documents.")] = 0,
    data: Annotated[str | None, typer.Option("--data", metavar="DIR", help="Corpora; by default, GF_DATA_DIR.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR|FILE", help="Folder of the report; with --arithmetic, a file."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Compare methods by quality, bytes and time.

    Every model with every method: the full cache, codecs, policies that drop rows, policies that read a part. Each
    document is pre-filled once; each method makes its file of it, before any question is known, and answers the same
    questions from that file. The report is a page that needs nothing else (index.html), tables (cells.csv, costs.csv,
    table.txt) and the rows behind them (rows.jsonl), from which the same command goes on. --budget spreads the
    questions over all cells so that the time is kept; cells of fewer than 100 questions carry no conclusion. Without
    a data folder, tasks are made of a text of gf's own, and those that need more are left out. Needs the extra
    `compare`.

    --arithmetic measures nothing and loads no model: for each architecture, GoldFinch and its relatives at the sizes
    of the paper, Llama, Mistral, Mamba-2, RecurrentGemma and others at published ones, and for each codec and policy,
    the formula of a row, bytes per token, of the state and of the document, how many times smaller than keys and
    values of all layers in 16 bits that is, the ratio as the benchmark 2407.01527 counts it, and operations for each
    token of the document and of an answer.

    Examples:
      gf bench methods --arithmetic
      gf bench methods --arithmetic --lengths 32768 --json -o methods.json
      gf bench methods --methods int8,step3+int8,h2o-0.25 --tasks needles-7,facts --lengths 1k -o report/
      gf bench methods --models gf-mini-4,my-llama --lengths 1k,4k,8k --budget 30m -o report/
    """
    console.quiet = quiet
    wanted = parse_lengths(lengths or (_ARITHMETIC_LENGTHS if arithmetic else _LENGTHS), "--lengths")
    if arithmetic:
        if output is not None:
            check_folder(output)
        _by_formula(wanted, as_json, output)
        return
    folder = _checked_folder(output)
    if max(wanted) > _MOST_LENGTH:
        raise CommandError(f"--lengths has {max(wanted):,} tokens, allowed: up to {_MOST_LENGTH:,}")
    budget_s = parse_wait(budget, "--budget")
    cards = [model_card(name) for name in _parts(models, "--models")] if models else [model_card(None)]
    for card in cards:
        if card.tokenizer_file is None:
            raise CommandError(f"{card.name} has no tokenizer, so it cannot read text")
    from goldfinch.compare.methods import methods_of
    from goldfinch.compare.run import Options
    from goldfinch.compare.tasks.registry import tasks_of

    options = Options(
        methods_of(_parts(names, "--methods")), tasks_of(_parts(tasks, "--tasks")), sorted(set(wanted)), questions, seed
    )
    command = _command(models, names, tasks, options, budget, data, folder)
    with _held(folder):
        summary = _compared([str(card.path) for card in cards], options, budget_s, data, folder, device, dtype)
        _write(summary, command, folder)
    if as_json:
        from goldfinch.compare.report.record import record

        console.json(record(summary, command))
    else:
        from goldfinch.compare.report.tables import plain

        console.text(plain(summary))
        console.say(f"report: {folder / PAGE}")


def _parts(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise CommandError(f"{option} is {text!r:.80}, expected names with commas between them")
    return parts


def _checked_folder(output: Path | None) -> Path:
    """The folder of the report, which need not be there yet.

    Raises:
        CommandError: none, or one whose page is somebody else's.
    """
    if output is None:
        raise CommandError("a report needs a folder", hint="-o report/, or --arithmetic for formulas alone")
    if output.exists() and not output.is_dir():
        raise CommandError(f"-o is {output}, a file, expected a folder for the report", hint="-o report/")
    if (output / PAGE).exists() and not (output / ROWS).exists():
        raise CommandError(f"{output / PAGE} exists and is no report", hint="choose another folder with -o")
    return output


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Nobody else goes on with this report meanwhile."""
    from gfcache.files.locks import output_lock

    folder.mkdir(parents=True, exist_ok=True)
    with output_lock(folder / ROWS):
        yield


def _compared(
    places: list[str], options: Options, budget_s: float, data: str | None, folder: Path, device: str,
    dtype: str | None,
) -> Summary:  # fmt: skip
    from goldfinch.compare.rows import Rows
    from goldfinch.compare.run import compared
    from goldfinch.compare.summary import summary_of
    from goldfinch.library.opening import engine_of

    rows, openers = Rows(folder / ROWS), [partial(_engine, engine_of, place, device, dtype) for place in places]
    if not (folder / ROWS).exists():
        rows.add(())  # a page without rows beside it is taken for somebody else's
    for number, why in rows.passed_over:
        console.warn(f"{folder / ROWS}: line {number:,} is passed over: {why}")
    with ComparisonProgress() as progress:

        def tell(words: str, spent_s: float, total_s: float | None) -> None:
            console.kept = console.kept or spent_s > 0  # rows are in their file: the same command goes on
            progress.step(words, spent_s, total_s)

        found = compared(openers, options, _material(data), rows, budget_s or None, tell)
    return summary_of(found, options)


def _engine(engine_of: Callable[[Any], Any], place: str, device: str, dtype: str | None) -> Any:
    return engine_of(load(place, device, dtype, layout=WHOLE))


def _material(data: str | None) -> Material:
    from goldfinch.compare.tasks.material import Material
    from goldfinch.datasets.corpora import data_directory

    if data is None and not os.environ.get("GF_DATA_DIR"):
        console.say("no data folder (--data, GF_DATA_DIR): documents are made of a text of gf's own")
        return Material(None)
    return Material(data_directory(data))


def _command(
    models: str | None, names: str, tasks: str, options: Options, budget: str, data: str | None, folder: Path
) -> str:
    """The command that makes this report, as a user would type it."""
    words = ["gf", "bench", "methods", *(["--models", models] if models else []), "--methods", names, "--tasks", tasks]
    words += ["--lengths", ",".join(map(str, options.lengths)), "--questions", str(options.questions)]
    words += ["--seed", str(options.seed), "--budget", budget]
    words += [*(["--data", data] if data else []), "-o", str(folder)]
    return shlex.join(words)


def _write(summary: Summary, command: str, folder: Path) -> None:
    """The report: each file whole or not at all."""
    from goldfinch.compare.report.page import page
    from goldfinch.compare.report.tables import cells_csv, costs_csv, plain

    files = {"cells.csv": cells_csv(summary), "costs.csv": costs_csv(summary), "table.txt": plain(summary)}
    for name, text in {**files, PAGE: page(summary, command)}.items():
        write_record(folder / name, text.removesuffix("\n"))


def _by_formula(lengths: list[int], as_json: bool, output: Path | None) -> None:
    from goldfinch.compare.arithmetic import record

    found = record(lengths)
    if as_json:
        console.json(found)
    else:
        for tokens in lengths:
            console.lines([f"{tokens:,} tokens", _HEAD])
            console.lines([_row(row) for row in found["rows"] if row["tokens"] == tokens] + [""])
        console.lines(_FOOT)
    if output is not None:
        write_record(output, json.dumps(found, indent=2))


_HEAD = (
    f"{'ARCHITECTURE':<18} {'SHAPE':<9} {'METHOD':<26} {'BITS OF A ROW':<43} {'B/TOKEN':>9} {'STATE':>10} "
    f"{'TOTAL':>10} {'SMALLER':>8} {'PAPERS':>6} {'PREFILL':>8} {'DECODE':>8}"
)
_FOOT = [
    "n is the number of values of a row. SMALLER: than keys and values of all layers and their width in 16 bits, all",
    "included. PAPERS: the ratio as arXiv 2407.01527 counts it. PREFILL, DECODE: 10^9 operations for a token.",
    "STATE in 32 bits. Codes of the step codecs at their nominal rate; rows that GoldFinch stores beside those that a",
    "policy keeps, none to one for each, are left out. A question to a GoldFinch cache makes keys and values of its",
    "rows once: rebuild_operations of --json.",
]


def _row(row: dict[str, Any]) -> str:
    operations = [
        "-" if row[name] is None else f"{row[name] / 1e9:,.2f}" for name in ("prefill_operations", "decode_operations")
    ]
    sizes = f"{row['bytes_per_token']:>9,.1f} {show_bytes(row['state_bytes']):>10} {show_bytes(row['total_bytes']):>10}"
    names = f"{row['architecture']:<18} {row['shape']:<9} {row['method']:<26} {row['row_formula']:<43}"
    ratios = f"{row['ratio']:>8,.1f} {row['seed_ratio']:>6,.2f}"
    return f"{names} {sizes} {ratios} {operations[0]:>8} {operations[1]:>8}"
