"""gf config: which settings hold here, and where they come from."""

from __future__ import annotations

from typing import Annotated

import typer

from gfcli.support import settings
from gfcli.support.console import console
from gfcli.support.exits import SCHEMA_VERSION


def show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Also show where each value comes from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the effective settings for this folder.

    An option wins over a variable (GF_MODEL, ...), then come gf.toml of the project (the nearest at or above the
    current folder), gf/config.toml in the user's XDG config folder, and the default. A project's file may come from
    anybody: what it may not set is not followed, and --origin shows why.

    Examples:
      gf config show --origin
      GF_CACHE_MAX_SIZE=2g gf config show --json
    """
    resolved: settings.Settings = context.obj  # once: the folders of files are in the environment by now
    values = resolved.values
    if as_json:
        rows = {n: {"value": v.value, "origin": v.origin, "place": v.place} for n, v in values.items()}
        refused = [{"setting": r.name, "place": r.place, "why": r.why} for r in resolved.refused]
        console.json({"schema_version": SCHEMA_VERSION, "settings": rows, "refused": refused})
        return
    width = max(len(name) for name in values)
    texts = {name: _effective(name) if found.value is None else str(found.value) for name, found in values.items()}
    wide = max(len(text) for text in texts.values())
    for name, found in values.items():
        shown = texts[name]
        place = f"{found.origin} ({found.place})" if found.place else found.origin
        if origin:
            shown = f"{shown:<{wide}}  {console.fitted(place, width + 2 + wide + 2)}"
        console.line(f"{name:<{width}}  {shown}".rstrip())
    if origin:
        console.lines(f"refused: {refused}" for refused in resolved.refused)


def _effective(name: str) -> str:
    """What holds where a setting has no value."""
    from gfcache import default_root

    from goldfinch.weights.directory import models_folder

    return {
        "dtype": "float32 (bfloat16 on a GPU); models of others: the quicker one",
        "codec": "raw",
        "state_codec": "raw",
        "read_blocks": "as measured for the model",
        "least_likelihood": "as measured for the model",
        "models_dir": str(models_folder()),
        "cache.dir": str(default_root()),
        "cache.max_size": "no cap",
    }[name]
