"""Options that several commands share, and what they mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from . import settings
from .exits import CommandError

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel

DTYPES = ("float32", "bfloat16", "float64")
SHORT_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f64": "float64"}
T = TypeVar("T", str, str | None)
MOST_SEED = 2**63 - 1
FILE_DTYPES = {long: short for short, long in SHORT_DTYPES.items()}


# What an option's value is refused for is refused before anything is read, loaded or computed.
def _checked_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise CommandError(f"--device is {name!r}, allowed: auto, cpu, cuda, cuda:N")
    return name


def _checked_dtype(name: str | None) -> str | None:
    if name is not None and name not in (*DTYPES, *SHORT_DTYPES):
        raise CommandError(f"--dtype is {name!r}, allowed: {', '.join(DTYPES)}")
    return name


def checked_checkpoints(text: T) -> T:
    """The value of a --checkpoints option.

    Raises:
        CommandError: not one of those allowed.
    """
    if text not in (None, "none", "auto") and not (re.fullmatch(r"[0-9]+", str(text)) and int(str(text)) > 0):
        raise CommandError(f"--checkpoints is {text!r}, allowed: none, auto, or a number of tokens")
    return text


ModelOption = Annotated[
    str | None, typer.Option("-m", "--model", metavar="DIR|NAME", help="Model directory or name (see gf model list).")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", help="Where to compute.", callback=_checked_device)
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="float32|bfloat16|float64",
        help="Precision of weights and arithmetic.",
        callback=_checked_dtype,
    ),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="No progress and no remarks.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Say what was found and decided.")]
CheckpointsOption = Annotated[
    str,
    typer.Option("--checkpoints", metavar="none|auto|N", help="As in gf prefill.", callback=checked_checkpoints),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace another cache that -o names.")]


def choose_device(name: str) -> str:
    """The device that "auto", "cpu", "cuda" or "cuda:N" means here."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load(model: str | None, device: str, dtype: str | None, cache_dtype: str | None = None) -> LanguageModel:
    """Load a model as the options and settings say.

    Args:
        model: directory or name; None for the model of the settings.
        device: "auto", "cpu", "cuda", "cuda:N".
        dtype: a name of DTYPES or None: what the cache was computed in, else as the settings say, else float32
            (bfloat16 on a GPU).
        cache_dtype: compute dtype of the cache ("f32", "bf16", "f64"), if there is one.

    Raises:
        the errors of `goldfinch.load_model`.
    """
    device, name = numerics(device, dtype, cache_dtype)
    import torch

    from goldfinch import load_model

    return load_model(model or settings.value("model"), device=device, dtype=getattr(torch, name))


def numerics(device: str, dtype: str | None, cache_dtype: str | None = None) -> tuple[str, str]:
    """Device and dtype names that options and settings come to; arguments as in `load`."""
    device = choose_device(device)
    name = dtype or cache_dtype or settings.value("dtype") or ("float32" if device == "cpu" else "bfloat16")
    return device, SHORT_DTYPES.get(name, name)


def parse_bytes(text: str, what: str = "a size") -> int:
    """A size such as 4g, 512m, 1.5G, 100000.

    Args:
        what: it is, for the error: an option.

    Raises:
        CommandError: not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", text.lower())
    if match is None:
        raise CommandError(f"{what} is {text!r}, expected a number with k, m or g, like 512m")
    amount = float(match.group(1)) * 1024 ** " kmgt".index(match.group(2) or " ")
    if amount >= 1 << 63:
        raise CommandError(f"{what} is {text[:40]!r}, allowed: less than 2^63 bytes")
    return int(amount)


def show_bytes(count: float) -> str:
    """A size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError
