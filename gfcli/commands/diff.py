"""gf diff: where two cache files differ. No torch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gfcli.support.console import console
from gfcli.support.exits import CONDITION_NOT_MET, SCHEMA_VERSION


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="Cache file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Cache file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show where two cache files differ.

    Compares identity, tokens (and names the first that differs) and sections; time stamps and provenance do not count.
    Both files are verified first, bases included. Exit code 0 when they are equal, 10 when they differ, 6 when one is
    damaged.

    Examples:
      gf diff a.gfc b.gfc
      gf diff --json old.gfc new.gfc
    """
    import gfcache
    from gfcache.format.compare import compare_caches

    for path in (a, b):
        gfcache.verify_cache(path)
    with gfcache.read_cache(a) as one, gfcache.read_cache(b) as other:
        result = compare_caches(one, other)
    if as_json:
        console.json({"schema_version": SCHEMA_VERSION} | result)
    else:
        console.lines(_lines(result))
    if not result["equal"]:
        raise typer.Exit(CONDITION_NOT_MET)


def _lines(result: dict[str, Any]) -> list[str]:
    if result["equal"]:
        numerics = f"; computed with different {', '.join(result['numerics'])}" if result["numerics"] else ""
        return [f"equal: {result['tokens'][0]:,} tokens{numerics}"]
    lines = [f"different: {name}" for name in result["identity"]]
    if result["first_divergent_token"] is not None:
        tokens = " and ".join(f"{n:,}" for n in result["tokens"])
        lines.append(f"tokens ({tokens}) differ from token {result['first_divergent_token']:,} on")
    lines += [f"numerics differ: {name}" for name in result["numerics"]]
    lines += [f"section differs: {name}" for name in result["sections"]]
    return lines
