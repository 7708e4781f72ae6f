"""Outputs as options name them, refused before anything is computed for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeVar

import gfcache
import typer
from gfcache.files.locks import sweep
from gfcache.files.regular import NotRegular, open_regular
from gfcache.files.replace import replacing_output

from goldfinch.jobs.outputs import check_place
from goldfinch.jobs.sources import STDIN

from .exits import CommandError

P = TypeVar("P", str | None, Path | None)


def check_folder(path: Path) -> None:
    """Refuse an output in a folder that does not exist, or that is a folder itself.

    Raises:
        CommandError, OutputError: exit 2, with the way out.
    """
    if str(path) == STDIN:
        raise CommandError("-o is -, expected a file name: caches and records go into files", hint="-o NAME")
    check_place(path)


def check_may_replace(path: Path, force: bool, safetensors: bool = False) -> None:
    """Refuse to replace a file: without `force` any, with it one that is not a cache (or no safetensors file).

    Raises:
        CommandError: exit 2, with the way out.
    """
    if not path.exists():
        return
    sweep(path)
    hint = "choose another output with -o"
    try:
        with os.fdopen(open_regular(path, follow=True), "rb") as stream:
            start = stream.read(9)
    except NotRegular:
        start = b""
    # A safetensors file begins with the length of its header, eight bytes, and the header, an object.
    if not (start[8:] == b"{" if safetensors else start.startswith(gfcache.layout.MAGIC)):
        raise CommandError(f"{path} exists and is not a {'safetensors file' if safetensors else 'cache'}", hint=hint)
    if not force:
        raise CommandError(f"{path} exists", hint=f"{hint}, or replace it with --force")


def checked_output(path: P) -> P:
    """An output file as an option names it, refused before anything is computed for it; see `check_folder`."""
    if path is not None:
        check_folder(Path(path))
    return path


def write_record(path: Path, text: str) -> None:
    """Write a record whole or not at all; into a device, or a pipe that somebody reads, as it comes.

    Raises:
        gfcache.CacheWriteError: the system does not let it be written, or nobody reads the pipe.
    """
    data = f"{text}\n".encode()
    if path.exists() and not path.is_file():
        try:
            handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            with os.fdopen(handle, "wb") as stream:
                os.set_blocking(handle, True)
                stream.write(data)
        except OSError as error:
            raise gfcache.CacheWriteError(path, error) from error
        return
    with replacing_output(path, mode=None, needed_bytes=len(data)) as stream:
        stream.write(data)


InPlaceOutputOption = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write to another file; by default, the cache is replaced.",
        callback=checked_output,
    ),
]
