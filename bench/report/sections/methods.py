"""docs/methods-results.md: what a committed comparison of methods says, all of it from the record."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
_HEAD = (
    "# Which method at which size",
    "",
    "Generated from `bench/results/methods.json` by `python -m bench.report.page`; do not edit. "
    "[How it is measured](methods.md).",
    "",
    "Scores in percent, each with its difference to the full cache of the same model and the same questions where the "
    "95 % interval of that leaves out zero. `*`: fewer than {enough} questions, of which nothing follows. Bytes are "
    "those of a file and of its rows alone, for each token, at the length stated. Times are left out: the machine did "
    "other work, too.",
    "",
)
WIDTH = 116
# Bytes of a value, by compute dtype.
_SIZES = {"f32": 4, "bf16": 2, "f64": 8}
# What a comparison should have, and no record here has.
_MISSING = (
    "Finch, Finch-C2, GPTAlpha and Llama of gf-mini-4's size: they are not trained here, which takes hours for each. "
    "[The commands](methods.md#models) are there; their bytes `gf bench methods --arithmetic` gives by formula.",
    "Trained recurrent and hybrid models of others: none were at hand. Those above with random weights show bytes.",
    "RecurrentGemma: `gf model import` refuses it, for it keeps its state in its modules, where the next document "
    "overwrites it; its bytes by formula are among those of `--arithmetic`.",
    "A GPU, and other processors than the one named.",
)


def methods_page(record: Row) -> str:
    """The page."""
    reports = record["reports"]
    lines = [line.format(enough=reports[0]["enough_questions"]) for line in _HEAD]
    lines += [line for report in reports for line in _report(report)]
    lines += ["## Where GoldFinch wins, and where it loses", "", *_beside(reports), ""]
    missing = (*_not_run(reports), *_MISSING)
    lines += ["## Not run", "", *(f"- {reason}" for reason in missing), ""]
    lines += ["## Made by", ""]
    lines += ["| commit | command |", "|---|---|"]
    lines += [f"| {report['conditions']['commit']} | `{report['command']}` |" for report in reports]
    return "\n".join(short for line in lines for short in _wrapped(line)).rstrip() + "\n"


def _wrapped(line: str) -> list[str]:
    """Prose in lines of at most WIDTH characters; tables stay as they are."""
    if line.startswith("|") or len(line) <= WIDTH:
        return [line]
    behind = "  " if line.startswith("- ") else ""
    return textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent=behind)


def _report(report: Row) -> Iterator[str]:
    for model in report["models"]:
        for tokens in sorted({cost["tokens"] for cost in report["costs"] if cost["model"] == model["name"]}):
            costs = [c for c in report["costs"] if (c["model"], c["tokens"]) == (model["name"], tokens)]
            cells = [c for c in report["cells"] if (c["model"], c["tokens"]) == (model["name"], tokens)]
            yield from _table(report, model, tokens, costs, cells)
            if not model["untrained"]:
                yield from _conclusions(report, costs, cells)
            yield ""


def _table(report: Row, model: Row, tokens: int, costs: list[Row], cells: list[Row]) -> Iterator[str]:
    scored = [] if model["untrained"] else cells
    tasks = [task["name"] for task in report["tasks"] if any(cell["task"] == task["name"] for cell in scored)]
    yield f"## {model['name']}, documents of {tokens:,} tokens"
    yield ""
    random = "; random weights: the bytes are true, and there are no scores" if model["untrained"] else ""
    yield (
        f"{model['kind']}, {model['shape']}{random}; {model['numerics']}; {report['conditions']['processor']}, "
        f"commit {report['conditions']['commit']}."
    )
    yield ""
    yield "| " + " | ".join(["method", "bytes per token", "of rows", *(["mean"] if tasks else []), *tasks]) + " |"
    yield "|---|---|---|" + "---|" * (len(tasks) + bool(tasks))
    for cost in costs:
        found = {cell["task"]: cell for cell in cells if cell["method"] == cost["method"]}
        front = "**" if cost["on_front"] and tasks else ""
        shown = [f"{front}`{cost['method']}`{front}"]
        shown += [f"{size / cost['length']:,.1f}" for size in (cost["bytes"], cost["parts"]["rows"])]
        if tasks:
            shown.append("" if cost["quality"] is None else _percent(cost["quality"]))
            shown += [_score(found.get(task), report["enough_questions"]) for task in tasks]
        yield "| " + " | ".join(shown) + " |"
    yield ""
    if tasks:
        yield "Bold: no other file has fewer bytes and as good a mean."
        yield ""


def _score(cell: Row | None, enough: int) -> str:
    if cell is None:
        return ""
    few = "*" if cell["score"]["questions"] < enough else ""
    lost = cell["difference"]
    apart = f" ({100 * lost['value']:+.1f})" if lost is not None and _excludes_zero(lost) else ""
    return f"{_percent(cell['score']['value'])}{apart}{few}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _excludes_zero(mean: Row) -> bool:
    return mean["low"] is not None and (mean["low"] > 0 or mean["high"] < 0)


def _conclusions(report: Row, costs: list[Row], cells: list[Row]) -> Iterator[str]:
    """What follows from tasks of enough questions; nothing where there is none."""
    enough = report["enough_questions"]
    whole = {cell["task"] for cell in cells if cell["method"] == "full" and cell["score"]["questions"] >= enough}
    if not whole:
        yield "- Too few questions for any conclusion about quality; the bytes stand."
        return
    yield f"From {', '.join(sorted(whole))}:"
    yield ""
    families = {one["name"]: one["family"] for one in report["methods"]}
    by_method: dict[str, dict[str, Row]] = {}
    for cell in cells:
        if cell["task"] in whole:
            by_method.setdefault(cell["method"], {})[cell["task"]] = cell
    full = next(cost for cost in costs if cost["method"] == "full")
    sound = [c for c in costs if families[c["method"]] != "benchmark" and _is_sound(by_method.get(c["method"], {}))]
    least = min(sound, key=lambda cost: int(cost["bytes"]))
    yield (
        f"- The smallest file that answers no task significantly worse than the full cache is `{least['method']}`: "
        f"{least['bytes'] / least['length']:,.1f} bytes a token, {full['bytes'] / least['bytes']:.1f} times fewer than "
        f"the full cache."
    )
    worse = [c["method"] for c in costs if families[c["method"]] == "codec" and c not in sound]
    if worse:
        yield f"- Codecs that answer some task worse: {', '.join(f'`{name}`' for name in worse)}."
    dropping = [c for c in costs if families[c["method"]] == "dropping" and not c["method"].startswith("random")]
    if dropping:
        yield from _of_dropping(dropping, costs, by_method, sorted(whole))
    for gap in report["gaps"]:
        mine = (gap["model"], gap["tokens"]) == (full["model"], full["tokens"])
        if mine and gap["task"] in whole and _excludes_zero(gap["gap"]):
            yield (
                f"- {gap['task']}: `{gap['method']}` done as the paper's code does it, which has seen the question, "
                f"answers {100 * gap['gap']['value']:+.1f} points beside the same in a file."
            )


def _of_dropping(
    dropping: list[Row], costs: list[Row], by_method: dict[str, dict[str, Row]], tasks: list[str]
) -> Iterator[str]:
    """The best policy beside rows drawn at random, and beside the full cache."""

    def mean(method: str) -> float:
        return sum(float(by_method[method][task]["score"]["value"]) for task in tasks) / len(tasks)

    best = max(dropping, key=lambda cost: mean(cost["method"]))
    by_chance = next((cost for cost in costs if cost["method"].startswith("random")), None)
    beside = "" if by_chance is None else f", rows drawn at random {_percent(mean(by_chance['method']))}"
    yield (
        f"- Of the policies that drop rows before a question is known, `{best['method']}` is the best, with "
        f"{_percent(mean(best['method']))} where the full cache has {_percent(mean('full'))}{beside}."
    )
    codecs = [c for c in costs if c["parts"]["rows"] <= best["parts"]["rows"] and c["method"] in by_method]
    fewer = [c for c in codecs if c is not best and "question" not in c["method"] and c not in dropping]
    fewer = [c for c in fewer if c is not by_chance]
    if fewer:
        other = max(fewer, key=lambda cost: mean(cost["method"]))
        yield (
            f"- In as few bytes of rows, or fewer, `{other['method']}` has {_percent(mean(other['method']))}: rounding "
            "all rows beats keeping some of them."
            if mean(other["method"]) > mean(best["method"])
            else f"- In as few bytes of rows no codec answers better than `{best['method']}`."
        )


def _is_sound(cells: dict[str, Row]) -> bool:
    """Whether no task is answered significantly worse than by the full cache."""
    lost = [cell["difference"] for cell in cells.values()]
    return bool(cells) and not any(d is not None and d["high"] is not None and d["high"] < 0 for d in lost)


def _beside(reports: list[Row]) -> Iterator[str]:
    """The full caches of all models side by side, and where each wins."""
    full = [(report, cost) for report in reports for cost in report["costs"] if cost["method"] == "full"]
    yield "| model | tokens | bytes per token | of rows | of states |"
    yield "|---|---|---|---|---|"
    for _, cost in full:
        parts = (cost["bytes"], cost["parts"]["rows"], cost["parts"]["states"])
        sizes = " | ".join(f"{size / cost['length']:,.1f}" for size in parts)
        yield f"| {cost['model']} | {cost['tokens']:,} | {sizes} |"
    models = {model["name"]: model for report in reports for model in report["models"]}
    yield ""
    shown: set[str] = set()
    for _, cost in sorted(full, key=lambda one: int(one[1]["tokens"])):
        if models[cost["model"]]["kind"] == "goldfinch" and cost["model"] not in shown:
            shown.add(cost["model"])
            yield from _of_goldfinch(cost, models[cost["model"]])


def _of_goldfinch(cost: Row, model: Row) -> Iterator[str]:
    """Where a full cache is small, and where it is not, beside keys and values of all layers of the same shape."""
    layers, width = map(int, re.match(r"(\d+) x (\d+)", model["shape"]).groups())  # type: ignore[union-attr]
    size = _SIZES[re.search(r"compute_dtype (\w+)", model["numerics"])[1]]  # type: ignore[index]
    attention, parts, length = 2 * layers * width * size, cost["parts"], cost["length"]
    a_token = (parts["rows"] + parts["ids"]) / length
    fixed, state = cost["bytes"] - parts["rows"] - parts["ids"], parts["states"] / cost["bytes"]
    yield (
        f"- GoldFinch wins in rows: {parts['rows'] / length:,.1f} bytes a token as computed. Keys and values of all "
        f"layers at this shape and precision would take {attention:,} by formula, "
        f"{attention * length / parts['rows']:,.0f} times as many; its file is the smaller one from "
        f"{fixed / (attention - a_token):,.0f} tokens on."
    )
    yield (
        f"- It loses where documents are short: of a file of {cost['tokens']:,} tokens the state of constant size is "
        f"{100 * state:.0f} %. There a codec of states saves more than any of rows, and a policy that drops rows saves "
        f"{100 * (1 - state):.0f} % at most, whatever it drops. As many bytes of rows as of states has a document of "
        f"{parts['states'] * length / parts['rows']:,.0f} tokens."
    )


def _not_run(reports: list[Row]) -> Iterator[str]:
    """What reports name, methods with one reason together."""
    methods: dict[tuple[str, str, str], list[str]] = {}
    for report in reports:
        for model in report["models"]:
            for one in model["not_run"]:
                where = [] if one["task"] is None else [str(one["task"])]
                where += [f"{one['tokens']:,} tokens"] if one["tokens"] is not None else []
                lacking = methods.setdefault((model["name"], ", ".join(where), one["reason"]), [])
                lacking += [] if one["method"] is None else [f"`{one['method']}`"]
    for (name, place, reason), lacking in methods.items():
        what = ", ".join([*lacking, *([place] if place else [])])
        yield f"{name}: {what or 'all'}: {reason}."
