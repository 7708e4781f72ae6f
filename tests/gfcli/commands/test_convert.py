"""gf convert and --codec: smaller caches of rounded values, made, shown, continued, checked and planned."""

from __future__ import annotations

import json
from pathlib import Path

import gfcache
import jsonschema
import pytest
from gfcache import Coding

from gfcli.app import run
from goldfinch.measure.choosing import LADDER
from tests.cache_format.craft import craft
from tests.conftest import SAMPLES
from tests.schemas import schema

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()
SMALL = ["--codec", "step3", "--state-codec", "int8"]


@pytest.fixture
def plain(work: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """doc.gfc as computed, with a checkpoint; the model is the one of the settings."""
    Path("doc.txt").write_text(TEXT[:6000])
    assert run(["prefill", "doc.txt", "-q", "--checkpoints", "512"]) == 0
    capsys.readouterr()
    return work / "doc.gfc"


def coding(path: str) -> Coding:
    with gfcache.read_cache(path) as file:
        return Coding.of(file.header.numerics)


@pytest.mark.usefixtures("plain")
def test_converting_is_prefilling_with_the_codecs(capsys) -> None:
    assert run(["convert", "doc.gfc", *SMALL, "-o", "small.gfc"]) == 0
    out, err = capsys.readouterr()
    assert out == "small.gfc\n"
    assert "before" in err
    assert run(["prefill", "doc.txt", "-q", "--checkpoints", "512", *SMALL, "-o", "made.gfc"]) == 0
    assert run(["diff", "small.gfc", "made.gfc"]) == 0
    assert Path("small.gfc").stat().st_size < 0.8 * Path("doc.gfc").stat().st_size
    assert run(["diff", "doc.gfc", "small.gfc"]) == 10
    assert "numerics differ: rows_codec" in capsys.readouterr().out
    assert run(["ask", "--cache", "small.gfc", "-n", "3", "What?"]) == 0
    assert run(["convert", "doc.gfc", *SMALL]) == 0
    assert Path("doc.gfc").read_bytes() == Path("small.gfc").read_bytes()


@pytest.mark.usefixtures("plain")
def test_what_a_codec_lost_is_shown(capsys) -> None:
    assert run(["prefill", "doc.txt", "-q", *SMALL, "-o", "small.gfc"]) == 0
    capsys.readouterr()
    assert run(["inspect", "small.gfc"]) == 0
    assert "compressed_k by step3, state by int8" in capsys.readouterr().out
    assert run(["status", "small.gfc", "doc.gfc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["keys step3, state int8" in line for line in lines] == ["small.gfc" in line for line in lines]
    assert run(["status", "--json", "small.gfc", "doc.gfc"]) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schema("status"))
    assert {(row["codec"], row["state_codec"]) for row in shown["caches"]} == {("step3", "int8"), (None, None)}


@pytest.mark.usefixtures("plain")
def test_replay_computes_what_the_codecs_make(capsys) -> None:
    assert run(["convert", "doc.gfc", *SMALL, "-o", "small.gfc"]) == 0
    capsys.readouterr()
    assert run(["verify", "--replay", "100%", "small.gfc"]) == 0
    assert "equal bit for bit" in capsys.readouterr().out


@pytest.mark.usefixtures("plain")
def test_a_rounded_document_grows_shrinks_and_is_refreshed_as_a_cold_run_would_make_it(capsys) -> None:
    options = ["-q", "--checkpoints", "512"]
    assert run(["prefill", "doc.txt", *options, *SMALL]) == 0
    assert coding("doc.gfc") == Coding("step3", "int8")
    Path("more.txt").write_text(TEXT[6000:7000])
    Path("whole.txt").write_text(TEXT[:7000])
    assert run(["append", "doc.gfc", "more.txt", "-o", "grown.gfc", "--checkpoints", "512"]) == 0
    assert "reused" in capsys.readouterr().err
    assert run(["prefill", "whole.txt", *options, *SMALL]) == 0
    assert run(["diff", "grown.gfc", "whole.gfc"]) == 0
    assert run(["truncate", "whole.gfc", "--to-token", "700", "-o", "short.gfc", "--checkpoints", "512"]) == 0
    assert run(["verify", "--replay", "100%", "short.gfc"]) == 0
    assert coding("short.gfc") == Coding("step3", "int8")
    Path("doc.txt").write_text(TEXT[:7000])
    assert run(["refresh", "doc.gfc"]) == 0
    assert run(["diff", "doc.gfc", "whole.gfc"]) == 0


@pytest.mark.usefixtures("plain")
def test_a_state_that_was_rounded_is_nothing_to_go_on_from(capsys) -> None:
    assert run(["prefill", "doc.txt", "-q", "--checkpoints", "none", *SMALL]) == 0
    Path("more.txt").write_text("More.")
    assert run(["append", "doc.gfc", "more.txt", "-o", "grown.gfc"]) == 0
    assert "int8 has rounded its state" in capsys.readouterr().err
    assert run(["prefill", "--base", "doc.gfc", "more.txt"]) != 0
    assert "no position to resume from" in capsys.readouterr().err


@pytest.mark.usefixtures("plain")
def test_a_child_of_a_rounded_base(capsys) -> None:
    assert run(["convert", "doc.gfc", *SMALL]) == 0
    Path("chap.txt").write_text("Chapter one. " + TEXT[500:900])
    assert run(["prefill", "--base", "doc.gfc", "chap.txt", "-q", "--codec", "step2"]) == 0
    assert run(["verify", "--replay", "100%", "chap.gfc"]) == 0
    assert run(["flatten", "chap.gfc", "-o", "flat.gfc"]) == 0
    assert run(["verify", "--replay", "100%", "flat.gfc"]) == 0
    assert "equal bit for bit" in capsys.readouterr().out
    assert run(["refresh", "chap.gfc"]) == 0


@pytest.mark.usefixtures("plain")
def test_fresh_is_a_cache_of_the_codecs_asked_for_or_of_any(capsys) -> None:
    assert run(["convert", "doc.gfc", *SMALL]) == 0
    before = Path("doc.gfc").read_bytes()
    assert run(["prefill", "doc.txt", "--checkpoints", "512", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == "fresh"
    assert run(["prefill", "doc.txt", "--checkpoints", "512", *SMALL]) == 0
    assert Path("doc.gfc").read_bytes() == before
    assert run(["prefill", "doc.txt", "--checkpoints", "512", "--codec", "raw"]) == 0
    assert coding("doc.gfc") == Coding()
    assert run(["prefill", "--library", "doc.txt", *SMALL, "-q"]) == 0
    capsys.readouterr()
    assert run(["cache", "ls", "--json"]) == 0
    assert run(["prefill", "--library", "doc.txt", "--codec", "step2", "-q"]) == 0


@pytest.mark.usefixtures("plain")
def test_settings_name_codecs(capsys, monkeypatch) -> None:
    Path("gf.toml").write_text('codec = "step2"\nstate_codec = "bf16"\n')
    assert run(["prefill", "doc.txt", "-q"]) == 0
    assert coding("doc.gfc") == Coding("step2", "bf16")
    monkeypatch.setenv("GF_CODEC", "zip")
    capsys.readouterr()
    assert run(["prefill", "doc.txt", "-q"]) == 2
    assert "GF_CODEC: codec is 'zip', allowed: raw, bf16" in capsys.readouterr().err


@pytest.mark.usefixtures("plain")
def test_what_cannot_be_rounded_is_refused(capsys) -> None:
    assert run(["convert", "doc.gfc"]) == 2
    assert "--codec" in capsys.readouterr().err
    assert run(["convert", "doc.gfc", "--codec", "step9"]) == 2
    assert "allowed: raw, bf16" in capsys.readouterr().err
    assert run(["convert", "doc.gfc", "--state-codec", "step3"]) == 2
    assert run(["convert", "doc.gfc", "--codec", "step3", "-o", "small.gfc"]) == 0
    before = Path("small.gfc").read_bytes()
    capsys.readouterr()
    assert run(["convert", "small.gfc", "--codec", "step2"]) == 2
    err = capsys.readouterr().err
    assert "rounded by step3" in err
    assert "hint: pre-fill the document again" in err
    assert Path("small.gfc").read_bytes() == before
    assert run(["convert", "doc.gfc", "--codec", "step3", "-o", "small.gfc"]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize("codecs", [SMALL, ["--codec", "step2", "--state-codec", "int4"], ["--codec", "int8"]])
@pytest.mark.usefixtures("work")
def test_a_plan_knows_the_size(codecs: list[str], capsys) -> None:
    Path("long.txt").write_text(TEXT * 3)
    assert run(["plan", "long.txt", "--json", *codecs]) == 0
    planned = json.loads(capsys.readouterr().out)["documents"][0]["bytes"]
    assert run(["prefill", "long.txt", "-q", *codecs]) == 0
    assert planned == pytest.approx(Path("long.gfc").stat().st_size, rel=0.05)


@pytest.mark.usefixtures("work")
def test_a_receipt_is_measured_shown_and_measured_again(capsys) -> None:
    Path("doc.txt").write_text(TEXT[:1500])
    assert run(["prefill", "doc.txt", "-q", *SMALL, "--receipt"]) == 0
    assert run(["prefill", "doc.txt", "-q", "-o", "plain.gfc"]) == 0
    assert run(["convert", "plain.gfc", *SMALL, "--receipt", "-o", "same.gfc"]) == 0
    assert run(["diff", "doc.gfc", "same.gfc"]) == 0
    capsys.readouterr()
    assert run(["inspect", "doc.gfc"]) == 0
    assert "of 256 most likely tokens changed (behind passages" in capsys.readouterr().out
    assert run(["inspect", "--json", "doc.gfc"]) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schema("inspect"))
    assert shown["error_receipt"]["document"]["positions"] == 256
    assert run(["verify", "--replay", "100%", "--json", "doc.gfc"]) == 0
    assert json.loads(capsys.readouterr().out)["receipt_reproduced"]
    with gfcache.read_cache("doc.gfc") as file:
        values = file.array(file.section("error_receipt")).copy()
    values[5] /= 2
    craft(Path("doc.gfc"), Path("doc.gfc"), arrays={"error_receipt": values})
    assert run(["verify", "--replay", "100%", "doc.gfc"]) == 10
    assert "its receipt says" in capsys.readouterr().err


@pytest.mark.usefixtures("work")
def test_bounds_choose_codecs(capsys) -> None:
    Path("doc.txt").write_text(TEXT[:1500])
    assert run(["prefill", "doc.txt", "-q", "--max-kl", "10"]) == 0
    assert coding("doc.gfc") == LADDER[-1]
    assert run(["prefill", "doc.txt", "--max-kl", "10", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == "fresh"
    assert run(["prefill", "doc.txt", "-q", "--max-kl", "0"]) == 0
    assert coding("doc.gfc") == Coding()
    limit = Path("doc.gfc").stat().st_size * 2 // 3
    assert run(["convert", "doc.gfc", "--max-bytes", str(limit), "-o", "small.gfc"]) == 0
    assert Path("small.gfc").stat().st_size <= limit
    assert run(["convert", "doc.gfc", "--max-bytes", "1k", "-o", "none.gfc"]) == 10
    assert not Path("none.gfc").exists()
    capsys.readouterr()
    for wrong, words in (
        (["prefill", "doc.txt", "--max-kl", "1", *SMALL], "they choose the codecs"),
        (["prefill", "doc.txt", "--receipt"], "name them"),
        (["prefill", "doc.txt", "--max-kl", "1", "--library"], "--library"),
        (["prefill", "doc.txt", "--max-bytes", "many"], "a size such as 4g"),
        (["convert", "small.gfc", "--max-kl", "1"], "a codec has rounded it"),
    ):
        assert run(wrong) == 2
        assert words in capsys.readouterr().err
