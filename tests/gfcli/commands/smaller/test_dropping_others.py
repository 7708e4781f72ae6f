"""--drop and --keep with models of others: made, converted, shown, asked, cited, checked, grown and refreshed."""

from __future__ import annotations

import json
from pathlib import Path

import gfcache
import jsonschema
import pytest

from gfcli.app import run
from goldfinch.foreign.importing import import_foreign
from tests.goldfinch.foreign.folders import write_folder
from tests.schemas import schema

TEXT = "".join(f"The colour of item {n} is blue.\n" for n in range(20))
DROP = ["--drop", "snapkv", "--keep", "0.5"]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    for name in ("llama", "mamba"):
        wide = {} if name == "mamba" else {"max_position_embeddings": 2048}
        import_foreign(write_folder(folder / "hub" / name, name, **wide), folder / "models" / name, prompt="plain")
    return folder / "models"


@pytest.fixture
def plain(others: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """doc.gfc as computed, in the current folder."""
    for name, value in (("GF_MODELS_DIR", str(others)), ("GF_MODEL", "llama"), ("GF_DTYPE", "float32")):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    Path("doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "-q"]) == 0
    capsys.readouterr()


@pytest.mark.usefixtures("plain")
def test_converting_is_prefilling_and_what_is_left_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "doc.gfc", *DROP, "-o", "small.gfc"]) == 0
    assert run(["prefill", "doc.txt", "-q", *DROP, "-o", "made.gfc"]) == 0
    assert run(["diff", "small.gfc", "made.gfc"]) == 0
    assert Path("small.gfc").stat().st_size < 0.7 * Path("doc.gfc").stat().st_size
    assert run(["verify", "--replay", "small.gfc"]) == 0
    assert "equal bit for bit" in capsys.readouterr().out
    assert run(["inspect", "small.gfc"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("dropped"))
    assert "rows kept by snapkv 0.5 (2.0 times fewer); 4 heads of layers, each with rows of its own" in line
    assert run(["inspect", "--json", "small.gfc"]) == 0
    shown = json.loads(capsys.readouterr().out)
    jsonschema.validate(shown, schema("inspect"))
    assert (shown["kept"]["rows"], shown["kept"]["sets"], shown["kept"]["runs"]) == (shown["tokens"] // 2, 4, None)
    assert run(["ask", "--cache", "small.gfc", "--cite", "--json", "-n", "4", "What is blue?"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["document_tokens_computed"] == 0
    lines = TEXT.split("\n")
    assert all(one["text"].replace("...", "") in lines[one["line"] - 1] for one in answer["citations"])


@pytest.mark.usefixtures("plain")
def test_it_grows_and_is_refreshed_as_a_cold_run_would_make_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prefill", "doc.txt", "-q", *DROP]) == 0
    Path("more.txt").write_text("Item 99 is red.\n")
    capsys.readouterr()
    assert run(["append", "doc.gfc", "more.txt", "-o", "grown.gfc"]) == 0
    assert "rows of it were dropped (snapkv 0.5): all of it is computed again" in capsys.readouterr().err
    Path("whole.txt").write_text(TEXT + "Item 99 is red.\n")
    assert run(["prefill", "whole.txt", "-q", *DROP]) == 0
    assert run(["diff", "grown.gfc", "whole.gfc"]) == 0
    Path("doc.txt").write_text(TEXT + "Item 99 is red.\n")
    assert run(["refresh", "doc.gfc", "-q"]) == 0
    assert run(["diff", "doc.gfc", "whole.gfc"]) == 0
    assert run(["truncate", "whole.gfc", "--to-line", "10", "-o", "short.gfc", "-q"]) == 0
    assert gfcache.verify_cache("short.gfc", complete=True).numerics["dropping"] == "snapkv 0.5"


@pytest.mark.usefixtures("plain")
def test_what_it_costs_is_measured_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "doc.gfc", *DROP, "--codec", "step3", "--receipt", "-o", "small.gfc"]) == 0
    assert run(["verify", "--replay", "small.gfc"]) == 0
    assert "the receipt of its codecs holds" in capsys.readouterr().out
    most = Path("doc.gfc").stat().st_size * 2 // 3
    assert run(["convert", "doc.gfc", "--drop", "streaming", "--max-bytes", str(most), "-o", "bounded.gfc"]) == 0
    assert Path("bounded.gfc").stat().st_size <= most


@pytest.mark.usefixtures("plain")
def test_what_cannot_be_is_refused_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for options, said in (
        (["--drop", "expected", "--keep", "0.5"], "know their positions"),
        ([*DROP, "--layout", "blocks"], "in blocks"),
        ([*DROP, "-m", "mamba"], "keeps keys and values of every token"),
    ):
        assert run(["prefill", "doc.txt", "-o", "no.gfc", *options]) != 0
        assert said in capsys.readouterr().err
        assert not Path("no.gfc").exists()
    assert run(["convert", "doc.gfc", *DROP, "-o", "small.gfc"]) == 0
    assert run(["prefill", "--base", "small.gfc", "more.txt"]) != 0
