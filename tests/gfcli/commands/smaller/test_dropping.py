"""--drop and --keep: caches of fewer rows, made, converted, shown, asked, cited, checked, grown and refreshed."""

from __future__ import annotations

import json
from pathlib import Path

import gfcache
import jsonschema
import pytest
from gfcache.format.stored_rows import kept_in

from gfcli.app import run
from goldfinch.measure.choosing import KEEPS
from goldfinch.policies.dropping.named import DROPPERS
from tests.conftest import SAMPLES
from tests.schemas import schema

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()
DROP = ["--drop", "h2o", "--keep", "0.2"]


@pytest.fixture
def plain(work: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """doc.gfc as computed; the model is the one of the settings."""
    Path("doc.txt").write_text(TEXT[:4000])
    assert run(["prefill", "doc.txt", "-q"]) == 0
    capsys.readouterr()
    return work / "doc.gfc"


def dropping(path: str) -> str | None:
    with gfcache.read_cache(path) as file:
        return file.header.numerics.get("dropping")


@pytest.mark.usefixtures("plain")
def test_converting_is_prefilling(capsys) -> None:
    assert run(["convert", "doc.gfc", *DROP, "-o", "small.gfc"]) == 0
    out, err = capsys.readouterr()
    assert out == "small.gfc\n"
    assert "before" in err
    assert run(["prefill", "doc.txt", "-q", *DROP, "-o", "made.gfc"]) == 0
    assert run(["diff", "small.gfc", "made.gfc"]) == 0
    assert Path("small.gfc").stat().st_size < 0.7 * Path("doc.gfc").stat().st_size
    assert run(["diff", "doc.gfc", "small.gfc"]) == 10
    out = capsys.readouterr().out
    assert "dropping" in out
    assert "kept_positions" in out
    for codecs in (["--codec", "step3"], ["--codec", "int8", "--state-codec", "int8"]):
        assert run(["convert", "doc.gfc", *DROP, *codecs, "-o", "both.gfc", "--force"]) == 0
        assert run(["convert", "small.gfc", *codecs, "-o", "later.gfc", "--force"]) == 0  # without a model
        assert run(["diff", "both.gfc", "later.gfc"]) == 0
        assert run(["verify", "--replay", "both.gfc"]) == 0
        assert "equal bit for bit" in capsys.readouterr().out


@pytest.mark.usefixtures("plain")
def test_what_is_left_is_shown_and_answers(capsys) -> None:
    assert run(["prefill", "doc.txt", "-q", *DROP]) == 0
    capsys.readouterr()
    assert run(["inspect", "doc.gfc"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("dropped"))
    assert "rows kept by h2o 0.2 (" in line
    assert "times fewer); " in line
    assert run(["inspect", "--json", "doc.gfc"]) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schema("inspect"))
    assert shown["kept"]["policy"] == "h2o 0.2"
    assert shown["kept"]["rows"] < shown["kept"]["stored_rows"] < shown["tokens"]
    assert run(["status", "doc.gfc"]) == 0
    assert "(rows kept by h2o 0.2)" in capsys.readouterr().out
    assert run(["status", "--json", "doc.gfc"]) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schema("status"))
    assert shown["caches"][0]["dropping"] == "h2o 0.2"
    assert run(["verify", "--replay", "doc.gfc"]) == 0
    assert "token ids compared with the document" in capsys.readouterr().out
    assert run(["ask", "--cache", "doc.gfc", "--read", "all", "--json", "-n", "3", "What?"]) == 0
    capsys.readouterr()
    assert run(["ask", "--cache", "doc.gfc", "--read", "attention", "-n", "3", "What?"]) != 0
    assert "rows were dropped (h2o 0.2)" in capsys.readouterr().err


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("read", ["all", "lexical"])
def test_lines_are_counted_in_the_whole_document(read: str, capsys) -> None:
    """Only rows of the last tenth are left, and the lines that are cited are lines of the document."""
    assert run(["convert", "doc.gfc", "--drop", "streaming", "--keep", "0.1", "-o", "end.gfc"]) == 0
    capsys.readouterr()
    assert run(["ask", "--cache", "end.gfc", "--cite", "--json", "-n", "8", "--read", read, "What of freedom?"]) == 0
    citations = json.loads(capsys.readouterr().out)["citations"]
    lines = TEXT[:4000].split("\n")
    for one in citations:
        assert one["text"].replace("...", "") in lines[one["line"] - 1]
    if read == "all" and citations:
        assert citations[0]["first_line"] > 0.6 * len(lines)


@pytest.mark.usefixtures("plain")
def test_it_grows_shrinks_and_is_refreshed_as_a_cold_run_would_make_it(capsys) -> None:
    assert run(["prefill", "doc.txt", "-q", *DROP]) == 0
    assert dropping("doc.gfc") == "h2o 0.2"
    Path("more.txt").write_text(TEXT[4000:4600])
    Path("whole.txt").write_text(TEXT[:4600])
    capsys.readouterr()
    assert run(["append", "doc.gfc", "more.txt", "-o", "grown.gfc"]) == 0
    assert "rows of it were dropped (h2o 0.2): all of it is computed again" in capsys.readouterr().err
    assert run(["prefill", "whole.txt", "-q", *DROP]) == 0
    assert run(["diff", "grown.gfc", "whole.gfc"]) == 0
    assert run(["truncate", "whole.gfc", "--to-token", "500", "-o", "short.gfc"]) == 0
    assert run(["verify", "--replay", "short.gfc"]) == 0
    assert dropping("short.gfc") == "h2o 0.2"
    Path("doc.txt").write_text(TEXT[:4600])
    assert run(["status", "doc.gfc"]) == 0
    assert run(["refresh", "doc.gfc"]) == 0
    assert run(["diff", "doc.gfc", "whole.gfc"]) == 0


@pytest.mark.usefixtures("plain")
def test_fresh_is_what_keeps_the_rows_asked_for() -> None:
    def made(*options: str) -> bool:
        before = Path("doc.gfc").read_bytes()
        assert run(["prefill", "doc.txt", "-q", *options]) == 0
        return Path("doc.gfc").read_bytes() != before

    assert made(*DROP)
    assert not made(*DROP)
    assert not made()  # any will do
    assert made("--drop", "h2o", "--keep", "0.3")
    assert made("--drop", "random", "--keep", "0.3")
    assert dropping("doc.gfc") == "random 0.3"
    assert made("--force")
    assert dropping("doc.gfc") is None


@pytest.mark.usefixtures("plain")
def test_nothing_continues_it(capsys) -> None:
    assert run(["convert", "doc.gfc", *DROP]) == 0
    Path("chap.txt").write_text("Chapter one.")
    assert run(["prefill", "--base", "doc.gfc", "chap.txt"]) != 0
    assert "no position to resume from" in capsys.readouterr().err


@pytest.mark.usefixtures("plain")
def test_what_goes_together(capsys) -> None:
    base = ["--base", "doc.gfc"]
    for options, said in (
        (["--keep", "0.2"], "--keep without --drop"),
        (["--drop", "h2o"], "without a share to keep"),
        (["--drop", "h2o", "--keep", "1.0"], "a number between 0 and 1"),
        (["--drop", "newest", "--keep", "0.2"], ", ".join(DROPPERS)),
        ([*DROP, "--max-kl", "0.1"], "--keep with --max-kl"),
        ([*DROP, *base], "with --base"),
        ([*DROP, "--library"], "with --library"),
    ):
        assert run(["prefill", "doc.txt", *options]) == 2
        assert said in capsys.readouterr().err
    assert run(["model", "init", "--preset", "finch-tiny", "-o", "finch"]) == 0
    assert run(["prefill", "doc.txt", "-m", "./finch", "-o", "finch.gfc", *DROP]) == 2  # before anything is loaded
    assert "finch has no attention layers" in capsys.readouterr().err
    assert run(["convert", "doc.gfc", "--codec", "int8", "-o", "round.gfc"]) == 0
    assert run(["convert", "round.gfc", *DROP, "-o", "no.gfc"]) != 0
    assert "a codec has rounded its rows" in capsys.readouterr().err
    assert not Path("no.gfc").exists()


@pytest.mark.usefixtures("plain")
def test_bounds_choose_how_many_rows_stay(capsys) -> None:
    assert run(["convert", "doc.gfc", *DROP, "--receipt", "-o", "fifth.gfc"]) == 0
    assert run(["verify", "--replay", "fifth.gfc"]) == 0
    assert "the receipt of its codecs holds" in capsys.readouterr().out
    with gfcache.read_cache("fifth.gfc") as file:
        receipt = gfcache.receipt_in(file)
    assert receipt is not None
    assert receipt.mean_kl > 0
    bound = f"{1.5 * receipt.mean_kl:.6f}"
    assert run(["prefill", "doc.txt", "-q", "--drop", "h2o", "--max-kl", bound, "-o", "found.gfc"]) == 0
    noted = dropping("found.gfc")
    assert noted is not None
    assert float(noted.split()[1]) in KEEPS
    with gfcache.read_cache("found.gfc") as file:
        found = gfcache.receipt_in(file)
        assert kept_in(file) is not None
    assert found is not None
    assert found.mean_kl <= float(bound)
    size = Path("doc.gfc").stat().st_size * 3 // 4
    assert run(["convert", "doc.gfc", "--drop", "h2o", "--max-bytes", str(size), "-o", "fits.gfc"]) == 0
    assert Path("fits.gfc").stat().st_size <= size
