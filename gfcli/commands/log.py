"""gf log: what was asked and answered, where the user wants that kept. No torch."""

from __future__ import annotations

from typing import Annotated

import typer

from gfcli.support import settings
from gfcli.support.console import console
from gfcli.support.exits import SCHEMA_VERSION, CommandError
from gfcli.support.options import QuietOption
from goldfinch.library.answer_log import AnswerLog


def log(
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, metavar="N", help="Show the last N answers.")] = 10,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the log.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per answer.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Show what was asked and answered.

    Nothing is kept unless you say so: log = true in your config.toml, or GF_LOG=1. Questions, answers, names of
    documents and models are then kept in one file that only you can read; beyond 16 MB the older half goes.

    Examples:
      gf log --limit 3
      gf log --jsonl --limit 1000
      GF_LOG=1 gf ask doc.txt "Who signed the treaty?"
    """
    console.quiet = quiet
    kept = AnswerLog()
    if clear:
        kept.clear()
        console.say(f"{kept.path} is removed")
        return
    try:
        entries = kept.entries()[-limit:]
    except OSError as error:
        raise CommandError(f"{kept.path} cannot be read: {error.strerror}") from error
    if as_json:
        console.json({"schema_version": SCHEMA_VERSION, "log": str(kept.path), "answers": entries})
        return
    if not entries and not settings.value("log"):
        console.say("nothing is kept: log = true in your config.toml, or GF_LOG=1, keeps questions and answers")
    for entry in entries:
        if jsonl:
            console.json(entry)
            continue
        console.line(f"{entry['time']}  {entry.get('document') or '-'}  ({entry.get('model') or '-'})")
        console.lines(f"  {' '.join(entry[name].split())}" for name in ("question", "answer"))
