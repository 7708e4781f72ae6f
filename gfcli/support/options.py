"""Options that several commands share, and what they mean."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from goldfinch.devices import may_have_gpu
from goldfinch.policies.dropping.named import Dropping
from goldfinch.policies.named import AUTO, BLOCKS

from . import settings, values
from .console import console
from .exits import NOT_FOUND, CommandError

if TYPE_CHECKING:
    from gfcache import Coding

    from goldfinch.library.opening import Model
    from goldfinch.measure.choosing import Bounds
    from goldfinch.models.language_model import LanguageModel
    from goldfinch.weights.directory import ModelCard

checked_checkpoints = values.checked("--checkpoints", values.checkpoints)

ModelOption = Annotated[
    str | None, typer.Option("-m", "--model", metavar="DIR|NAME", help="Model folder or name (see gf model list).")
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="Where to compute: auto, cpu, cuda or cuda:N.",
        callback=values.checked("--device", values.device),
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="Precision of weights and arithmetic: float32, bfloat16 or float64.",
        callback=values.checked("--dtype", values.dtype),
    ),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print no progress and no remarks.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Say what was found and decided on the way.")]
CheckpointsOption = Annotated[
    str,
    typer.Option(
        "--checkpoints",
        metavar="none|auto|N",
        help="Where to keep checkpoints, as in gf prefill.",
        callback=checked_checkpoints,
    ),
]
LayoutOption = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="auto|whole|blocks",
        help="How a model of others keeps a document: whole; in blocks that are blind to each other, of which a "
        "question reads those that fit it; auto: in blocks where the whole has no room.",
        callback=values.checked("--layout", values.layout),
    ),
]
CodecOption = Annotated[
    str | None,
    typer.Option(
        "--codec",
        metavar="CODEC",
        help="How compressed keys, or keys and values, are rounded and stored: raw (as computed), int8, step4, step3, "
        "step2, ..., for models of others basis3, ... (see the guide).",
        callback=values.checked("--codec", values.codec),
    ),
]
StateCodecOption = Annotated[
    str | None,
    typer.Option(
        "--state-codec",
        metavar="CODEC",
        help="How the state behind the document is rounded and stored: raw, bf16, int8, int4, ...",
        callback=values.checked("--state-codec", values.state_codec),
    ),
]
DropOption = Annotated[
    str | None,
    typer.Option(
        "--drop",
        metavar="POLICY",
        help="Drop rows of the document that questions would attend to: streaming, h2o, snapkv, expected, or random to "
        "compare with (see the guide).",
        callback=values.checked("--drop", values.dropper),
    ),
]
KeepOption = Annotated[
    float | None,
    typer.Option(
        "--keep",
        metavar="SHARE",
        help="Share of the rows that --drop keeps, like 0.2.",
        callback=values.checked("--keep", values.kept_share),
    ),
]
ReceiptOption = Annotated[
    bool,
    typer.Option(
        "--receipt",
        help="Measure what codecs and --drop cost in predictions, and keep the result in the cache (gf inspect).",
    ),
]
MaxKlOption = Annotated[
    float | None,
    typer.Option(
        "--max-kl",
        min=0.0,
        metavar="X",
        help="Choose the codecs, or with --drop the share to keep, that make the smallest cache whose predictions "
        "diverge by X nats at most, on average.",
    ),
]
MaxBytesOption = Annotated[
    str | None,
    typer.Option(
        "--max-bytes",
        metavar="SIZE",
        help="Choose the codecs, or with --drop the share to keep, that lose least in a cache of at most this size, "
        "like 200k.",
        callback=values.checked("--max-bytes", values.size),
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="With -r, leave out files and folders that fit a pattern of .gitignore; may be repeated.",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="PATTERN", help="With -r, only files that fit a pattern; may be repeated."),
]
ExtensionOption = Annotated[
    list[str] | None,
    typer.Option("-e", "--extension", metavar="EXT", help="With -r, only files *.EXT; may be repeated."),
]
EncodingOption = Annotated[
    str,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="Encoding of the text, such as utf-8, cp1251 or shift_jis; auto finds it out, and says where it guesses.",
        callback=values.checked("--encoding", values.encoding),
    ),
]
VerbatimOption = Annotated[
    bool,
    typer.Option(
        "--verbatim/--no-verbatim",
        help="Read the text as it is; else hidden characters go, ligatures become letters, and wrapped words whole.",
    ),
]
SkipBlobsOption = Annotated[
    bool, typer.Option("--skip-blobs/--no-skip-blobs", help="Leave out base64 and long hexadecimal numbers.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a cache of something else that -o names.")]

RequireVerifiedOption = Annotated[
    bool,
    typer.Option(
        "--require-verified",
        help="Take no cache but one that a run of yours made, or gf verify --replay 100% found right (else exit 10).",
    ),
]


def choose_device(name: str) -> str:
    """The device that "auto", "cpu", "cuda" or "cuda:N" means here."""
    if name != "auto":
        return name
    if "torch" not in sys.modules and not may_have_gpu():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def model_card(option: str | None) -> ModelCard:
    """The model that -m names, else that of the settings; that others have its name, too, is said once.

    Raises:
        CommandError: a project's gf.toml names one that is not among the user's.
        ModelNotFound, ModelDamaged.
    """
    from goldfinch.weights.directory import ASSETS, find_model, models_folder

    if option:
        return find_model(option, remark=console.warn_once)
    found = settings.resolve().values["model"]
    card = find_model(found.value, remark=console.warn_once)
    if found.origin == "project" and card.path.parent not in (models_folder(), ASSETS):
        raise CommandError(
            f"{found.place}: model is {found.value!r}, which is none of your models",
            code=NOT_FOUND,
            hint=f"to use the folder of that name: -m ./{found.value}",
        )
    return card


def layout_for(card: ModelCard, layout: str) -> str:
    """How a model keeps a document, of what options and settings say: models of ours have one way."""
    if card.is_foreign:
        return layout
    if layout == BLOCKS:
        console.warn_once(f"{card.name} keeps documents in its own way: layout blocks is for models of others")
    return AUTO


def coding_of(codec: str | None, state_codec: str | None, card: ModelCard | None = None) -> Coding | None:
    """The codecs that options and settings name; None where they name none, and any will do.

    Args:
        card: of the model: of one of others, only keys and values of all tokens are rounded.
    """
    if codec is None and state_codec is None:
        return None
    from gfcache import Coding
    from gfcache.codecs.registry import RAW

    coding = Coding(codec or RAW.name, state_codec or RAW.name)
    if coding.needs_basis and card is not None and not card.is_foreign:
        raise CommandError(
            f"--codec is {coding.rows}, which is for models of others; {card.name} is none",
            hint="choose step3, or int8",
        )
    if card is None or not card.is_foreign:
        return coding
    if coding.is_state_lossy:
        console.warn_once(f"{card.name} is a model of others, whose states are kept as they are")
        coding = Coding(coding.rows)
    if coding.is_lossy and not any(layer.kind == "full" for layer in getattr(card.config, "layers", ())):
        console.warn_once(f"no layer of {card.name} keeps keys and values of every token: nothing is rounded")
        coding = Coding()
    say_basis(coding, card)
    return coding


def say_basis(coding: Coding, card: ModelCard) -> None:
    """Say what takes its time, where the model of a card has no basis yet that a codec needs."""
    if coding.needs_basis:
        from goldfinch.weights.noted import basis_files_of

        if not any(path.exists() for path in basis_files_of(card.path, card.model_fingerprint)):
            console.say(f"making the basis of {card.name} for {coding.rows}, once: this may take minutes")


def dropping_of(drop: str | None, keep: float | None, chosen: bool) -> Dropping | None:
    """Which rows options drop; None where they drop none, or bounds choose how many.

    Args:
        chosen: whether there are bounds.

    Raises:
        CommandError: half of it, or both a share and what chooses one.
    """
    if drop is None:
        if keep is not None:
            raise CommandError("--keep without --drop", hint=f"name who drops the rest: --drop h2o --keep {keep:g}")
        return None
    if chosen and keep is not None:
        raise CommandError("--keep with --max-kl or --max-bytes", hint="they choose the share: leave out --keep")
    if not chosen and keep is None:
        raise CommandError("--drop without a share to keep", hint=f"--drop {drop} --keep 0.2, or --max-kl 0.05")
    return None if keep is None else Dropping(drop, float(f"{keep:g}"))


def bounds_of(
    receipt: bool, max_kl: float | None, max_bytes: str | None, codecs: Coding | None, drop: str | None = None
) -> Bounds | None:
    """What a smaller file may cost; None where nothing is to be measured.

    Args:
        drop: the policy that drops rows: then bounds choose how many, else the codecs.

    Raises:
        CommandError: bounds that choose the codecs beside codecs, or a receipt without any.
    """
    if not receipt and max_kl is None and max_bytes is None:
        return None
    from goldfinch.measure.choosing import Bounds

    bounds = Bounds(max_kl, None if max_bytes is None else values.parse_bytes(max_bytes, "--max-bytes"), drop)
    if drop is None and bounds.choose and codecs is not None:
        raise CommandError(
            "--max-kl or --max-bytes with codecs", hint="they choose the codecs: leave out --codec and --state-codec"
        )
    if not bounds.choose and codecs is None and drop is None:
        raise CommandError("--receipt without codecs", hint="name them: --codec step3 --state-codec int8")
    return bounds


def load(
    model: str | None,
    device: str,
    dtype: str | None,
    cache_dtype: str | None = None,
    *,
    layout: str = AUTO,
    light: bool = False,
) -> Model:
    """Load a model as the options and settings say.

    Args:
        model: directory or name; None for the model of the settings.
        device: "auto", "cpu", "cuda", "cuda:N".
        dtype: a name of DTYPES or None: what the cache was computed in, else as the settings say, else as
            `opening.usual_dtypes`.
        cache_dtype: compute dtype of the cache ("f32", "bf16", "f64"), if there is one.
        layout: how it keeps documents, a name of LAYOUTS.
        light: as of `opening.load`.

    Raises:
        the errors of `opening.load`.
    """
    card = model_card(model)
    device, name = numerics(device, dtype, cache_dtype, card=card)
    from goldfinch.library.opening import load as load_model

    layout = layout_for(card, layout)
    return load_model(card, device=device, dtype=values.FILE_DTYPES[name], layout=layout, light=light)


def load_ours(model: str | None, device: str, dtype: str | None) -> LanguageModel:
    """A model for what only models of ours can do; arguments and errors as of `load`.

    Raises:
        CheckpointError: it is a model of others.
    """
    from goldfinch import load_model

    card = model_card(model)
    device, name = numerics(device, dtype, card=card)
    import torch

    return load_model(card.path, device=device, dtype=getattr(torch, name))


def numerics(device: str, dtype: str | None, cache_dtype: str | None = None, *, card: ModelCard) -> tuple[str, str]:
    """Device and dtype names that options and settings come to for a model; arguments as in `load`."""
    device, names = numerics_allowed(device, dtype or cache_dtype, card)
    return device, names[0]


def numerics_allowed(device: str, dtype: str | None, card: ModelCard) -> tuple[str, tuple[str, ...]]:
    """Device, and the dtype names in which a cache of the library may be: several only where nothing names one.

    The first is what a document is computed in now.
    """
    from goldfinch.library.opening import usual_dtypes

    device = choose_device(device)
    name = dtype or settings.value("dtype")
    names = (name,) if name else usual_dtypes(card, device)
    return device, tuple(values.SHORT_DTYPES.get(one, one) for one in names)


def journal_seconds() -> float:
    """Seconds between two notes of the journal; GF_JOURNAL_SECONDS changes it."""
    text = os.environ.get("GF_JOURNAL_SECONDS", "10")
    try:
        return float(text)
    except ValueError as error:
        raise CommandError(f"GF_JOURNAL_SECONDS is {text!r}, expected a number of seconds") from error
