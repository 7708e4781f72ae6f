"""gf bench: how fast this machine is at what gf does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gfcli.support.exits import CommandError
from gfcli.support.options import DeviceOption, DtypeOption, ModelOption, load
from gfcli.support.outputs import checked_output

bench_app = typer.Typer(
    help="Measure prefill, ask, start-up and kernels here; medians of repeats, after a correctness check.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
RepeatsOption = Annotated[int, typer.Option("--repeats", min=1, help="Repeats per figure.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The record as one JSON object on stdout.")]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write the record to a file.", callback=checked_output),
]
LengthsOption = Annotated[str, typer.Option("--lengths", metavar="N,N,...", help="Document lengths in tokens.")]


@bench_app.command("prefill")
def bench_prefill(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    lengths: LengthsOption = "512,2048,8192",
    repeats: RepeatsOption = 5,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Prefill tok/s by document length, and the share of what the matrix products alone would reach.

    Examples:

      gf bench prefill

      gf bench prefill --dtype bfloat16 --lengths 4096,65536

      gf bench prefill -m my-model --json -o prefill.json
    """
    from goldfinch.measure.speed import measure_prefill

    wanted = _parse_lengths(lengths)
    record = measure_prefill(load(model, device, dtype), wanted, repeats, _shower(as_json, _prefill_row))
    _finish(record, as_json, output)


@bench_app.command("ask")
def bench_ask(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    lengths: LengthsOption = "512,2048,8192",
    repeats: RepeatsOption = 5,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Time to the first token from a file with the model loaded (open, check, rebuild, question), and decode tok/s.

    Examples:

      gf bench ask

      gf bench ask --lengths 8192,65536 --repeats 3

      gf bench ask --dtype bfloat16 --json
    """
    from goldfinch.measure.speed import measure_ask

    wanted = _parse_lengths(lengths)
    record = measure_ask(load(model, device, dtype), wanted, repeats, report=_shower(as_json, _ask_row))
    _finish(record, as_json, output)


@bench_app.command("load")
def bench_load(
    model: ModelOption = None, repeats: RepeatsOption = 5, as_json: JsonOption = False, output: OutputOption = None
) -> None:
    """Seconds from process start to torch, to a loaded model, and to the help text.

    Examples:

      gf bench load

      gf bench load -m my-model

      gf bench load --repeats 10 --json
    """
    from goldfinch.measure.speed import measure_load

    record = measure_load(load(model, "cpu", None), repeats, _shower(as_json, _load_row))
    _finish(record, as_json, output)


@bench_app.command("kernels")
def bench_kernels(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    repeats: RepeatsOption = 10,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Microseconds per token of the recurrent layers and of WKV6, with each backend that runs here.

    Examples:

      gf bench kernels

      gf bench kernels --dtype bfloat16

      gf bench kernels -m my-model --json
    """
    from goldfinch.measure.speed import measure_kernels

    record = measure_kernels(load(model, device, dtype), repeats, _shower(as_json, _kernel_row))
    _finish(record, as_json, output)


def _parse_lengths(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise CommandError(f"--lengths is {text!r}, expected numbers of tokens like 512,2048")
    return [int(part) for part in parts]


def _shower(as_json: bool, words: Any) -> Any:
    return (lambda row: None) if as_json else (lambda row: print(words(row), flush=True))


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


def _finish(record: dict[str, Any], as_json: bool, output: Path | None) -> None:
    if as_json:
        print(json.dumps(record), flush=True)
    if output is not None:
        output.write_text(json.dumps(record, indent=2) + "\n")
