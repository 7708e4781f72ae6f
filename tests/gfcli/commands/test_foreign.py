"""Every command with caches of models of others: a tiny attention model and a tiny Mamba, imported from folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gfcache
import pytest
from safetensors.numpy import load_file

from gfcli.app import run
from goldfinch.foreign.importing import import_foreign
from tests.cpu_time import PATIENCE_S
from tests.goldfinch.foreign.folders import write_folder

LINES = [f"The colour of item {n} is blue.\n" for n in range(30)]
TEXT = "".join(LINES)
NAMES = ("llama", "mamba")


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: `llama` and `mamba`."""
    folder = tmp_path_factory.mktemp("others")
    for name in NAMES:
        wide = {} if name == "mamba" else {"max_position_embeddings": 2048}
        import_foreign(write_folder(folder / "hub" / name, name, **wide), folder / "models" / name, prompt="plain")
    return folder / "models"


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, others: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of one, in an empty current folder with a document."""
    monkeypatch.setenv("GF_MODELS_DIR", str(others))
    monkeypatch.setenv("GF_MODEL", request.param)
    monkeypatch.setenv("GF_DTYPE", "float32")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("doc.txt").write_text(TEXT)
    return str(request.param)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command printed."""
    assert run(list(arguments)) == code, capsys.readouterr().err
    return capsys.readouterr().out


def test_prefill_ask_and_all_that_follows(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    planned = json.loads(printed(capsys, "plan", "doc.txt", "--json"))["documents"][0]
    assert printed(capsys, "prefill", "doc.txt", "-q") == "doc.gfc\n"
    assert Path("doc.gfc").stat().st_size == planned["bytes"]
    shown = json.loads(printed(capsys, "inspect", "doc.gfc", "--json"))
    assert (shown["tokens"], shown["model"]["model_type"]) == (planned["tokens"], model)
    assert printed(capsys, "verify", "--replay", "100%", "doc.gfc").endswith("tokens replayed, equal bit for bit\n")

    asked = ["ask", "--cache", "doc.gfc", "What is blue?", "--max-tokens", "8", "--json"]
    answer = json.loads(printed(capsys, *asked))
    assert (answer["document_tokens_cached"], answer["document_tokens_computed"]) == (planned["tokens"], 0)
    assert json.loads(printed(capsys, *asked, "--strict"))["answer"] == answer["answer"]
    through_library = json.loads(printed(capsys, "ask", "doc.txt", *asked[3:], "-q"))
    assert through_library["answer"] == answer["answer"]
    assert through_library["document_tokens_computed"] == planned["tokens"]
    again = json.loads(printed(capsys, "ask", "doc.txt", *asked[3:], "--require-cached", "--explain"))
    assert (again["answer"], again["document_tokens_computed"]) == (answer["answer"], 0)

    Path("q.txt").write_text("What is blue?\nWho?\n")
    lines = printed(capsys, "ask", "--cache", "doc.gfc", "--questions", "q.txt", "--jsonl", "--max-tokens", "8", "-q")
    assert json.loads(lines.splitlines()[0])["answer"] == answer["answer"]
    printed(capsys, "cache", "export", "doc.txt", "--safetensors", "-o", "doc.safetensors")
    assert "token_ids" in load_file("doc.safetensors")


def test_a_changed_document(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "prefill", "doc.txt", "-q")
    Path("more.txt").write_text("Item 99 is red.\n")
    printed(capsys, "append", "doc.gfc", "more.txt", "-o", "both.gfc", "-q")
    Path("both.txt").write_text(TEXT + "Item 99 is red.\n")
    printed(capsys, "prefill", "both.txt", "-o", "cold.gfc", "-q")
    printed(capsys, "diff", "both.gfc", "cold.gfc")
    printed(capsys, "truncate", "doc.gfc", "--to-line", "20", "-o", "short.gfc", "-q")
    Path("short.txt").write_text("".join(LINES[:20]))
    printed(capsys, "prefill", "short.txt", "-o", "cold-short.gfc", "-q")
    printed(capsys, "diff", "short.gfc", "cold-short.gfc")
    assert "first" in printed(capsys, "diff", "doc.gfc", "cold.gfc", "--json", code=10)

    assert "fresh" in printed(capsys, "status", "doc.gfc")
    Path("doc.txt").write_text(TEXT + "Item 99 is red.\n")
    assert "stale" in printed(capsys, "status", "doc.gfc")
    printed(capsys, "refresh", "doc.gfc", "-q")
    printed(capsys, "diff", "doc.gfc", "cold.gfc")
    assert gfcache.verify_cache("doc.gfc", complete=True).model["name"] == model


def test_many_documents_and_a_base(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("docs").mkdir()
    for n in range(3):
        Path(f"docs/{n}.txt").write_text(TEXT[n:])
    assert len(printed(capsys, "prefill", "-r", "docs", "-o", "caches/", "-q").split()) == 3
    printed(capsys, "prefill", "doc.txt", "-q")
    code = 0 if model == "llama" else 2  # Mamba computes a document in one piece
    printed(capsys, "prefill", "docs/1.txt", "--base", "doc.gfc", "-o", "child.gfc", "-q", code=code)
    if code == 0:
        printed(capsys, "verify", "--replay", "100%", "child.gfc")
        assert Path("child.gfc").stat().st_size < 2 * Path("doc.gfc").stat().st_size
        printed(capsys, "flatten", "child.gfc", "-o", "flat.gfc")
        asked = ["Who?", "--max-tokens", "8"]
        assert printed(capsys, "ask", "--cache", "flat.gfc", *asked) == printed(
            capsys, "ask", "--cache", "child.gfc", *asked
        )


def test_lines_are_named_and_words_quoted(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "prefill", "doc.txt", "-q")
    asked = ["ask", "--cache", "doc.gfc", "Who?", "--max-tokens", "8", "--json"]
    cited = json.loads(printed(capsys, *asked, "--cite"))["citations"]
    assert bool(cited) == (model == "llama")  # states are attended to by nothing
    assert all(LINES[one["line"] - 1].strip("\n") == one["text"] for one in cited)
    found = json.loads(printed(capsys, *asked, "--quote"))
    place = found["quote"]
    line = LINES[place["line"] - 1]
    assert line[place["first_character"] - 1 : place["last_character"]] == found["answer"] != ""


def test_what_does_not_belong_is_refused_by_name(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "prefill", "doc.txt", "-q")
    other = next(name for name in NAMES if name != model)
    asked = ["ask", "--cache", "doc.gfc", "Who?", "--max-tokens", "4"]
    assert run([*asked, "-m", other]) == 5
    assert "prefill_fingerprint" in capsys.readouterr().err
    assert run([*asked, "--dtype", "bfloat16"]) == 5
    assert "numerics.compute_dtype" in capsys.readouterr().err


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_on_a_device_that_is_named(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "prefill", "doc.txt", "--device", device, "-q")
    shown = json.loads(printed(capsys, "inspect", "doc.gfc", "--json"))
    assert shown["numerics"]["device"] == device
    asked = ["ask", "--cache", "doc.gfc", "Who?", "--max-tokens", "4", "--device", device, "--strict", "--json"]
    assert json.loads(printed(capsys, *asked))["document_tokens_computed"] == 0


@pytest.mark.usefixtures("model")
def test_the_quicker_dtype_is_taken_and_a_cache_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another timing later, or elsewhere, refuses no cache and computes no document again."""
    monkeypatch.delenv("GF_DTYPE")

    def quickest(name: str) -> None:
        monkeypatch.setattr("goldfinch.measure.precision.quickest_dtype", lambda device: name)

    for now, later in (("bf16", "f32"), ("f32", "bf16")):
        quickest(now)
        Path(f"{now}.txt").write_text(TEXT + now)
        printed(capsys, "prefill", f"{now}.txt", "-q")
        assert json.loads(printed(capsys, "inspect", f"{now}.gfc", "--json"))["numerics"]["compute_dtype"] == now
        asked = ["Who?", "--max-tokens", "4", "--json", "-q"]
        first = json.loads(printed(capsys, "ask", f"{now}.txt", *asked))
        quickest(later)
        for place in (("--cache", f"{now}.gfc"), (f"{now}.txt", "--require-cached")):
            answer = json.loads(printed(capsys, "ask", *place, *asked))
            assert (answer["answer"], answer["document_tokens_computed"]) == (first["answer"], 0)
        Path("kb").mkdir()
        Path(f"{now}.txt").rename(f"kb/{now}.txt")
        printed(capsys, "ask", "-r", "kb", "What is blue?", "--max-tokens", "4", "--require-cached", "-q")
        Path(f"kb/{now}.txt").unlink()
        Path("kb").rmdir()


def test_a_plan_says_where_its_times_are_too_short(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("goldfinch.measure.profile.LONG_BLOCKS", 1)
    assert run(["plan", "doc.txt"]) == 0
    assert ("square of the length" in capsys.readouterr().err) == (model == "llama")
    Path("short.txt").write_text(LINES[0])
    assert run(["plan", "short.txt"]) == 0
    assert "square of the length" not in capsys.readouterr().err


def test_the_library_that_is_missing_is_named(
    others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert run(["model", "import", str(others.parent / "hub" / "llama"), "-o", str(tmp_path / "model")]) != 0
    assert "pip install 'goldfinch-gf[hf]'" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_document_beyond_the_context_is_refused_before_it_is_computed(
    others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GF_MODELS_DIR", str(others))
    (tmp_path / "long.txt").write_text(TEXT * 4)
    for command in ("plan", "prefill"):
        assert run([command, str(tmp_path / "long.txt"), "-m", "llama", "--layout", "whole"]) == 2
        assert "llama has positions for 2,048" in capsys.readouterr().err
    assert not (tmp_path / "long.gfc").exists()


BIRDS = ("crane", "heron", "stork", "swift", "raven", "eagle", "goose", "finch")
BOOK = "\n\n".join(
    f"Chapter {n}: the {bird}. " + f"The {bird} of the lake is grey. " * 20 for n, bird in enumerate(BIRDS)
)


@pytest.fixture
def book(others: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A document that is longer than the context of `llama`, in an empty current folder."""
    monkeypatch.setenv("GF_MODELS_DIR", str(others))
    monkeypatch.setenv("GF_MODEL", "llama")
    monkeypatch.setenv("GF_DTYPE", "float32")
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text(BOOK * 3)
    return "book.txt"


def test_a_document_longer_than_the_context_is_kept_in_blocks(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prefill", book, "--layout", "whole", "-q"]) == 2
    assert "2,048" in capsys.readouterr().err
    planned = json.loads(printed(capsys, "plan", book, "--json", "-q"))["documents"][0]
    assert planned["tokens"] > 2048
    assert planned["blocks"] > 20
    assert run(["plan", book]) == 0
    shown = capsys.readouterr()
    assert f"book.txt, in {planned['blocks']} blocks" in shown.out
    assert "square" not in shown.err
    printed(capsys, "prefill", book, "-q")
    assert Path("book.gfc").stat().st_size == planned["bytes"]
    shown = json.loads(printed(capsys, "inspect", "book.gfc", "--json"))
    assert shown["blocks"] == planned["blocks"]
    assert "blind to each other" in printed(capsys, "inspect", "book.gfc")
    printed(capsys, "verify", "--replay", "100%", "book.gfc")
    printed(capsys, "status", "book.gfc")
    asked = ["Who is the heron?", "--max-tokens", "8", "--json"]
    answer = json.loads(printed(capsys, "ask", "--cache", "book.gfc", *asked, "--explain"))
    assert answer["document_tokens_computed"] == 0
    assert answer["read"]["tokens_attended"] < 1300
    assert len(answer["read"]["blocks"]) == 1
    through_library = json.loads(printed(capsys, "ask", book, *asked, "-q"))
    assert through_library["answer"] == answer["answer"]
    three = json.loads(printed(capsys, "ask", "--cache", "book.gfc", *asked, "--read-blocks", "3", "--read", "lexical"))
    assert len(three["read"]["blocks"]) == 1
    Path("q.txt").write_text("Who is the heron?\nWho is the goose?\n")
    lines = printed(capsys, "ask", "--cache", "book.gfc", "--questions", "q.txt", "--jsonl", "--max-tokens", "8", "-q")
    assert json.loads(lines.splitlines()[0])["answer"] == answer["answer"]
    assert run(["ask", "--cache", "book.gfc", "Who?", "--read", "all"]) == 2
    assert "kept in blocks" in capsys.readouterr().err
    printed(capsys, "cache", "export", book, "--safetensors", "-o", "book.safetensors")
    assert len(load_file("book.safetensors")["block_token_ids"]) == sum(
        gfcache.verify_cache("book.gfc").model["blocks"]
    )


@pytest.mark.parametrize("model", ["mamba"], indirect=True)
@pytest.mark.usefixtures("model")
def test_states_stand_behind_each_block(capsys: pytest.CaptureFixture[str]) -> None:
    Path("doc.txt").write_text("\n".join([TEXT, TEXT.replace("blue", "red"), TEXT.replace("item", "thing")]))
    named = ["doc.txt", "--layout", "blocks"]
    planned = json.loads(printed(capsys, "plan", *named, "--json", "-q"))["documents"][0]
    state_bytes = 2 * 64 * (8 + 4) * 4  # two layers, twice the width, states and convolution, f32
    assert (planned["blocks"], planned["block_state_bytes"]) == (3, state_bytes)
    assert "in 3 blocks with 6.1 kB of states each" in printed(capsys, "plan", *named)
    assert printed(capsys, "prefill", *named, "-q") == "doc.gfc\n"
    assert Path("doc.gfc").stat().st_size == planned["bytes"]
    assert printed(capsys, "prefill", *named, "--checkpoints", "8", "-q") == "doc.gfc\n"
    printed(capsys, "verify", "--replay", "100%", "doc.gfc")
    asked = ["What is blue?", "--max-tokens", "4", "--json"]
    answer = json.loads(printed(capsys, "ask", "--cache", "doc.gfc", *asked))
    assert (answer["document_tokens_computed"], len(answer["read"]["blocks"])) == (0, 1)
    Path("doc.txt").write_text("\n".join([TEXT, TEXT.replace("blue", "grey")]))
    row = json.loads(printed(capsys, "prefill", *named, "--jsonl", "-q"))
    assert 0 < row["tokens_reused"] < row["tokens"]


@pytest.mark.usefixtures("book")
def test_a_layout_that_is_named_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    Path("short.txt").write_text(BOOK[:1500])

    def blocks() -> int | None:
        found: int | None = json.loads(printed(capsys, "inspect", "short.gfc", "--json"))["blocks"]
        return found

    printed(capsys, "prefill", "short.txt", "-q")
    assert blocks() is None
    printed(capsys, "prefill", "short.txt", "-q", "--layout", "blocks")  # a fresh cache of another layout is made anew
    assert blocks()
    printed(capsys, "prefill", "short.txt", "-q")  # auto takes either
    assert blocks()
    Path("more.txt").write_text("The swan is white.\n")
    printed(capsys, "append", "short.gfc", "more.txt", "-q")
    assert blocks()
    printed(capsys, "truncate", "short.gfc", "--to-line", "1", "-q")
    assert blocks()
    assert run(["prefill", "short.txt", "--base", "short.gfc", "--layout", "blocks", "-q"]) == 2
    assert "leave out --base" in capsys.readouterr().err
    assert run(["prefill", "short.txt", "--layout", "rows"]) == 2
    assert "auto, whole, blocks" in capsys.readouterr().err
    printed(capsys, "prefill", "short.txt", "-m", "gf-mini-3", "--layout", "blocks", "-q", "-o", "ours.gfc")
    assert gfcache.verify_cache("ours.gfc").model.get("blocks") is None


def test_a_changed_document_in_blocks_is_brought_up_to_date(book: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "prefill", book, "-q")
    text = Path(book).read_text()
    Path(book).write_text(text.replace("Chapter 3: the swift", "Chapter 3: the brown swift", 1))
    row = json.loads(printed(capsys, "prefill", book, "--jsonl", "-q"))
    assert row["tokens_reused"] > 0.9 * row["tokens"]
    printed(capsys, "prefill", book, "-o", "cold.gfc", "--force", "-q")
    printed(capsys, "diff", "book.gfc", "cold.gfc")
    Path(book).write_text(text)
    printed(capsys, "refresh", "book.gfc", "-q")
    assert gfcache.verify_cache("book.gfc", complete=True).model["blocks"]


@pytest.mark.parametrize("codec", ["int8", "step3", "step1.5", "basis3", "kivi2"])
@pytest.mark.parametrize("model", ["llama"], indirect=True)
@pytest.mark.usefixtures("model")
def test_a_plan_knows_the_size_of_rounded_keys_and_values(codec: str, capsys: pytest.CaptureFixture[str]) -> None:
    planned = json.loads(printed(capsys, "plan", "doc.txt", "--codec", codec, "--json"))["documents"][0]
    printed(capsys, "prefill", "doc.txt", "--codec", codec, "-q")
    assert Path("doc.gfc").stat().st_size == pytest.approx(planned["bytes"], rel=0.05)
    assert {s["codec"] for s in json.loads(printed(capsys, "inspect", "doc.gfc", "--json"))["sections"]} >= {codec}


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_a_codec_with_a_basis_from_prefill_to_answer(
    model: str, others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The basis lies beside the model; without it, the cache is refused by its digest, and nothing else is lost."""
    whole, basis = ["prefill", "doc.txt", "-q", "--layout", "whole"], others / model / "codec_basis.gfb"
    printed(capsys, *whole, "-o", "plain.gfc")
    printed(capsys, "convert", "plain.gfc", "--codec", "basis2.5", "-o", "small.gfc")
    kept = basis.read_bytes()
    printed(capsys, *whole, "--codec", "basis2.5", "--receipt")
    assert basis.read_bytes() == kept
    assert printed(capsys, "verify", "--replay", "100%", "doc.gfc").endswith("equal bit for bit\n")
    assert printed(capsys, "diff", "doc.gfc", "small.gfc", code=10).count("error_receipt")
    before = printed(capsys, "ask", "--cache", "small.gfc", "What is blue?", "--max-tokens", "8", "-q")
    assert printed(capsys, "ask", "--cache", "doc.gfc", "What is blue?", "--max-tokens", "8", "-q") == before
    script = "import sys; from gfcli.app import run; sys.exit(run(sys.argv[1:]))"  # which offered no basis yet
    elsewhere = [sys.executable, "-c", script, "verify", "doc.gfc"]
    assert subprocess.run(elsewhere, capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0
    basis.rename("away")
    refused = subprocess.run(elsewhere, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    Path("away").rename(basis)
    assert refused.returncode == 4
    assert "was coded in the basis" in refused.stderr
    assert (
        str(json.loads(printed(capsys, "inspect", "doc.gfc", "--json"))["numerics"]["rows_basis"])[:16]
        in refused.stderr
    )


@pytest.mark.usefixtures("work")
def test_models_of_ours_have_no_basis(capsys: pytest.CaptureFixture[str]) -> None:
    Path("doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "--codec", "basis3"]) == 2
    assert "for models of others" in capsys.readouterr().err
    printed(capsys, "prefill", "doc.txt", "-q")
    assert run(["convert", "doc.gfc", "--codec", "basis3", "-o", "small.gfc"]) == 2
    assert "models of others" in capsys.readouterr().err


def test_what_codecs_cost_is_noted_and_measured_again(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ["prefill", "doc.txt", "-q", "--layout", "whole"]
    if model == "mamba":
        assert run([*whole, "--max-kl", "1"]) == 2
        assert "no layer of mamba keeps keys and values" in capsys.readouterr().err
        assert not Path("doc.gfc").exists()
        return
    printed(capsys, *whole, "--codec", "int8", "--receipt")
    shown = json.loads(printed(capsys, "inspect", "doc.gfc", "--json"))
    assert 0 < shown["error_receipt"]["document"]["mean_kl"] < 1
    assert "keys and values by int8" in printed(capsys, "inspect", "doc.gfc")
    assert json.loads(printed(capsys, "verify", "--replay", "100%", "--json", "doc.gfc"))["receipt_reproduced"]
    printed(capsys, *whole, "--max-kl", "100", "-o", "least.gfc")
    printed(capsys, *whole, "-o", "plain.gfc")
    printed(capsys, "convert", "plain.gfc", "--max-kl", "100", "-o", "small.gfc")
    printed(capsys, "diff", "least.gfc", "small.gfc")
