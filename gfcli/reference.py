"""docs/cli.md, generated from the help of the commands: python -m gfcli.reference"""

from __future__ import annotations

import contextlib
import io

from . import registry
from .app import run
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


if __name__ == "__main__":
    console.text(reference())
