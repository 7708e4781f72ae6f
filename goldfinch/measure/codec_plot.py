"""The picture of `gf bench codecs`: bytes against error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goldfinch.errors import LibraryMissing

_COLOURS = {"step": "#b8860b", "int": "#4472a8", "kivi": "#7a3b69", "flexgen": "#5f9e6e", "bf16": "#888888"}
# What rounds no more than rounding errors is drawn here.
_LEAST_KL = 1e-7


def check_can_plot() -> None:
    """Refuse before anything is computed.

    Raises:
        LibraryMissing: matplotlib is not there.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise LibraryMissing("--plot needs matplotlib", hint="pip install matplotlib, or leave out --plot") from error


def draw(record: dict[str, Any], path: Path) -> None:
    """Left, codecs of keys alone: bits per value against KL; right, whole files of keys and state together."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.2), dpi=120)
    for row in record["rows"]:
        if row["state_codec"] == "raw":
            _point(left, row, row["bits_per_value"], row["codec"])
        elif row["codec"] != "raw":
            _point(right, row, 100 * row["file_share"], f"{row['codec']}, {row['state_codec']}")
        else:
            _point(right, row, 100 * row["file_share"], f"state {row['state_codec']}", marker="s")
    documents = record["documents"]
    left.set_xlabel("bits per value of the compressed keys")
    right.set_xlabel("% of the file without codecs")
    for axes, title in ((left, "keys alone"), (right, "whole file")):
        axes.set_yscale("log")
        axes.set_ylabel("mean KL of the next token, nats")
        axes.set_title(f"{title}, {documents} document{'' if documents == 1 else 's'}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.margins(x=0.2, y=0.1)
    figure.tight_layout()
    figure.savefig(path, format="png")
    pyplot.close(figure)


def _point(axes: Any, row: dict[str, Any], x: float, label: str, marker: str = "o") -> None:
    name = row["codec"] if row["codec"] != "raw" else row["state_codec"]
    colour = next((shade for start, shade in _COLOURS.items() if name.startswith(start)), "#888888")
    y = max(row["document_kl"], _LEAST_KL)
    axes.plot([x], [y], marker, color=colour, markersize=6)
    below = len(axes.texts) % 2  # neighbours on the curve, and what lies in the same place, have room for both names
    axes.annotate(label, (x, y), textcoords="offset points", xytext=(5, -9 if below else 4), fontsize=7)
