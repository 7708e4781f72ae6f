"""gf inspect: what a cache file holds, from its header alone. No torch."""

from __future__ import annotations

from typing import Annotated, Any

import gfcache
import typer

from gfcli.support.cache_files import are_several, files_named
from gfcli.support.console import console
from gfcli.support.exits import SOME_FAILED, CommandError, failed_json
from gfcli.support.targets import CACHES_HELP
from gfcli.support.values import show_bytes


class Objects:
    """One JSON object per file: each on a line of its own, or one object, or an array of several once all are there.

    Args:
        as_json: --json.
        jsonl: --jsonl.
        several: whether there are several files.
    """

    def __init__(self, as_json: bool, jsonl: bool, several: bool) -> None:
        if as_json and jsonl:
            raise CommandError("--json and --jsonl", hint="--jsonl prints one object per line, --json an array")
        self.are_wanted = as_json or jsonl
        self._rows: list[dict[str, Any]] | None = [] if as_json and several else None

    def put(self, row: dict[str, Any]) -> None:
        """The next object."""
        if self._rows is None:
            console.json(row)
        else:
            self._rows.append(row)

    def end(self) -> None:
        """Print the array, where there is one."""
        if self._rows is not None:
            console.json(self._rows)


def inspect(
    files: Annotated[list[str], typer.Argument(metavar="CACHE...", help=CACHES_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object, of several files an array.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per file, each on a line.")] = False,
) -> None:
    """Show what a cache file holds.

    Shows tokens, bytes per token and in total, the model and the sections, from the header alone.

    Examples:
      gf inspect doc.gfc
      gf inspect --jsonl 'caches/*.gfc'
      gf inspect doc.txt
    """
    failures = 0  # counted here: tally.Failures imports more than this command takes
    several, files = are_several(files), files_named(files)
    several = several or len(files) > 1
    objects = Objects(as_json, jsonl, several)
    for i, path in enumerate(files):
        try:
            summary = gfcache.inspect_cache(path)
        except (OSError, gfcache.CacheFormatError) as error:
            if objects.are_wanted:
                objects.put(failed_json(path, error))
            if not several:
                raise
            failures += 1
            if not objects.are_wanted:
                console.error(error)
            continue
        if objects.are_wanted:
            objects.put(summary)
        else:
            console.lines(([""] if i else []) + _lines(summary))
    objects.end()
    if failures:
        raise typer.Exit(SOME_FAILED)


def _checkpoints(s: dict[str, Any]) -> str:
    if not s["checkpoints"]:
        return "none"
    share = s["checkpoint_bytes"] / s["bytes_total"]
    return f"{len(s['checkpoints'])}, {show_bytes(s['checkpoint_bytes'])} ({share:.0%} of the file)"


def _dropped(s: dict[str, Any]) -> str:
    """What is left of the rows: as papers count it, and as the file has it."""
    kept, share = s["kept"], s["kept"]["rows"] / s["tokens"]
    who = f" by {kept['policy']}" if kept["policy"] else ""
    beside = f"{kept['sets']:,} heads of layers, each with rows of its own"
    if kept["runs"] is not None:
        beside = f"{kept['runs']:,} runs, {kept['stored_rows']:,} rows with those before them"
    return f"{kept['rows']:,} of {s['tokens']:,} rows kept{who} ({1 / share:.1f} times fewer); {beside}"


def _cost(receipt: dict[str, Any], where: str) -> str:
    """What the codecs cost, as the file itself says."""
    d, drawn = receipt[where], f" drawn with seed {receipt['seed']}" if where == "document" else ""
    kl = f"KL {d['mean_kl']:.5f} nats on average, {d['max_kl']:.4f} at most"
    what = "passages of the document" if where == "document" else "general questions"
    return f"{kl}; {d['flips']} of {d['positions']} most likely tokens changed (behind {what}{drawn})"


def _lines(s: dict[str, Any]) -> list[str]:
    source = s["source"] or {}
    size = "size unknown" if source.get("bytes") is None else f"{source['bytes']:,} bytes"
    numerics, model = s["numerics"], s["model"]
    read_as = f" as {source['encoding']}" if source.get("encoding") else ""
    read_as += f", {source['prepared']}" if source.get("prepared") else ""
    rows = [
        ("file", f"{s['path']}  (.gfc version {s['format_version']}, {show_bytes(s['bytes_total'])})"),
        ("source", f"{source.get('name') or 'unknown'}  ({size}, read {s['created_at']}{read_as})"),
        ("tokens", f"{s['tokens']:,}"),
        ("per token", f"{s['bytes_per_token']:,.2f} bytes"),
        ("fixed part", f"{s['fixed_bytes']:,} bytes (recurrent state, tail, header, checkpoints)"),
        ("checkpoints", _checkpoints(s)),
        (
            "against Llama",
            f"{s['ratio_per_token']:,.0f} times smaller per token, {s['ratio_total']:,.1f} times with the fixed part "
            f"({s['llama_bytes_per_token']:,} bytes per token in 16 bits, same layers and width)",
        ),
        ("model", f"{model['name']} ({model['model_type']}), prefill {model['prefill_fingerprint'][:16]}"),
        ("tokenizer", (s["tokenizer"]["fingerprint"] or "none")[:16]),
        ("computed in", f"{numerics.get('compute_dtype')} on {numerics.get('device')}, {numerics.get('library')}"),
    ]  # fmt: skip
    rows_of = "keys and values" if any(one["kind"] == "kv_keys" for one in s["sections"]) else "compressed_k"
    rounded = ((rows_of, numerics.get("rows_codec")), ("state", numerics.get("state_codec")))
    if any(codec for _, codec in rounded):
        rows.append(("rounded", ", ".join(f"{what} by {codec}" for what, codec in rounded if codec)))
    if numerics.get("rows_basis"):
        rows.append(
            ("basis", f"{numerics['rows_basis'][:16]}, which lies beside the model; without it, nothing is read")
        )
    if s["kept"] is not None:
        rows.append(("dropped", _dropped(s)))
    if s["error_receipt"] is not None:
        rows += [("cost", _cost(s["error_receipt"], name)) for name in ("document", "questions")]
    if s["blocks"] is not None:
        lent = f"; {s['blocks_lent']:,} of them in other files" if s["blocks_lent"] else ""
        blocks = f"{s['blocks']:,} blocks that are blind to each other, that of the prompt included{lent}"
        rows.insert(3, ("layout", blocks))
    if s["parent"] is not None:
        continued = f"the first {s['parent']['tokens']:,} tokens of {s['parent']['path']}, {s['parent']['digest'][:16]}"
        rows.insert(2, ("continues", continued))
    lines = [f"{name:<14} {value}" for name, value in rows]
    lines += ["", f"{'section':<22} {'dtype':<5} {'shape':<18} {'codec':<5} {'raw bytes':>13} {'stored':>13}"]
    for row in s["sections"]:
        shape = "x".join(map(str, row["shape"]))
        sizes = f"{row['raw_bytes']:>13,} {row['stored_bytes']:>13,}"
        lines.append(f"{row['name']:<22} {row['dtype']:<5} {shape:<18} {row['codec']:<5} {sizes}")
    return lines
