"""Files in other encodings, and what is no text, through the commands and the caches that were made of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gfcache
import pytest

import goldfinch
from gfcli.app import run
from goldfinch.jobs.batch import Batch
from goldfinch.jobs.events import Begun, PassedOver, Remark, Written
from goldfinch.jobs.sources import Source
from goldfinch.library.freshness import FRESH, STALE, cache_state
from goldfinch.text import documents
from goldfinch.text.documents import Document, read_document

RUSSIAN = "Код синего шкафа 48213. Смотритель маяка живёт на острове уже двадцать лет.\n" * 3
GERMAN = "Jürgen grüßt. Der Code des blauen Schranks ist 48213.\n" * 3


class AsBefore(Source):
    """A document read as once: verbatim, all that is not UTF-8 as cp1252, and nothing noted."""

    def read(self) -> Document:
        data = Path(self.name).read_bytes()
        source = {k: v for k, v in read_document(self.name).source.items() if k not in ("encoding", "prepared")}
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
        return Document(self.name, Path(self.name), text, source)


def outcomes(model: goldfinch.LanguageModel, source: Source) -> tuple[list[type], list[str]]:
    told: list[Any] = []
    events = [type(e) for e in Batch(model, tell=told.append).events([source]) if not isinstance(e, Begun)]
    return events, [e.text for e in told if isinstance(e, Remark) and "again" in e.text]


def test_a_cache_of_bytes_that_were_read_otherwise_is_made_anew(tmp_path: Path, tiny_model: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    hidden = "The code of the bl\u00adue cabinet is 48213.\n"
    for text, encoding, now in (
        (RUSSIAN, "cp1251", "was read as its bytes say and is read as cp1251 now"), (GERMAN, "cp1252", None), (GERMAN, "utf-8", None),
        (hidden, "utf-8", "was read unchanged and is read normalised now"),
    ):  # fmt: skip
        path = tmp_path / f"{encoding}{len(text)}.txt"
        path.write_bytes(text.encode(encoding))
        old, changes = AsBefore(str(path)), now is not None
        assert outcomes(model, old)[0] == [Written]
        kinds, remarks = outcomes(model, Source(str(path)))
        assert kinds == [Written if changes else PassedOver]
        assert len(remarks) == changes
        assert all(str(now) in remark for remark in remarks)
        assert outcomes(model, Source(str(path))) == ([PassedOver], [])


def test_refresh_renews_it_and_reads_a_changed_file_as_before(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GF_MODELS_DIR", str(tiny_model.parent))
    path, cache = tmp_path / "a.txt", tmp_path / "a.gfc"
    path.write_bytes(RUSSIAN.encode("cp1251"))
    model = goldfinch.load_model(tiny_model)
    assert outcomes(model, AsBefore(str(path)))[0] == [Written]
    assert cache_state(cache)["state"] == STALE
    assert run(["refresh", str(cache)]) == 0
    assert cache_state(cache)["state"] == FRESH
    assert run(["prefill", str(path), "-m", str(tiny_model), "--encoding", "latin-1"]) == 0
    assert cache_state(cache)["state"] == FRESH
    path.write_bytes(RUSSIAN.encode("cp1251") * 2)
    assert run(["refresh", str(cache)]) == 0
    with gfcache.read_cache(cache) as file:
        assert (file.header.source or {})["encoding"] == "iso8859-1"
    capsys.readouterr()
    assert run(["inspect", str(cache)]) == 0
    assert "as iso8859-1" in capsys.readouterr().out


def test_the_encoding_of_the_settings_and_of_the_option(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "a.txt").write_bytes(RUSSIAN.encode("koi8-r"))
    (work / "b.txt").write_text(RUSSIAN)
    assert run(["prefill", "b.txt", "-q"]) == 0
    (work / "gf.toml").write_text('encoding = "koi8-r"\n')
    for options in ([], ["--encoding", "KOI8_R"]):
        assert run(["prefill", "a.txt", *options]) == 0
        assert "guess" not in capsys.readouterr().err
    with gfcache.read_cache("a.gfc") as a, gfcache.read_cache("b.gfc") as b:
        ids = [gfcache.whole_array(file, "token_ids")[0].tolist() for file in (a, b)]
        assert ids[0] == ids[1]
    assert run(["plan", "a.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"][0]["tokens"] == a.header.tokens
    assert run(["prefill", "a.txt", "--encoding", "nonsense"]) == 2
    assert "encoding of text" in capsys.readouterr().err
    (work / "gf.toml").write_text('encoding = "zip"\n')
    assert run(["prefill", "a.txt"]) == 2


def test_a_file_of_a_folder_that_turns_out_to_hold_no_text_is_skipped(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mark, blanks, or bytes that are no text behind the first page failed the whole batch."""
    folder = work / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("The code is 48213.\n")
    (folder / "blank.txt").write_text(" \n" * 5000)
    (folder / "mark.txt").write_bytes(b"\xef\xbb\xbf")
    (folder / "late.txt").write_bytes(b"text " * 2000 + bytes(5000))
    assert run(["prefill", "-r", "docs", "-v"]) == 0
    out, err = capsys.readouterr()
    assert out.split() == ["docs/a.gfc"]
    assert "3 skipped (empty, or not text)" in err
    assert "late.txt: skipped" in err
    assert run(["plan", "-r", "docs", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["documents"]) == 1
    assert run(["ask", "-r", "docs", "-n", "2", "What is the code?"]) == 0
    assert run(["prefill", "docs/blank.txt", "docs/a.txt"]) == 3  # named by itself


def test_options_choose_among_the_files_of_a_folder(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.md", "b.txt", "drafts/c.md"):
        (work / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "docs" / name).write_text("The code is 48213.\n")
    for options, expected in (
        (["-e", "md"], {"docs/a.md", "docs/drafts/c.md"}),
        (["--exclude", "drafts/", "--include", "*.md", "-e", "txt"], {"docs/a.md", "docs/b.txt"}),
    ):
        assert run(["plan", "-r", "docs", *options, "--json"]) == 0
        assert {row["source"] for row in json.loads(capsys.readouterr().out)["documents"]} == expected
    assert run(["prefill", "-r", "docs", "-e", ".txt"]) == 0
    assert capsys.readouterr().out.split() == ["docs/b.gfc"]
    for line in (["prefill", "docs/a.md", "-e", "md"], ["plan", "-r", "docs", "--exclude", ""]):
        assert run(line) == 2
        assert "hint: " in capsys.readouterr().err


def test_documents_with_the_longest_names_and_the_oddest_times(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of 240 bytes and more left no room for a lock, a temporary file or a journal."""
    monkeypatch.setenv("GF_JOURNAL_SECONDS", "0")
    names = [
        "n" * 236 + ".txt",
        "ü" * 125 + ".txt",
        "m" * 251 + ".txt",
        "k" * 251 + ".txt",
        "k" * 251 + ".asc",
        "o" * 255,
    ]
    for i, name in enumerate(names):
        Path(name).write_text(f"The code is 4821{i}.\n" * 400)
    os.utime(names[0], (910670515199, 910670515199))  # which a file system may shorten
    assert [documents._time(seconds) for seconds in (910670515199, 1e300, float("nan"))] == [None] * 3
    for _ in range(2):
        assert run(["prefill", *names, "-q", "--checkpoints", "512"]) == 0
        made = capsys.readouterr().out.splitlines()
        assert len(set(made)) == len(names)
        assert sorted(path.name for path in work.iterdir()) == sorted(names + made)
    assert run(["status"]) == 0
    assert run(["append", made[2], names[0], "-q"]) == 0
    assert run(["ask", names[5], "-n", "1", "What is the code?"]) == 0


def test_what_is_done_to_a_text_is_said_and_can_be_left(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "a.txt").write_text("The co\u00adde of the bl\u200bue cabinet is\u00a048213.\nThe second line.\n")
    (work / "b.txt").write_text("The code of the blue cabinet is 48213.\nThe second line.\n")
    ids = {}
    for name, options in (("a.txt", []), ("b.txt", []), ("a.txt", ["--verbatim"])):
        assert run(["prefill", name, "-q", *options, "-o", f"{len(ids)}.gfc"]) == 0
        with gfcache.read_cache(f"{len(ids)}.gfc") as file:
            ids[len(ids)] = gfcache.whole_array(file, "token_ids")[0].tolist()
    assert ids[0] == ids[1] != ids[2]
    capsys.readouterr()
    assert run(["inspect", "0.gfc"]) == run(["inspect", "1.gfc"]) == 0
    assert capsys.readouterr().out.count("normalised") == 1
    assert run(["status"]) == 0
    assert {cache_state(work / f"{i}.gfc")["state"] for i in range(3)} == {FRESH}
    monkeypatch.setenv("GF_VERBATIM", "1")
    assert run(["prefill", "a.txt", "-o", "2.gfc", "-v"]) == 0
    assert "fresh" in capsys.readouterr().err
    (work / "a.txt").write_text("The co\u00adde of the bl\u200bue cabinet is 48213.\nThe second line.\nMore.\n")
    assert (
        run(["ask", "a.txt", "--no-verbatim", "--cite", "--json", "-n", "1", "What is the code of the blue cabinet?"])
        == 0
    )
    cited = json.loads(capsys.readouterr().out)["citations"]
    assert all(1 <= row["first_line"] <= row["last_line"] <= 3 for row in cited)


def test_a_plan_compares_caches_with_documents_and_with_a_llama(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "a.txt").write_text("The code is 48213.\n" * 40)
    assert run(["prefill", "a.txt"]) == 0
    summary = gfcache.inspect_cache("a.gfc")
    capsys.readouterr()
    assert run(["plan", "a.txt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["document_bytes"] == found["documents"][0]["document_bytes"] == 19 * 40
    assert found["llama_bytes"] == summary["tokens"] * summary["llama_bytes_per_token"]
    assert found["llama_bytes"] / found["bytes"] == pytest.approx(summary["ratio_total"], rel=0.05)
    assert run(["plan", "a.txt"]) == 0
    out = capsys.readouterr().out
    assert "a Llama of the same shape keeps" in out
    assert "the documents have 760 bytes" in out or "the documents have 760 B" in out
