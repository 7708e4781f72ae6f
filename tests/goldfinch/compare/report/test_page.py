"""The page in a browser: nothing it complains of, every mark drawn, no wider than a phone; and nobody's markup in it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from goldfinch.compare.methods import BENCHMARK, methods_of
from goldfinch.compare.report.plots import colour_of, heat_map, scatter
from goldfinch.compare.report.record import record
from goldfinch.compare.report.tables import cells_csv, costs_csv, plain
from goldfinch.compare.rows import Key, Row
from goldfinch.compare.run import Compared, NotRun, Options
from goldfinch.compare.summary import Summary, summary_of
from goldfinch.compare.tasks.registry import tasks_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
METHODS = ["all"]
SIZES = {"rows": 5000, "states": 2000, "ids": 300, "index": 400, "rest": 100}


def summary(name: str = "mini", *, untrained: bool = False, documents: int = 12) -> Summary:
    options = Options(methods_of(METHODS), tasks_of(["needles-7", "facts", "language"]), [1000, 4000])
    model = Compared(name, {"kind": "goldfinch", "shape": "6 x 192", "numerics": "cpu", "fingerprint": "0"}, untrained)
    for tokens in options.lengths:
        for task in options.tasks:
            for n, method in enumerate(options.methods):
                for document in range(documents):
                    key = Key(
                        "m", "t", "p", "{}", method.name, method.settings, task.name, tokens, 0, document, "d", "1"
                    )
                    score = 0.1 + ((n + document) % 5) / 5 if n % 4 else 1.0
                    scores = tuple(min(score, 1.0) for _ in range(10))
                    depths = tuple(d / 9 if task.is_needle else None for d in range(10))
                    sizes = SIZES | {"rows": SIZES["rows"] * tokens // 1000 // (n + 1)}
                    row = (1.0, 0.1, 0.01, 0.05, 50.0, 1 << 28, 0.5)
                    model.rows.append(Row(key, tokens, scores, depths, (6,) * 10, sizes, *row))
    model.not_run.append(NotRun("no room", method="int8", tokens=9))
    return summary_of([model], options)


@pytest.fixture(scope="module")
def html() -> str:
    pytest.importorskip("jinja2")
    from goldfinch.compare.report.page import page

    return page(summary(), "gf bench methods -o report/")


def test_the_page_needs_nothing_else(html: str) -> None:
    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', html)
    assert "url(" not in html
    assert html.count('<figure class="plot">') == 4  # all, and rows alone, of two lengths
    assert html.count('<table class="gaps">') == 2
    assert html.count('<figure class="map">') == len(methods_of(METHODS))
    assert "gf bench methods -o report/" in html
    assert "int8, 9 tokens: no room" in html
    assert "KIVI, arXiv 2402.02750" in html


def test_nobodys_markup_is_markup() -> None:
    pytest.importorskip("jinja2")
    from goldfinch.compare.report.page import page

    found = summary(EVIL)
    found.models[0].not_run.append(NotRun(EVIL, task=EVIL))
    found.models[0].about["shape"] = EVIL
    text = page(found, EVIL)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def test_few_questions_are_preliminary() -> None:
    pytest.importorskip("jinja2")
    from goldfinch.compare.report.page import page

    few, many = summary(documents=9), summary(documents=10)
    assert "preliminary" in page(few, "")
    assert ">n 90<" in page(few, "")
    assert "preliminary</span>" not in page(many, "")
    assert "100.0*" in plain(few)
    assert "100.0*" not in plain(many)


def test_random_weights_have_no_quality() -> None:
    pytest.importorskip("jinja2")
    from goldfinch.compare.report.page import page

    found = summary(untrained=True)
    text = page(found, "")
    assert "random weights" in text
    assert '<figure class="plot">' not in text
    assert '<table class="quality">' not in text
    assert '<table class="bytes">' in text
    assert "random weights" in plain(found)


def test_tables_to_compute_with() -> None:
    found = summary("=1+1")
    cells, costs = (list(csv.DictReader(io.StringIO(text))) for text in (cells_csv(found), costs_csv(found)))
    assert len(cells) == len(found.cells)
    assert {row["model"] for row in cells} == {"'=1+1"}  # no formula
    full = next(row for row in costs if row["method"] == "full" and row["tokens"] == "1000")
    assert float(full["bytes"]) == 5000 + 2000 + 300 + 100  # nothing reads by words
    by_words = next(row for row in costs if row["method"] == "read-lexical" and row["tokens"] == "1000")
    assert float(by_words["bytes"]) == sum(float(by_words[f"{part}_bytes"]) for part in SIZES)
    assert json.loads(json.dumps(record(found, "x")))["cells"][0]["score"]["questions"] == 120


def test_places_of_marks() -> None:
    names = [(f"m{n}", "codec", 10.0 + 50 * n, n / 20, n % 2 == 0) for n in range(20)]
    plot = scatter(names)
    xs, ys = [mark.x for mark in plot.marks], [mark.y for mark in plot.marks]
    assert xs == sorted(xs)
    assert ys == sorted(ys, reverse=True)
    assert all(plot.left <= x <= plot.right and plot.top <= y <= plot.bottom for x, y in zip(xs, ys, strict=True))
    assert all(plot.left <= tick.at <= plot.right for tick in plot.x_ticks)
    assert len(scatter([("a", "codec", 5.0, 0.5, True)]).marks) == 1
    squares = heat_map([1000, 4000], {(1000, 0): (1.0, 3), (4000, 9): (0.0, 3)}).squares
    assert [square.text for square in squares] == ["100%", "0%"]
    assert colour_of(0.0) != colour_of(0.5) != colour_of(1.0)


# Measures a page in a frame as wide as a screen: windows of a browser are never as narrow as a phone.
MEASURE = """<!doctype html><iframe id="frame" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe><script>
document.getElementById("frame").onload = event => {{
  const page = event.target.contentDocument, boxes = [...page.querySelectorAll("svg .mark")].map(
    one => [one.getBoundingClientRect(), one.ownerSVGElement.getBoundingClientRect()]);
  const drawn = boxes.filter(([a, b]) => a.width > 2 && a.height > 2 && a.left >= b.left - 1 && a.right <= b.right + 1
    && a.top >= b.top - 1 && a.bottom <= b.bottom + 1);
  const small = [...page.querySelectorAll("svg text")].filter(one => one.getBoundingClientRect().height < 8);
  document.title = JSON.stringify({{marks: boxes.length, drawn: drawn.length, small: small.length,
    wide: page.documentElement.scrollWidth, inner: event.target.contentWindow.innerWidth}});
}};
</script>"""


def browser(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    fixed = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder}/profile",
    ]
    return subprocess.run([CHROMIUM, *fixed, *arguments], capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(width: int, html: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html)
    done = browser(
        "--enable-logging=stderr",
        f"--window-size={width},900",
        "--dump-dom",
        f"file://{tmp_path}/page.html",
        folder=tmp_path,
    )
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count('<figure class="plot">') == 4
    framed = MEASURE.format(width=width, page=escape(re.sub(r"<meta http-equiv=[^>]*>", "", html)))
    (tmp_path / "measured.html").write_text(framed)
    done = browser("--window-size=1400,1000", "--dump-dom", f"file://{tmp_path}/measured.html", folder=tmp_path)
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title is not None
    found = json.loads(title[1])
    assert found["inner"] == width
    assert found["wide"] <= width, "the page scrolls sideways"
    assert found["small"] == 0, "text too small to read"
    plots = len([one for one in methods_of(METHODS) if one.family != BENCHMARK]) * 4
    maps = len(methods_of(METHODS)) * 2 * 10
    key = 4
    assert found["marks"] == found["drawn"] == plots + maps + key


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_page_with_an_error_is_noticed(html: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html.replace("</body>", '<img src="http://example.org/x.png"></body>'))
    done = browser("--enable-logging=stderr", "--dump-dom", f"file://{tmp_path}/page.html", folder=tmp_path)
    assert "CONSOLE" in done.stderr
