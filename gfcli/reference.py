"""docs/cli.md and the man pages, generated from the help of the commands: python -m gfcli.reference [MAN_FOLDER]"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

from . import registry
from .app import app, run
from .parser import row_of, typer
from .support import exits
from .support.console import console

CODES = (
    (exits.OK, "done"),
    (exits.BUG_OR_OTHER, "a bug, or something not foreseen"),
    (
        exits.USAGE,
        "wrong usage: unknown option, a value out of range, a directory, PDF, HTML or binary file as a document, an "
        "empty document, an output that exists and was made from something else, more checkpoints than a file can "
        "hold, values that are not finite",
    ),
    (exits.SOME_FAILED, "several documents, some failed"),
    (exits.NOT_FOUND, "a file, a model or the base of a cache that does not exist"),
    (
        exits.DOES_NOT_BELONG,
        "the cache belongs to another model, tokenizer, template or base; weights that do not fit their configuration",
    ),
    (
        exits.DAMAGED,
        "a damaged or foreign cache file; a model directory that is damaged or was changed after it was made; weights, "
        "configurations and tokenizers that cannot be read",
    ),
    (exits.UNSUPPORTED, "a cache file of a newer version"),
    (
        exits.MEMORY_DEVICE_DISK,
        "memory, device or disk: unwritable folder, full disk, no such GPU, no room under the cap of the library",
    ),
    (exits.LOCKED, "another process is writing this output"),
    (
        exits.CONDITION_NOT_MET,
        "a condition that was asked for is not met: a replay, diff or self-check that finds a difference, "
        "--fail-stale, --require-cached",
    ),
    (exits.HUNG_UP, "the terminal was closed (SIGHUP)"),
    (exits.INTERRUPTED, "interrupted (Ctrl-C)"),
    (exits.TERMINATED, "terminated (SIGTERM)"),
)


def reference() -> str:
    """The whole page."""
    parts = ["# Commands\n\nGenerated from the help texts by `make docs`; do not edit.\n"]
    for name in ("", *(command.name for command in registry.COMMANDS)):
        parts.append(f"## {f'gf {name}'.strip()}\n\n```text\n{help_text(name)}\n```\n")
    parts.append(
        "## Exit codes\n\nCodes once released do not change. Errors are one line on stderr, `error: ...`, with a "
        "`hint:` where there is a\nnext step; with `--json` or `--jsonl` one JSON object with `code` and `message`.\n"
    )
    parts.append("| code | meaning |\n|---|---|\n" + "\n".join(f"| {code} | {text} |" for code, text in CODES) + "\n")
    return "\n".join(parts)


def help_text(name: str) -> str:
    """What `gf NAME --help` prints on a terminal of 80 columns."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run([*name.split(), "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def manual(name: str) -> str:
    """The man page of a command, "" for gf itself, in roff.

    Sections are NAME, SYNOPSIS, DESCRIPTION, and as they apply COMMANDS, ARGUMENTS, OPTIONS, EXAMPLES, EXIT STATUS.
    """
    from goldfinch.version import __version__

    words = f"gf {name}".split()
    command, context = _command(name.split())
    text, _, examples = (command.help or "").partition("\nExamples:\n")
    summary, _, rest = text.strip().partition("\n")
    lines = [f'.TH {_roff("-".join(words).upper())} 1 "" "gf {__version__}" "gf"', ".SH NAME"]
    lines += [
        f"{_roff('-'.join(words))} \\- {_roff(summary.rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_roff(' '.join(words))}",
    ]
    lines += [_roff(" ".join(command.collect_usage_pieces(context)))]
    paragraphs = [" ".join(part.split()) for part in rest.split("\n\n") if part.strip()]
    lines += [".SH DESCRIPTION", *"\n.PP\n".join(map(_roff, paragraphs or [summary])).split("\n")]
    rows = {"COMMANDS": [(f"gf {one.name}", one.summary) for one in registry.below(name)]}
    for title, kind in (("ARGUMENTS", "argument"), ("OPTIONS", "option")):
        params = [p for p in command.get_params(context) if p.param_type_name == kind]
        rows[title] = [row_of(param, context) for param in params if not getattr(param, "hidden", False)]
    for title, found in rows.items():
        lines += [f".SH {title}"] if found else []
        for term, told in found:
            lines += [".TP", f".B {_roff(term)}", _roff(told)]
    if examples:
        lines += [".SH EXAMPLES", ".nf", *(_roff(line.strip()) for line in examples.strip().split("\n")), ".fi"]
    if not name:
        lines += [".SH EXIT STATUS"]
        for code, told in CODES:
            lines += [".TP", f".B {code}", _roff(told)]
    return "\n".join(lines) + "\n"


def _command(words: list[str]) -> tuple[Any, Any]:
    """The parser of a command and its context."""
    found = typer.main.get_command(app)
    context = found.make_context("gf", [], resilient_parsing=True)
    for word in words:
        found = found.get_command(context, word)  # type: ignore[attr-defined]
        context = found.make_context(word, [], parent=context, resilient_parsing=True)
    return found, context


def _roff(text: str) -> str:
    """A line of text that roff prints as it is."""
    text = " ".join(text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NON-BREAKING HYPHEN}", "-").split())
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text


def write_manuals(folder: Path) -> None:
    """Write a man page for each command: gf.1, gf-ask.1, gf-cache-ls.1, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("", *(command.name for command in registry.COMMANDS)):
        (folder / f"{'-'.join(f'gf {name}'.split())}.1").write_text(manual(name))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_manuals(Path(sys.argv[1]))
    else:
        console.text(reference())
