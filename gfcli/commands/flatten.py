"""gf flatten: a cache that stands alone. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import gfcache
import typer

from gfcli.support.console import console
from gfcli.support.options import ForceOption
from gfcli.support.outputs import InPlaceOutputOption, check_may_replace
from goldfinch.library.known import note_same


def flatten(
    cache: Annotated[str, typer.Argument(metavar="CACHE", help="Cache file that continues a base cache.")],
    output: InPlaceOutputOption = None,
    force: ForceOption = False,
) -> None:
    """Merge a cache with its base into one file.

    No model is loaded. The result covers both texts together and belongs to no document: gf status calls it detached.

    Examples:
      gf flatten chapter1.gfc -o whole.gfc
      gf flatten chapter1.gfc && rm handbook.gfc
    """
    path = Path(output or cache)
    if output is not None:
        check_may_replace(path, force)
    with gfcache.output_lock(path), gfcache.read_cache(cache) as file:
        note_same(gfcache.flatten_cache(file, path).digest, file.header.digest)
    console.path(path)
