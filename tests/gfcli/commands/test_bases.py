"""Documents behind a base cache: whose caches the files are, and what becomes of them when the base changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gfcache
import pytest

import goldfinch
from gfcli.app import run
from tests.gfcli.conftest import TEXT


@pytest.fixture
def folder(work: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A handbook with its cache, a chapter; the model is the one of the settings."""
    Path("hand.txt").write_text(TEXT)
    Path("chap.txt").write_text("Chapter one. " + TEXT[500:900])
    assert run(["prefill", "hand.txt", "-q", "--checkpoints", "512"]) == 0
    capsys.readouterr()
    return work


@pytest.mark.usefixtures("folder")
def test_a_base_that_is_replaced_meanwhile_is_noticed(capsys, monkeypatch) -> None:
    """The values of the child are those of the old one: a file that names the new one would answer from both."""
    Path("other.txt").write_text(TEXT.replace("the", "The"))
    assert run(["prefill", "other.txt", "-q", "--checkpoints", "512"]) == 0
    save = goldfinch.DocumentCache.save

    def replacing(cache, path, **options):
        shutil.copy("other.gfc", "hand.gfc")
        return save(cache, path, **options)

    def removing(cache, path, **options):
        Path("hand.gfc").unlink()
        return save(cache, path, **options)

    monkeypatch.setattr(goldfinch.DocumentCache, "save", replacing)
    assert run(["prefill", "--base", "hand.gfc", "chap.txt"]) == 5
    assert "hand.gfc has digest" in capsys.readouterr().err
    assert not Path("chap.gfc").exists()
    monkeypatch.setattr(goldfinch.DocumentCache, "save", removing)
    assert run(["prefill", "--base", "hand.gfc", "chap.txt"]) == 4
    assert not Path("chap.gfc").exists()


@pytest.mark.usefixtures("folder")
def test_a_base_of_another_dtype_is_refused(capsys) -> None:
    assert run(["prefill", "--base", "hand.gfc", "--dtype", "bfloat16", "chap.txt"]) == 5
    err = capsys.readouterr().err
    assert "compute_dtype is f32, this model has bf16" in err
    assert "leave out --dtype" in err
    assert not Path("chap.gfc").exists()


@pytest.mark.usefixtures("folder")
def test_a_child_joined_with_its_base_is_not_the_cache_of_the_chapter(capsys) -> None:
    assert run(["prefill", "--base", "hand.gfc", "chap.txt", "-q"]) == 0
    assert run(["cache", "import", "chap.gfc"]) == 0
    assert run(["cache", "import", "chap.gfc"]) == 0
    capsys.readouterr()
    assert run(["cache", "ls", "--json"]) == 0
    assert [e["source_name"] for e in json.loads(capsys.readouterr().out)["caches"]] == ["chap.txt behind hand.gfc"]
    assert run(["ask", "--json", "-n", "2", "chap.txt", "What?"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["library"]["state"] == "miss"
    with gfcache.read_cache("chap.gfc") as file:
        assert found["document_tokens_computed"] < file.header.tokens
    assert run(["flatten", "chap.gfc"]) == 0
    capsys.readouterr()
    assert run(["status", "--json", "chap.gfc"]) == 0
    assert json.loads(capsys.readouterr().out)["caches"][0]["state"] == "detached"
    before = Path("chap.gfc").read_bytes()
    assert run(["prefill", "chap.txt", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "ok"  # not "fresh": the chapter alone has no cache yet
    assert Path("chap.gfc").read_bytes() == before


@pytest.mark.usefixtures("folder")
def test_a_child_cut_to_the_part_of_its_base_stands_alone() -> None:
    assert run(["prefill", "--base", "hand.gfc", "chap.txt", "-q"]) == 0
    with gfcache.read_cache("chap.gfc") as file:
        shared = file.header.first_token
    assert shared % 512 == 0
    for tokens in (shared - 1, shared, shared + 1):  # with the one that the template puts before the document
        shutil.copy("chap.gfc", "cut.gfc")
        assert run(["truncate", "cut.gfc", "--to-token", str(tokens - 1)]) == 0
        header = gfcache.verify_cache("cut.gfc", complete=True)
        assert header.tokens == tokens
        assert (header.parent is not None) == (tokens > 512)
        assert header.first_token < tokens
        assert run(["verify", "--replay", "100%", "cut.gfc"]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_chain_that_no_reader_follows_is_not_made(capsys) -> None:
    most = gfcache.layout.MAX_PARENTS
    text = TEXT[:900]
    Path("d0.txt").write_text(TEXT)
    assert run(["prefill", "d0.txt", "-q", "--checkpoints", "512"]) == 0
    for n in range(1, most + 2):
        Path(f"d{n}.txt").write_text(text)
        code = run(["prefill", f"d{n}.txt", "--base", f"d{n - 1}.gfc", "-q", "--checkpoints", "512"])
        assert code == (0 if n <= most else 2), n
    assert "gf flatten" in capsys.readouterr().err
    assert not Path(f"d{most + 1}.gfc").exists()
    assert len(gfcache.ancestors(f"d{most}.gfc")) == most
    gfcache.verify_cache(f"d{most}.gfc")
    assert run(["prefill", "d1.txt", "--base", f"d{most}.gfc", "-o", "d3.gfc", "--force"]) == 2
    assert "or one it continues" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_a_base_that_is_too_short_is_told_so(capsys) -> None:
    Path("short.txt").write_text("Too short.")
    assert run(["prefill", "short.txt", "-q"]) == 0
    assert run(["prefill", "--base", "short.gfc", "chap.txt"]) == 2
    err = capsys.readouterr().err
    assert "a base needs 512 or more" in err
    assert "--checkpoints" not in err


@pytest.mark.usefixtures("folder")
def test_figures_of_a_child_are_of_its_own_part() -> None:
    assert run(["prefill", "--base", "hand.gfc", "chap.txt", "-q"]) == 0
    base, child = gfcache.inspect_cache("hand.gfc"), gfcache.inspect_cache("chap.gfc")
    assert child["bytes_per_token"] == pytest.approx(base["bytes_per_token"], rel=0.05)
    assert child["ratio_per_token"] == pytest.approx(base["ratio_per_token"], rel=0.05)
