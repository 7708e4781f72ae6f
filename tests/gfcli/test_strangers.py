"""Cache files of strangers: they are not believed for what they say, and sources that they name are not read."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import gfcache
import pytest
from gfcache import layout

from gfcli.app import run
from goldfinch.library import known
from tests.conftest import SAMPLES
from tests.gfcli.library_place import ask, listed

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()[:1500]
LIE = TEXT.replace("freedom", "slavery").replace("the", "a")


def forge(cache: Path, **source: Any) -> None:
    """Let a cache say of its source what it likes."""
    with gfcache.read_cache(cache) as file:
        header = file.header
        data = [gfcache.SectionData.of(s, file.array(s)) for s in header.sections]
    gfcache.write_cache(cache, dataclasses.replace(header, source=header.source | source, sections=()), data)


@pytest.fixture
def lie(work: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """doc.txt, and in the place of its cache that of another text, which says that it is of doc.txt."""
    (work / "other").mkdir()
    (work / "other" / "doc.txt").write_text(LIE)
    (work / "doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "other/doc.txt", "-q"]) == 0
    with gfcache.read_cache(work / "doc.gfc") as file:
        source = file.header.source
    shutil.copy(work / "other" / "doc.gfc", work / "doc.gfc")
    forge(work / "doc.gfc", **source)
    capsys.readouterr()
    return work / "doc.gfc"


def ids(path: Path) -> list[int]:
    with gfcache.read_cache(path) as file:
        return gfcache.whole_array(file, layout.TOKEN_IDS)[0].tolist()


def test_a_forged_cache_in_the_place_of_the_documents_is_found_out(lie: Path, capsys) -> None:
    """`gf verify --replay` said ok, and `gf prefill` fresh: both believed the digest in the header."""
    assert run(["verify", "doc.gfc"]) == 0  # its checksums hold
    assert run(["verify", "--replay", "100%", "doc.gfc"]) == 10
    assert "token ids are not those of" in capsys.readouterr().err
    assert run(["status", "--fail-stale"]) == 10
    assert "damaged" in capsys.readouterr().out
    forged = ids(lie)
    assert run(["prefill", "doc.txt"]) == 0
    assert "pre-filled again" in capsys.readouterr().err
    assert ids(lie) != forged
    assert run(["prefill", "doc.txt", "-v"]) == 0
    assert "fresh" in capsys.readouterr().err
    assert run(["verify", "--replay", "100%", "doc.gfc"]) == 0
    assert "compared with the document" in capsys.readouterr().out


@pytest.mark.usefixtures("lie")
def test_refresh_makes_a_forged_cache_anew(capsys) -> None:
    assert run(["refresh", "."]) == 0
    capsys.readouterr()
    assert run(["verify", "--replay", "100%", "doc.gfc"]) == 0


def test_a_forged_state_is_not_gone_on_from(work: Path, capsys) -> None:
    """The right tokens and another state: what a changed document would be computed from."""
    (work / "doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "--checkpoints", "64", "-q"]) == 0
    path = work / "doc.gfc"
    with gfcache.read_cache(path) as file:
        header = file.header
        data = [
            dataclasses.replace(d, array=d.array * 0) if d.kind == layout.WKV_STATE else d
            for d in (gfcache.SectionData.of(s, file.array(s)) for s in header.sections)
        ]
    gfcache.write_cache(path, dataclasses.replace(header, sections=()), data)
    (work / "doc.txt").write_text(TEXT + "More of it.")
    capsys.readouterr()
    assert run(["prefill", "doc.txt", "--checkpoints", "64", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens_reused"] == 0
    assert run(["verify", "--replay", "100%", "doc.gfc"]) == 0
    (work / "doc.txt").write_text(TEXT + "More of it. And more.")
    capsys.readouterr()
    assert run(["prefill", "doc.txt", "--checkpoints", "64", "--jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens_reused"] > 0  # what we made ourselves


@pytest.mark.usefixtures("lie")
def test_an_imported_cache_is_marked_until_it_is_compared(work: Path, capsys) -> None:
    assert run(["prefill", "doc.txt", "-o", "right.gfc", "-q"]) == 0
    assert run(["cache", "import", "doc.gfc"]) == 0  # the forged one
    assert listed(capsys)[0]["known"] is None
    assert run(["cache", "ls"]) == 0
    assert capsys.readouterr().out.endswith(" imported\n")
    assert ask(capsys, "doc.txt", "What?")["library"]["state"] == "miss"
    assert run(["cache", "rm", "--filter", "model=*", "-y"]) == 0
    assert run(["cache", "import", "right.gfc"]) == 0
    with gfcache.read_cache(work / "right.gfc") as file:
        known.forget(file.header.digest)
    ask(capsys, "doc.txt", "--require-verified", "What?", code=10)
    assert ask(capsys, "doc.txt", "What?")["library"]["state"] == "hit"
    assert [row["known"] for row in listed(capsys)] == ["compared"]
    assert run(["ask", "--cache", "right.gfc", "--require-verified", "What?"]) == 10
    assert run(["verify", "--replay", "100%", "right.gfc"]) == 0
    assert run(["ask", "--cache", "right.gfc", "--require-verified", "-n", "1", "What?"]) == 0


def test_it_is_compared_once(work: Path, monkeypatch) -> None:
    (work / "doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "-q"]) == 0
    with gfcache.read_cache(work / "doc.gfc") as file:
        known.forget(file.header.digest)
    compared: list[Path] = []
    real = known.has_token_ids_of
    monkeypatch.setattr(known, "has_token_ids_of", lambda t, p, *a, **k: compared.append(p) or real(t, p, *a, **k))
    for _ in range(3):
        assert run(["prefill", "doc.txt", "-q"]) == 0
    assert len(compared) == 1


@pytest.mark.parametrize("name", ["key", ".ssh/key", "pipe"])
def test_a_source_that_a_cache_names_elsewhere_is_not_read(work: Path, tmp_path: Path, capsys, name: str) -> None:
    """`gf refresh` made a cache of any file that a stranger's cache names."""
    secret = tmp_path / "private" / name
    secret.parent.mkdir(parents=True)
    secret.write_text("secret")
    (work / "doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "-q"]) == 0
    forge(work / "doc.gfc", path=str(secret), relative_path=None)
    (work / "doc.txt").unlink()
    before = (work / "doc.gfc").read_bytes()
    for command in (["status", "--json"], ["refresh", "--jsonl"], ["refresh", "-n", "doc.gfc"]):
        capsys.readouterr()
        code = run(command)
        out, err = capsys.readouterr()
        assert code in (0, 3)
        assert f"{secret} was not read" in out + err
    assert run(["ask", "--cache", "doc.gfc", "--require-cached", "What?"]) == 10
    assert "was not read" in capsys.readouterr().err
    assert run(["verify", "--replay", "100%", "doc.gfc"]) == 0
    assert "document was not read" in capsys.readouterr().out
    assert (work / "doc.gfc").read_bytes() == before
    if name == "key":  # as the message says
        assert run(["refresh", ".", str(secret.parent)]) == 0
        assert (work / "doc.gfc").read_bytes() != before
    else:  # hidden below what is named
        assert run(["refresh", ".", str(tmp_path / "private")]) == (3 if "/" in name else 0)


def test_a_source_that_a_cache_names_elsewhere_as_seen_from_itself_is_not_read(work: Path, tmp_path: Path) -> None:
    """Where a folder was moved, the source is looked for at the same place seen from the cache: that may be a way out."""
    secret = tmp_path / "private" / "key"
    secret.parent.mkdir()
    secret.write_text(TEXT)
    (work / "doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "-q"]) == 0
    forge(work / "doc.gfc", path=str(work / "gone.txt"), relative_path=os.path.relpath(secret, work))
    (work / "doc.txt").unlink()
    before = (work / "doc.gfc").read_bytes()
    for text in (TEXT, "secret"):
        secret.write_text(text)
        assert run(["status", "--fail-stale"]) == 10
        assert run(["refresh"]) == 0  # as one without a source
        assert (work / "doc.gfc").read_bytes() == before


def test_what_a_run_of_ones_own_has_read_may_be_read_again(work: Path, tmp_path: Path, monkeypatch) -> None:
    (work / "docs").mkdir()
    (work / "docs" / "doc.txt").write_text(TEXT)
    out = tmp_path / "caches"
    assert run(["prefill", "-r", "docs", "-o", f"{out}/", "-q"]) == 0
    monkeypatch.chdir(out)
    (work / "docs" / "doc.txt").write_text(TEXT + "More.")
    shutil.move(out / "doc.gfc", out / "renamed.gfc")
    assert run(["refresh"]) == 0
    assert run(["status", "--fail-stale"]) == 0


def test_a_link_to_a_source_elsewhere_is_not_followed(work: Path, tmp_path: Path, capsys) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(TEXT)
    (work / "doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "-q"]) == 0
    forge(work / "doc.gfc", modified_at=None)
    (work / "doc.txt").unlink()
    (work / "doc.txt").symlink_to(secret)
    assert run(["status"]) == 0
    assert "unread" in capsys.readouterr().out


def test_only_what_runs_made_is_called_so(work: Path) -> None:
    """The record is of files, not of names: one more byte and it is another file."""
    (work / "doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt", "-q"]) == 0
    with gfcache.read_cache(work / "doc.gfc") as file:
        assert known.how_known(file.header.digest) == known.MADE
    forge(work / "doc.gfc", modified_at=None)
    with gfcache.read_cache(work / "doc.gfc") as file:
        assert known.how_known(file.header.digest) is None


def unknown(path: Path) -> str:
    """Let no run of this user know a file; its digest."""
    with gfcache.read_cache(path) as file:
        known.forget(file.header.digest)
        return file.header.digest


@pytest.mark.usefixtures("lie")
def test_a_forged_cache_is_not_asked_or_searched_as_the_document(work: Path, capsys) -> None:
    """It says that it is of doc.txt, which lies there as it says, and has the ids of another text."""
    said = "doc.gfc: its token ids are not those of"
    assert run(["ask", "--cache", "doc.gfc", "-n", "1", "What?"]) == 6
    assert said in capsys.readouterr().err
    for command in (
        ["search", "--cache", "*.gfc", "national"],
        ["ask", "--cache", "*.gfc", "-n", "1", "Which national?"],
    ):
        shutil.copy("other/doc.gfc", "true.gfc")
        assert run(command) == 3  # the other one answers
        out, err = capsys.readouterr()
        assert said in err
        assert "other/doc.txt" in out
        assert str(work / "doc.txt") not in out
    assert run(["cache", "import", "doc.gfc", "true.gfc"]) == 0
    capsys.readouterr()
    assert run(["search", "national"]) == 3
    out, err = capsys.readouterr()
    assert "token ids are not those of" in err
    assert "other/doc.txt" in out
    assert str(work / "doc.txt") not in out


@pytest.mark.usefixtures("lie")
def test_an_imported_cache_does_not_hide_the_one_of_the_document(work: Path, capsys) -> None:
    """It was used last, and says that it is of the same text."""
    assert run(["prefill", "--library", "doc.txt", "-q"]) == 0
    capsys.readouterr()
    assert run(["search", "national"]) == 0
    before = capsys.readouterr().out
    assert str(work / "doc.txt") in before
    assert run(["cache", "import", "doc.gfc"]) == 0
    capsys.readouterr()
    assert run(["search", "national"]) == 0
    assert capsys.readouterr().out == before


@pytest.fixture
def base(work: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """base.txt and chap.txt that continues it, and the caches of both."""
    (work / "base.txt").write_text(TEXT)
    (work / "chap.txt").write_text(TEXT[:300])
    assert run(["prefill", "base.txt", "--checkpoints", "128", "-q"]) == 0
    assert run(["prefill", "--base", "base.gfc", "chap.txt", "-q"]) == 0
    capsys.readouterr()
    return work / "base.gfc"


@pytest.mark.parametrize(
    "command",
    [
        ["append", "base.gfc", "chap.txt", "-o", "out.gfc"],
        ["truncate", "base.gfc", "--to-line", "1", "-o", "out.gfc"],
        ["prefill", "--base", "base.gfc", "other.txt", "-o", "out.gfc"],
    ],
    ids=lambda command: command[0],
)
def test_what_is_made_from_an_unknown_cache_is_not_ones_own(base: Path, work: Path, capsys, command) -> None:
    (work / "other.txt").write_text(TEXT[300:700])
    out = work / "out.gfc"
    assert run([*command, "--require-verified"]) == 0
    assert run(["ask", "--cache", "out.gfc", "--require-verified", "-n", "1", "What?"]) == 0
    unknown(out)  # within a second the next one has the same bytes
    out.unlink()
    unknown(base)
    capsys.readouterr()
    assert run([*command, "--require-verified"]) == 10
    assert "base.gfc is not verified" in capsys.readouterr().err
    assert not out.exists()
    assert run(command) == 0
    assert "no run of yours made base.gfc" in capsys.readouterr().err
    assert run(["ask", "--cache", "out.gfc", "--require-verified", "What?"]) == 10


@pytest.mark.usefixtures("base")
def test_a_merged_cache_is_known_as_what_it_was_made_of(work: Path) -> None:
    assert run(["flatten", "chap.gfc", "-o", "whole.gfc"]) == 0
    assert run(["ask", "--cache", "whole.gfc", "--require-verified", "-n", "1", "What?"]) == 0
    unknown(work / "whole.gfc")
    unknown(work / "chap.gfc")
    assert run(["flatten", "chap.gfc", "-o", "whole.gfc", "--force"]) == 0
    assert run(["ask", "--cache", "whole.gfc", "--require-verified", "What?"]) == 10


def test_refresh_goes_on_from_no_base_that_nobody_knows(base: Path, work: Path, capsys) -> None:
    """Whoever can write beside a child could have every later version of it computed from states of their own."""
    unknown(base)
    (work / "chap.txt").write_text(TEXT[:200])
    before = (work / "chap.gfc").read_bytes()
    assert run(["refresh", "chap.gfc"]) == 3
    assert "no run of yours made its base" in capsys.readouterr().err
    assert (work / "chap.gfc").read_bytes() == before
    assert run(["verify", "--replay", "100%", "base.gfc"]) == 0  # as the hint says
    assert run(["refresh", "chap.gfc"]) == 0
    assert (work / "chap.gfc").read_bytes() != before


@pytest.mark.parametrize("place", ["elsewhere", "here/.hidden"])
def test_a_base_that_a_cache_names_elsewhere_is_not_read(base: Path, work: Path, tmp_path: Path, capsys, place) -> None:
    """`gf refresh` put the text of any cache that a stranger's cache calls its base into one beside it."""
    private = tmp_path / "private" / place / "diary.gfc"
    private.parent.mkdir(parents=True)
    shutil.move(base, private)
    with gfcache.read_cache("chap.gfc") as file:
        header = file.header
        data = [gfcache.SectionData.of(s, file.array(s)) for s in header.sections]
    parent = header.parent | {"path": str(private), "name": "diary.gfc"}
    gfcache.write_cache("chap.gfc", dataclasses.replace(header, parent=parent, sections=()), data)
    (work / "chap.txt").write_text(TEXT[:200])
    before = (work / "chap.gfc").read_bytes()
    for command in (["status", "--json"], ["refresh", "--jsonl"], ["refresh", "-n", "chap.gfc"]):
        capsys.readouterr()
        assert run(command) in (0, 3)
        assert f"{private} was not read" in "".join(capsys.readouterr())
    assert (work / "chap.gfc").read_bytes() == before
    if place == "elsewhere":  # as the message says
        assert run(["refresh", ".", str(private.parent)]) == 0
        assert (work / "chap.gfc").read_bytes() != before


def test_only_verified_caches_are_searched_where_that_is_asked_for(work: Path, capsys) -> None:
    for name in ("mine", "theirs"):
        (work / f"{name}.txt").write_text(f"{name}. {TEXT}")
        assert run(["prefill", f"{name}.txt", "-q"]) == 0
    unknown(work / "theirs.gfc")
    (work / "theirs.txt").unlink()
    capsys.readouterr()
    assert run(["search", "--cache", "*.gfc", "theirs"]) == 0
    assert "theirs.txt" in capsys.readouterr().out
    for command in (
        ["search", "--cache", "*.gfc", "national"],
        ["ask", "--cache", "*.gfc", "-n", "1", "Which national?"],
    ):
        assert run([*command, "--require-verified"]) == 3
        out, err = capsys.readouterr()
        assert "theirs.gfc is not verified" in err
        assert "mine.txt" in out
        assert "theirs.txt" not in out
