"""The loss curve of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from goldfinch.errors import GoldFinchError


def draw_loss_curve(log: Path, picture: Path) -> None:
    """Draw `loss` and `answer_loss` of a log.jsonl against training tokens into a PNG.

    Raises:
        GoldFinchError: matplotlib is not installed, or the log has no entries.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise GoldFinchError("matplotlib is not installed", hint="pip install 'goldfinch-gf[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = [json.loads(line) for line in log.read_text().splitlines()]
    if not entries:
        raise GoldFinchError(f"{log} has no entries yet")
    tokens = [entry.get("tokens", entry["step"]) for entry in entries]
    figure, axes = pyplot.subplots(figsize=(7.2, 4.0), dpi=120)
    axes.plot(tokens, [entry["loss"] for entry in entries], label="all tokens, weighted", color="#4472a8")
    axes.plot(tokens, [entry["answer_loss"] for entry in entries], label="answers", color="#b8860b")
    axes.set_xlabel("training tokens" if "tokens" in entries[0] else "steps")
    axes.set_ylabel("loss, nats per token")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Software": ""})
    pyplot.close(figure)
