"""Draw docs/plots/*.png from the records: python -m bench.report.plots (matplotlib: pip install -e '.[bench]')."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench.places import PLOTS, RESULTS, of_embedded
from bench.report.machines import MACHINES
from bench.report.models import threads_of

# One colour per program, one line style per precision and kind of attention.
COLOURS = {"gf": "#b8860b", "transformers": "#4472a8", "llama.cpp Llama": "#7a3b69", "llama.cpp RWKV": "#b56fa4"}
COLOURS |= {"rwkv": "#5f9e6e"}
QUANTITIES = {
    "prefill_tok_s": ("prefill-speed.png", "prefill, tokens per second", 1.0),
    "prefill_grew_bytes": ("prefill-memory.png", "memory that prefill takes beyond the weights, MB", 1e-6),
    "file_bytes": ("file-size.png", "saved cache, MB", 1e-6),
    "decode_tok_s": ("decode-speed.png", "decode behind the document, tokens per second", 1.0),
}


def main() -> None:
    """Draw the 12x768 records against the length of the document, the passkey heat map, the training, "Not stated."."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    PLOTS.mkdir(exist_ok=True)
    passkey = json.loads(of_embedded("reading").read_text())["read"]["auto"]["passkey"]
    draw_heat_maps(passkey, (5, 7), PLOTS / "passkey.png")
    draw_not_stated(json.loads(of_embedded("confidence").read_text()), PLOTS / "not-stated.png")
    draw_training(json.loads((RESULTS / "training-gf-mini.json").read_text())["runs"], PLOTS / "training.png")
    rows = {}
    for machine in MACHINES:
        if not (RESULTS / f"{machine.record}.json").exists():
            continue
        found = json.loads((RESULTS / f"{machine.record}.json").read_text())
        title = f"{found['conditions']['processor']}, {machine.name}, {threads_of(found['conditions'])}"
        rows[title] = found["rows"]
    for quantity, (file, label, factor) in QUANTITIES.items():
        draw(rows, quantity, label, factor, PLOTS / file)


def draw(machines: dict[str, list[dict[str, Any]]], quantity: str, label: str, factor: float, path: Path) -> None:
    """A panel per machine, a line per program: medians, bars from minimum to maximum; both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(machines), figsize=(10.6, 4.0), dpi=120, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    shown: dict[str, Any] = {}
    for axes, (title, rows) in zip(panels[0], machines.items(), strict=True):
        shown |= _draw_programs(axes, rows, quantity, factor)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("document tokens")
    ticks = sorted({row["tokens"] for rows in machines.values() for row in rows})
    panels[0, 0].set_xticks(ticks, [f"{tick:,}" for tick in ticks])  # of all panels
    panels[0, 0].set_ylabel(label, fontsize=9)
    figure.legend(shown.values(), shown.keys(), fontsize=8, frameon=False, loc="outside right center")
    figure.savefig(path, metadata={"Software": ""})
    pyplot.close(figure)


def _draw_programs(axes: Any, rows: list[dict[str, Any]], quantity: str, factor: float) -> dict[str, Any]:
    """Draw the lines of one machine; the line of each program by its name."""
    from matplotlib import ticker

    drawn = {}
    for peer in dict.fromkeys(row["peer"] for row in rows):
        points = sorted((row["tokens"], row[quantity]) for row in rows if row["peer"] == peer and quantity in row)
        # llama.cpp takes all memory for the longest context when it starts, so its prefill seems to take none.
        if not points or (quantity == "prefill_grew_bytes" and peer.startswith("llama.cpp")):
            continue
        x = [tokens for tokens, _ in points]
        y = [factor * values["median"] for _, values in points]
        below = [factor * (values["median"] - values["min"]) for _, values in points]
        above = [factor * (values["max"] - values["median"]) for _, values in points]
        colour = next(shade for name, shade in COLOURS.items() if peer.startswith(name))
        style = ("-." if "float32" in peer else ":") if "no flash" in peer else "--" if "float32" in peer else "-"
        width = 2.4 if peer.startswith("gf") else 1.4
        drawn[peer] = axes.errorbar(
            x, y, yerr=[below, above], color=colour, linestyle=style, linewidth=width, marker="o", ms=4
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(True, which="both", alpha=0.2)
    return drawn


def draw_heat_maps(passkey: list[dict[str, Any]], numbers: tuple[int, ...], path: Path) -> None:
    """Share of exact answers by document length (columns) and depth of the passkey (lines), a map for each number."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, maps = pyplot.subplots(1, len(numbers), figsize=(4.6 * len(numbers), 4.2), dpi=120, layout="constrained")
    for axes, digits in zip(maps, numbers, strict=True):
        rows = [row for row in passkey if row["digits"] == digits]
        depths = rows[0]["depths"]
        shares = [[row["by_depth"][i] for row in rows] for i in range(len(depths))]
        image = axes.imshow(shares, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
        for i, line in enumerate(shares):
            for j, share in enumerate(line):
                axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(rows)), [f"{row['length']:,}" for row in rows], fontsize=8)
        axes.set_yticks(range(len(depths)), [f"{100 * depth:.0f} %" for depth in depths], fontsize=8)
        axes.set_xlabel("document tokens")
        axes.set_title(f"{digits}-digit passkey, exact answers in %", fontsize=10)
    maps[0].set_ylabel("depth of the passkey")
    figure.colorbar(image, ax=maps, format=lambda value, _: f"{100 * value:.0f} %")
    figure.savefig(path, metadata={"Software": ""})
    pyplot.close(figure)


def draw_not_stated(record: dict[str, Any], path: Path) -> None:
    """Recall against precision of "Not stated." and against right answers, along the threshold; a curve per policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(9.0, 3.8), dpi=120, layout="constrained", sharex=True)
    named = {"hybrid": "#b8860b", "lexical": "#5f9e6e", "all": "#4472a8"}
    for axes, value in zip(both, ("precision", "exact"), strict=True):
        for policy, colour in named.items():
            rows = [row for row in record.get(policy, {}).get("not_stated", ()) if row[value] is not None]
            points = [(100 * row["recall"], 100 * row[value]) for row in rows]
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, linewidth=1.2, label=policy)
            marked = dict(zip(points[::4], rows[::4], strict=True))  # of thresholds that change nothing, the highest
            for point, row in marked.items():
                axes.annotate(f"{row['least_likelihood']:.1f}", point, fontsize=7, color=colour)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.2)
        axes.set_xlabel('recall of "Not stated.", %')
    both[0].set_ylabel('precision of "Not stated.", %')
    both[1].set_ylabel("answered questions answered exactly, %")
    both[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Software": ""})
    pyplot.close(figure)


def draw_training(runs: list[dict[str, Any]], path: Path) -> None:
    """Loss of the answers and of all tokens over the runs that the embedded model went through."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.0, 4.2), dpi=120)
    for column, label, colour in ((1, "all tokens, weighted", "#4472a8"), (2, "answers", "#b8860b")):
        for i, run in enumerate(runs):
            points = [(row[0] / 1e6, row[column]) for row in run["curve"]]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.0, label=None if i else label)
    for run in runs:
        start = run["curve"][0][0] / 1e6
        axes.axvline(start, color="0.8", linewidth=0.8, zorder=0)
        axes.text(start + 0.4, 5.9, run["recipe"], rotation=90, fontsize=7, va="top", color="0.4")
    axes.set_ylim(0, 6)
    axes.set_xlabel("training tokens, millions")
    axes.set_ylabel("loss, nats per token")
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1.0, 0.68), fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": ""})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
