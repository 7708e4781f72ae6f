"""Where files of bases may lie (SPEC, "Bases"). Costs nothing to import: a program says so before it knows the need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

# What a basis file is called in a model directory.
FILE_NAME = "codec_basis.gfb"

_places: list[Callable[[], Iterable[Path]]] = []


def offer_bases(places: Callable[[], Iterable[Path]]) -> None:
    """Have a basis that nobody offered looked for in these files, of which any may be gone, or none."""
    if places not in _places:
        _places.append(places)


def basis_files() -> Iterator[Path]:
    """The files that were named."""
    for places in _places:
        yield from places()
