"""gf bench: how fast this machine is at what gf does. Medians of repeats, after a check that it computes rightly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gfcli.support.console import console
from gfcli.support.options import DeviceOption, DtypeOption, ModelOption, load_ours
from gfcli.support.outputs import checked_output, write_record
from gfcli.support.values import parse_lengths, show_bytes
from goldfinch.jobs.sources import find_sources

RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, metavar="N", help="Repeats per figure.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the record as one JSON object.")]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write the record to a file.", callback=checked_output),
]
LengthsOption = Annotated[str, typer.Option("--lengths", metavar="N,N,...", help="Document lengths in tokens.")]
# Takes a function that gets each row as it is done; gives the record.
_Measure = Callable[[Callable[[dict[str, Any]], None]], dict[str, Any]]


def prefill(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    lengths: LengthsOption = "512,2048,8192",
    repeats: RepeatsOption = 5,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Measure prefill speed by document length.

    Shows tokens per second, and their share of what the matrix products alone would reach.

    Examples:
      gf bench prefill --lengths 256 --repeats 1
      gf bench prefill --dtype bfloat16 --lengths 4096,65536
      gf bench prefill -m my-model --json -o prefill.json
    """
    from goldfinch.measure.speed import measure_prefill

    wanted = parse_lengths(lengths, "--lengths")
    loaded = load_ours(model, device, dtype)
    _measured(lambda report: measure_prefill(loaded, wanted, repeats, report), _prefill_row, as_json, output)


def ask(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    lengths: LengthsOption = "512,2048,8192",
    repeats: RepeatsOption = 5,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Measure the first token and decoding.

    With the model loaded: time from opening the file to the first token (check, rebuild, question), then tokens per
    second.

    Examples:
      gf bench ask --lengths 256 --repeats 1
      gf bench ask --dtype bfloat16 --json
    """
    from goldfinch.measure.speed import measure_ask

    wanted = parse_lengths(lengths, "--lengths")
    loaded = load_ours(model, device, dtype)
    _measured(lambda report: measure_ask(loaded, wanted, repeats, report=report), _ask_row, as_json, output)


def load_(
    model: ModelOption = None, repeats: RepeatsOption = 5, as_json: JsonOption = False, output: OutputOption = None
) -> None:
    """Measure start-up.

    Shows the seconds from the start of the process to torch, to a loaded model, and to the help text.

    Examples:
      gf bench load --repeats 1
      gf bench load -m my-model --json
    """
    from goldfinch.measure.speed import measure_load

    loaded = load_ours(model, "cpu", None)
    _measured(lambda report: measure_load(loaded, repeats, report), _load_row, as_json, output)


def kernels(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    repeats: RepeatsOption = 10,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Measure each kernel backend.

    Shows microseconds per token of the recurrent layers and of WKV6, with each backend that runs here.

    Examples:
      gf bench kernels --repeats 1
      gf bench kernels --dtype bfloat16 --json
    """
    from goldfinch.measure.speed import measure_kernels

    loaded = load_ours(model, device, dtype)
    _measured(lambda report: measure_kernels(loaded, repeats, report), _kernel_row, as_json, output)


def codecs(
    documents: Annotated[
        list[str], typer.Argument(metavar="DOCUMENT...", help="Text files or quoted patterns; with -r, folders.")
    ],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="Read text files in folders, too.")] = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
    output: OutputOption = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw bytes against error.", callback=checked_output),
    ] = None,
) -> None:
    """Measure what codecs save and cost.

    Pre-fills your documents and shows, for each codec of --codec and --state-codec and for both together: bits per
    value of the compressed keys, the share of the state's bytes that is left, the file against one without codecs,
    and how far the predictions of the next token diverge (KL, in nats) behind passages of the document and behind
    general questions. All are means over the documents. --plot needs matplotlib (pip install 'goldfinch-gf[plots]').

    Examples:
      gf bench codecs doc.txt
      gf bench codecs -r docs/ --plot codecs.png -o codecs.json
    """
    sources = find_sources(documents, recursive, None, False)
    for remark in sources.remarks:
        console.warn(remark)
    from goldfinch.measure.codec_plot import check_can_plot, draw
    from goldfinch.measure.codec_rates import measure_codecs
    from goldfinch.text.prompt import document_token_ids

    if plot is not None:
        check_can_plot()
    loaded = load_ours(model, device, dtype)
    read = [(source.name, *document_token_ids(loaded, source.read().text)) for source in sources.documents]

    def measure(report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        record = measure_codecs(loaded, read, report=_say_document)
        if not as_json:
            console.line(_CODEC_HEAD)
        for row in record["rows"]:
            report(row)
        return record

    record = _measured(measure, _codec_row, as_json, output)
    if plot is not None:
        draw(record, plot)


def _measured(
    measure: _Measure, words: Callable[[dict[str, Any]], str], as_json: bool, output: Path | None
) -> dict[str, Any]:
    """Measure, print each row as it is done, or the record at the end, and write the record where asked."""

    def report(row: dict[str, Any]) -> None:
        if not as_json:
            console.line(words(row))

    record = measure(report)
    if as_json:
        console.json(record)
    if output is not None:
        write_record(output, json.dumps(record, indent=2))
    return record


def _span(values: dict[str, float], digits: int = 0) -> str:
    return f"{values['median']:,.{digits}f} ({values['min']:,.{digits}f} to {values['max']:,.{digits}f})"


def _prefill_row(row: dict[str, Any]) -> str:
    share = f"{row['share_of_products']:.0%} of the matrix products alone"
    return f"{row['name']:<10} {_span(row['tok_s'])} tok/s, {share}"


def _ask_row(row: dict[str, Any]) -> str:
    return (
        f"{row['name']:<14} first token {_span(row['first_token_ms'], 1)} ms (open {row['open_ms']['median']:.1f}; "
        f"{row['first_token_rebuilt_ms']['median']:.1f} without keeping keys and values), "
        f"decode {_span(row['decode_tok_s'])} tok/s, file {row['file_bytes']:,} bytes"
    )


def _load_row(row: dict[str, Any]) -> str:
    return f"{row['name']:<32} {_span(row['seconds'], 2)} s"


def _kernel_row(row: dict[str, Any]) -> str:
    return f"{row['name']:<15} {row['backend']:<7} {_span(row['us_per_token_layer'], 2)} us per token and layer"


_CODEC_HEAD = "KEYS           STATE   BITS  STATE   FILE       KL  LARGEST QUESTIONS"


def _say_document(row: dict[str, Any]) -> None:
    console.say(f"{row['name']}: {row['tokens']:,} tokens, {show_bytes(row['raw_bytes'])} without codecs")


def _codec_row(row: dict[str, Any]) -> str:
    shares = f"{row['bits_per_value']:>6.2f} {row['state_share']:>6.1%} {row['file_share']:>6.1%}"
    kl = f"{row['document_kl']:>8.5f} {row['document_max_kl']:>8.4f} {row['questions_kl']:>9.5f}"
    return f"{row['codec']:<14} {row['state_codec']:<5} {shares} {kl}"
