"""gf model: list, show, import, verify, set, init; of ours, and of models of others."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from gfcli.support.console import console
from gfcli.support.exits import DAMAGED, SCHEMA_VERSION, CommandError, describe
from gfcli.support.options import DeviceOption, DtypeOption, load, model_card
from gfcli.support.values import MOST_SEED, counted, parse_lengths, show_bytes

Name = Annotated[
    str | None, typer.Argument(metavar="DIR|NAME", help="Model folder or name; by default, the model of the settings.")
]


def list_(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """List the models that have a name here.

    Lists the folders under GF_MODELS_DIR, then the models that come with gf. Of several with one name, those that the
    name does not lead to are marked. A broken one is marked, and what is wrong with it goes to stderr. Also: gf model
    ls.

    Examples:
      gf model list
      GF_MODELS_DIR=~/models gf model list --json
    """
    from goldfinch.weights.directory import directory_of
    from goldfinch.weights.headers import checked_directories

    models = list(checked_directories())
    shown = [card.name if card is not None and error is None else path.name for path, card, error in models]
    count = Counter(name for one, (path, _, _) in zip(shown, models, strict=True) for name in {one, path.name})
    taken = {name: directory_of(name) for name in shown if count[name] > 1}
    if as_json:
        rows = [
            _row(card) | {"taken": taken.get(card.name, path) == path}
            for path, card, error in models
            if card is not None and error is None
        ]
        broken = [{"path": str(path), "message": describe(error)[0]} for path, _, error in models if error is not None]
        console.json({"schema_version": SCHEMA_VERSION, "models": rows, "broken": broken})
        return
    for name, (path, card, error) in zip(shown, models, strict=True):
        kind, shape = "broken", "-"
        if card is not None and error is None:
            kind, shape = card.config.model_type, f"{card.config.n_layer} x {card.config.d_model}"
        other = taken.get(name, path)
        remark = "" if other == path else f"  (not taken: {name} is {other})"
        first = f"{name:<24} {kind:<18} {shape:<10} "
        console.line(f"{first}{console.fitted(str(path), len(first), len(remark))}{remark}", state=kind)
    for _, _, error in models:
        if error is not None:
            console.warn(describe(error)[0])


def _row(card: Any) -> dict[str, Any]:
    return {
        "name": card.name,
        "path": str(card.path),
        "model_type": card.config.model_type,
        "prefill_fingerprint": card.prefill_fingerprint,
        "model_fingerprint": card.model_fingerprint,
    }


def show(
    name: Name = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a model's configuration.

    Shows template and fingerprints, too.

    Examples:
      gf model show gf-mini-4
      gf model show ./my-model --json
    """
    from goldfinch.weights.directory import weights_bytes_of

    card = model_card(name)
    config = card.config
    weights_bytes = weights_bytes_of(card)
    if as_json:
        row = {"schema_version": SCHEMA_VERSION} | _row(card) | {"weights_bytes": weights_bytes}
        console.json(row | {"tokenizer": card.tokenizer_file, "card": json.loads(card.to_json())})
        return
    size = "missing" if weights_bytes is None else show_bytes(weights_bytes)
    console.line(f"name       {card.name}")
    console.line(f"path       {card.path}")
    console.line(f"weights    {size}")
    prefill = "" if card.is_foreign else f": {card.own_config.n_prefill} in prefill, {card.own_config.n_gold} GOLD"
    console.line(f"layers     {config.n_layer} x {config.d_model}{prefill}")
    console.line(f"tokenizer  {card.tokenizer_file or 'none'}")
    if card.is_foreign:
        _show_foreign(card)
    console.text(card.to_json())


def _show_foreign(card: Any) -> None:
    """Where the weights of a model of others are, how it computes documents, and the three strings of its prompt."""
    config, template = card.config, card.template
    console.line(f"folder     {config.folder or card.path}")
    console.line(
        f"documents  {config.schedule.replace('_', ' ')}, as transformers {config.library_version} was checked"
    )
    measured = f" ({_answered(config.prompt_figures)})" if config.prompt_figures else ""
    console.line(f"prompt     {config.prompt}{measured}")
    console.line(f"  before the document  {json.dumps(template.document_prefix)}")
    console.line(f"  before the question  {json.dumps(template.question_prefix)}")
    console.line(f"  after the question   {json.dumps(template.question_suffix)}")


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A model folder (config.json and safetensors), a .gguf file, or, with --config, GoldFinch or RWKV "
            "weights: .safetensors, its .index.json, or .pth.",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG.json", help="Configuration of GoldFinch or RWKV weights."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Model folder to write; by default, under GF_MODELS_DIR."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            metavar="FILE",
            help="Tokenizer to copy into the model folder: tokenizer.json, or the RWKV World vocabulary (.txt).",
        ),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy a model folder's weights instead of using them.")] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="plain|chat",
            help="Prompt of a model of others; by default, the better in a small test.",
        ),
    ] = None,
) -> None:
    """Make a model folder from published weights.

    What PATH is, is recognised. A folder of others is used where it lies; a GGUF file is unpacked once. Each is tried:
    what it computes from a cache must be what it computes without one. Such models need the extra hf, and a guide is in
    docs/models.md. No code in the files is ever run, and nothing is fetched.

    Examples:
      gf model import ./Qwen2.5-0.5B-Instruct
      gf model import SmolLM2-135M-Instruct-Q4_1.gguf -o smollm2
      gf model import RWKV.pth --config config.json --tokenizer rwkv_vocab_v20230424.txt -o my-model
    """
    if config is not None:
        _import_own(path, config, tokenizer, output)
        return
    if tokenizer is not None:
        raise CommandError("--tokenizer is for weights with --config", hint="a model folder has its own tokenizer.json")
    from goldfinch.foreign.importing import import_foreign
    from goldfinch.foreign.recognise import recognise
    from goldfinch.weights.directory import models_folder

    output = models_folder() / recognise(path).name if output is None else output
    card = import_foreign(path, output, copy=copy, prompt=prompt, told=console.say)
    shape: Any = card.config
    console.say(f"{shape.model_type}, {shape.n_layer} x {shape.d_model}, context {shape.context_length:,} tokens")
    if shape.prompt_figures:
        console.say(f"prompt: {shape.prompt} ({_answered(shape.prompt_figures)})")
    console.path(output)


def _import_own(weights: Path, config: Path, tokenizer: Path | None, output: Path | None) -> None:
    from goldfinch.weights.writing import import_model

    if output is None:
        raise CommandError("with --config, name the model folder to write: -o DIR")
    card = import_model(weights, config, tokenizer, output)
    shape = card.config
    console.say(f"{shape.model_type}, {shape.n_layer} x {shape.d_model}, prefill {card.prefill_fingerprint[:16]}")
    console.say(f"gf model measure {output} finds what of a document it should read")
    console.path(output)


def _answered(figures: Any) -> str:
    """How many questions about a shipped text a model of others answered, by prompt."""
    right = ", ".join(f"{name} {'too slow' if n is None else n}" for name, n in figures.items() if name != "questions")
    return f"of {figures['questions']} questions about a small text, right: {right}"


def verify(name: Name = None) -> None:
    """Check a model's weights and tokenizer.

    They must match the fingerprints in the model folder. Exit code 6 when they do not.

    Examples:
      gf model verify gf-mini-4
      gf model verify ./my-model
    """
    card = model_card(name)
    if card.is_foreign:
        from goldfinch.foreign.directories import differences_of as verify_model
    else:
        from goldfinch.weights.loading import verify_model
    differences = verify_model(card)
    if differences:
        raise CommandError(f"{card.path}: {differences[0]}", code=DAMAGED, hint="import the model again")
    console.line(f"{card.name}: weights and tokenizer match their fingerprints")


def measure(
    name: Name = None,
    lengths: Annotated[
        str, typer.Option("--lengths", metavar="N,...", help="Lengths of the documents asked, in tokens.")
    ] = "1000,2000,4000",
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure what a model should read.

    Asks it about a text that comes with gf, with each reading policy, at several lengths. The policy that answers best
    is kept in your own cache under the model's fingerprint, and gf ask --read auto follows it from then on. A model
    that nothing was measured for reads whole documents. Of a model of others, documents kept whole are compared with
    documents kept in blocks, and gf prefill --layout auto follows what was found. This takes seconds for a small model,
    minutes for a large one.

    Examples:
      gf model measure ./my-model
      gf model measure my-model --lengths 1000,8000 --json
    """
    from goldfinch.evaluate.policies import keep, measure_policies

    def report(row: dict[str, Any]) -> None:
        gain = f", {100 * row['gain']:+.1f} +- {100 * row['standard_error']:.1f}" if row["policy"] != "all" else ""
        console.say(f"{row['length']:,} tokens, {_way(row)}: F1 {100 * row['f1']:.1f} of 100{gain}")

    model = load(name, device, dtype)
    record = measure_policies(model, lengths=parse_lengths(lengths, "--lengths"), report=report)
    place = keep(model, record)
    if as_json:
        console.json({"schema_version": SCHEMA_VERSION, "path": None if place is None else str(place)} | record)
    for row in record["rows"] if not as_json else ():
        console.line(f"from {row['least_tokens']:,} tokens on: {_way(row)}")
    if not record["rows"] and not as_json:
        console.line("the whole document: no other policy answers better")
    if place is None:
        console.warn("the measurement was not kept: your cache folder cannot be written, or is not private")


def _way(row: dict[str, Any]) -> str:
    """A reading policy and how it is followed, for people."""
    if row["policy"] == "all":
        return "all"
    if row["candidates"] > 1:
        return f"{row['policy']}, the likeliest answer of {row['candidates']} blocks"
    return f"{row['policy']}, {counted(row['blocks'], 'block')}"


def set_(
    name: Annotated[str, typer.Argument(metavar="DIR|NAME", help="Model folder or name.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIELD=VALUE...",
            help="New values: template.FIELD, config.FIELD, name, prompt. A text as it is, or in JSON; other values in "
            "JSON.",
        ),
    ] = None,
) -> None:
    """Change a model's template or configuration.

    Writes config.json and takes all fingerprints again. Without FIELD=VALUE, it adopts what was changed in the folder
    by hand. Caches made with another template still open; to ask them with the new one, name the model with -m.

    Examples:
      gf model set ./my-model 'template.stop=["Question:"]'
      gf model set ./my-model template.end_token_id=1 config.context_length=8192
      gf model set smollm2 prompt=chat
      gf model set ./my-model
    """
    from goldfinch.weights.directory import directory_of, read_card

    pairs = [change.partition("=") for change in changes or ()]
    odd = next((field for field, sign, _ in pairs if not (field and sign)), None)
    if odd is not None:
        raise CommandError(f"{odd!r} is not a change", hint="gf model set DIR template.question_suffix=...")
    given = {field: value for field, _, value in pairs}
    directory = directory_of(name)
    if read_card(directory, adopt=True).is_foreign:
        from goldfinch.foreign.changing import change_foreign

        changed = change_foreign(directory, given)
    else:
        from goldfinch.weights.changing import change_model

        changed = change_model(name, given)
    for what, old, new in changed:
        console.say(f"{what}: {old} -> {new}")
    if not changed:
        console.say("nothing changed")


def init(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Model folder to write.")],
    preset: Annotated[
        str, typer.Option("--preset", metavar="NAME", help="Shape, such as goldfinch-12x768.")
    ] = "goldfinch-tiny",
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=MOST_SEED, metavar="N", help="Random seed for the weights.")
    ] = 0,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="FILE", help="Tokenizer file to copy into the model folder.")
    ] = None,
) -> None:
    """Make a model with random weights.

    For benchmarks and tests: its answers mean nothing.

    Examples:
      gf model init --preset goldfinch-tiny -o tiny
      gf model init --preset goldfinch-12x768 --seed 1 -o random
    """
    from goldfinch.weights.writing import init_model

    card = init_model(preset, seed, output, tokenizer)
    console.say(f"{card.config.model_type}, {card.config.n_layer} x {card.config.d_model}, random weights")
    console.path(output)
