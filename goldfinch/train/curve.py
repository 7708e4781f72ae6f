"""The loss curve of a run as a picture."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from gfcache.files.replace import replacing_output

from goldfinch.errors import GoldFinchError

from .log import entry_of, log_lines


def draw_loss_curve(log: Path, picture: Path) -> None:
    """Draw `loss` and `answer_loss` of a log.jsonl against training tokens into a PNG; other lines are left out.

    Raises:
        GoldFinchError: matplotlib is not installed, or the log has no entries.
        gfcache.CacheWriteError: the picture cannot be written.
    """
    Figure = figure_class()
    entries = [entry for entry in map(entry_of, log_lines(log)) if _is_drawn(entry)]
    if not entries:
        raise GoldFinchError(f"{log} has no entries yet")
    tokens = [entry.get("tokens", entry["step"]) for entry in entries]
    figure = Figure(figsize=(7.2, 4.0), dpi=120)
    axes = figure.subplots()
    axes.plot(tokens, [entry["loss"] for entry in entries], label="all tokens, weighted", color="#4472a8")
    axes.plot(tokens, [entry["answer_loss"] for entry in entries], label="answers", color="#b8860b")
    axes.set_xlabel("training tokens" if "tokens" in entries[0] else "steps")
    axes.set_ylabel("loss, nats per token")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    with replacing_output(picture, mode=None, follow=False) as stream:
        figure.savefig(stream, format="png", metadata={"Software": ""})


def _is_drawn(entry: dict[str, Any]) -> bool:
    values = [entry.get(name) for name in ("step", "loss", "answer_loss")] + [entry.get("tokens", 0)]
    return all(isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e18 for value in values)


def figure_class() -> Any:
    """matplotlib's Figure, which draws by itself, without a window.

    When matplotlib is imported, it reads a file of settings in the current folder before the user's own, and settings
    can name programs to run: so it is imported in a folder where no stranger can put one.
    """
    here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    try:
        os.chdir("/")
        from matplotlib.figure import Figure
    except ImportError as error:
        raise GoldFinchError("matplotlib is not installed", hint="pip install 'goldfinch-gf[plots]'") from error
    finally:
        os.fchdir(here)
        os.close(here)
    return Figure
