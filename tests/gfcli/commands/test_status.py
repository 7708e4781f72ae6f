"""gf status, gf refresh, gf prefill --base, gf flatten."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import gfcache
import jsonschema
import pytest

import goldfinch
from gfcli.app import run
from goldfinch.library.freshness import source_state
from tests.gfcli.commands.three_caches import TEXT
from tests.schemas import schema


def states(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert run(["status", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    jsonschema.validate(found, schema("status"))
    return {Path(row["path"]).name: row["state"] for row in found["caches"]}


def test_states(folder: Path, capsys) -> None:
    assert states(capsys) == {"a.gfc": "fresh", "b.gfc": "fresh", "c.gfc": "fresh"}
    (folder / "a.txt").touch()
    assert states(capsys)["a.gfc"] == "fresh"
    assert run(["status", "--fail-stale"]) == 0
    capsys.readouterr()
    (folder / "a.txt").write_text(TEXT[:5000].replace("the", "The", 1))  # the same size
    (folder / "b.txt").unlink()
    (folder / "c.gfc").write_bytes(b"x")
    assert states(capsys) == {"a.gfc": "stale", "b.gfc": "orphaned", "c.gfc": "damaged"}
    assert run(["status"]) == 0
    out, err = capsys.readouterr()
    assert "stale     a.gfc" in out
    assert "1 stale; 1 orphaned; 1 damaged" in err
    assert run(["status", "-q"]) == 0
    assert capsys.readouterr() == (out, "")
    assert run(["status", "--fail-stale"]) == 10
    assert run(["status", "absent.gfc"]) == 4
    (folder / "empty").mkdir()
    assert run(["status", "empty"]) == 2


@pytest.mark.usefixtures("folder")
def test_a_cache_without_a_source_is_detached(capsys) -> None:
    assert run(["truncate", "a.gfc", "--to-token", "600", "-o", "short.gfc", "-q"]) == 0
    capsys.readouterr()
    assert states(capsys, "short.gfc") == {"short.gfc": "detached"}


def test_refresh_computes_only_what_changed(folder: Path, capsys) -> None:
    edited = TEXT[:4000] + "A new end." + TEXT[4200:5000]
    (folder / "a.txt").write_text(edited)
    before = {name: (folder / name).read_bytes() for name in ("b.gfc", "c.gfc")}
    assert run(["refresh", "--dry-run"]) == 0
    assert capsys.readouterr().out == "a.gfc\n"
    assert states(capsys)["a.gfc"] == "stale"
    assert run(["refresh", "--jsonl", "--checkpoints", "512"]) == 0
    report = json.loads(capsys.readouterr().out)
    jsonschema.validate(report, schema("prefill"))
    assert report["tokens_reused"] >= 1024
    assert report["first_changed_token"] >= report["tokens_reused"]
    assert report["checkpoint_bytes"] > 0
    assert states(capsys)["a.gfc"] == "fresh"
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert run(["prefill", "a.txt", "-o", "cold.gfc", "-m", "tiny", "--checkpoints", "512"]) == 0
    assert run(["diff", "a.gfc", "cold.gfc"]) == 0


def alter(name: str, place: int = -100) -> None:
    """Flip a bit of a file."""
    data = bytearray(Path(name).read_bytes())
    data[place] ^= 1
    Path(name).write_bytes(data)


def test_altered_values_are_damage_and_refresh_mends_them(folder: Path, capsys) -> None:
    (folder / "chapter.txt").write_text("Chapter one. " + TEXT[6000:8000])
    assert run(["prefill", "--base", "a.gfc", "chapter.txt", "-q"]) == 0
    good = {name: gfcache.verify_cache(name).sections for name in ("a.gfc", "b.gfc")}
    for name in good:
        alter(name)
    alter("c.gfc", 200)  # in the header
    found = {"a.gfc": "damaged", "b.gfc": "damaged", "c.gfc": "damaged", "chapter.gfc": "broken"}
    capsys.readouterr()
    assert states(capsys) == found
    assert run(["status", "--fail-stale", "a.gfc"]) == 10
    assert run(["refresh", "--checkpoints", "512"]) == 3
    assert "c.gfc is damaged and was skipped" in capsys.readouterr().err
    assert states(capsys) == {name: "fresh" for name in found} | {"c.gfc": "damaged"}
    assert {name: gfcache.verify_cache(name).sections for name in good} == good


def test_a_source_that_is_no_file_is_gone(folder: Path, capsys) -> None:
    """A foreign cache may name anything as its source; nothing waits for it."""
    os.mkfifo("pipe")
    with gfcache.read_cache("a.gfc") as file:
        header = file.header
        data = [
            gfcache.SectionData(s.name, s.kind, s.dtype, file.array(s), position=s.position, token_start=s.token_start)
            for s in header.sections
        ]
    for path in ("/dev/zero", str(folder / "pipe"), str(folder)):
        source = dict(header.source) | {"path": path, "relative_path": None, "bytes": 0}
        gfcache.write_cache("x.gfc", dataclasses.replace(header, source=source, sections=()), data)
        is_here = not path.startswith("/dev")
        assert states(capsys, "x.gfc") == {"x.gfc": "orphaned" if is_here else "unread"}
        alter("x.gfc")
        assert states(capsys, "x.gfc") == {"x.gfc": "damaged"}
        assert run(["refresh", "x.gfc"]) == 3
        assert ("its source is gone or unknown" if is_here else "was not read") in capsys.readouterr().err
    odd = {"path": "a\0b", "relative_path": "a\0b", "name": "a\0b", "bytes": 0}
    nul = dataclasses.replace(header, source=dict(header.source) | odd)
    assert source_state(nul, folder / "a.gfc")[0] == "orphaned"
    (folder / "gone.txt").write_bytes(b"x")
    nameless = dataclasses.replace(header, source={"path": "/no/such/gone.txt", "bytes": 1})
    assert source_state(nameless, folder / "a.gfc")[0] == "detached"


@pytest.mark.parametrize("spacing", ["none", "auto", "512", "1024"])
def test_refresh_keeps_the_spacing_of_checkpoints(folder: Path, capsys, monkeypatch, spacing: str) -> None:
    arguments = ["prefill", "a.txt", "-m", "tiny", "--checkpoints", spacing, "--jsonl"]
    assert run(arguments) == 0
    with open(folder / "a.txt", "a") as stream:
        stream.write(TEXT[5000:6500])
    monkeypatch.setenv("GF_CHECKPOINTS", "2048")  # of documents, not of caches that are there
    assert run(["refresh", "a.gfc"]) == 0
    capsys.readouterr()
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "fresh"


def test_refresh_names_what_it_cannot_refresh(folder: Path, capsys) -> None:
    (folder / "b.txt").unlink()
    assert run(["refresh"]) == 0  # every night, and nobody has to do anything about it
    assert "1 orphaned, left alone" in capsys.readouterr().err
    assert (folder / "b.gfc").exists()
    (folder / "a.txt").write_bytes(b"%PDF-1.7")
    assert run(["refresh", "a.gfc"]) == 3
    assert "PDF" in capsys.readouterr().err
    assert gfcache.verify_cache(folder / "a.gfc").tokens > 0


def test_every_line_of_refresh_is_an_object(folder: Path, capsys) -> None:
    (folder / "a.txt").write_text("Another text.")
    (folder / "b.txt").unlink()
    (folder / "c.gfc").write_bytes(b"x")
    for dry, status in ((["-n"], "planned"), ([], "ok")):
        assert run(["refresh", "--jsonl", *dry]) == 3
        out, err = capsys.readouterr()
        found = [json.loads(line) for line in out.splitlines()]
        for row in found:
            jsonschema.validate(row, schema("prefill"))
        assert [(row["output"], row["status"]) for row in found] == [
            ("a.gfc", status), ("b.gfc", "orphaned"), ("c.gfc", "failed"),
        ]  # fmt: skip
        assert found[2]["error"]["code"] == 6
        assert "was skipped" not in err


def test_children_of_a_base(folder: Path, capsys) -> None:
    """Each child stores its own part; answers and vectors are those of the joined document."""
    (folder / "chapter1.txt").write_text("Chapter one. " + TEXT[6000:8000])
    (folder / "chapter2.txt").write_text("Chapter two. " + TEXT[8000:9000])
    assert run(["prefill", "--base", "a.gfc", "chapter1.txt", "chapter2.txt"]) == 0
    capsys.readouterr()
    (folder / "joined.txt").write_text(TEXT[:5000] + "Chapter one. " + TEXT[6000:8000])
    assert run(["prefill", "joined.txt", "-m", "tiny", "--checkpoints", "none"]) == 0
    model = goldfinch.load_model("tiny")
    child, whole = (goldfinch.open_cache(folder / f"{name}.gfc", model) for name in ("chapter1", "joined"))
    assert child.token_ids.tolist() == whole.token_ids.tolist()
    assert child.compressed_k.equal(whole.compressed_k)
    assert child.tail_hidden.equal(whole.tail_hidden)
    question = "What does he say?"
    one = goldfinch.Session(model, child).ask(question, max_tokens=8)
    other = goldfinch.Session(model, whole).ask(question, max_tokens=8)
    assert one.token_ids == other.token_ids
    with gfcache.read_cache(folder / "chapter1.gfc") as file:
        assert file.header.parent["name"] == "a.gfc"
        assert file.header.first_token >= 1024
        own = sum(s.stored_bytes for s in file.header.of_kind("compressed_k"))
    with gfcache.read_cache(folder / "joined.gfc") as file:
        assert own < sum(s.stored_bytes for s in file.header.of_kind("compressed_k"))
    assert states(capsys, "chapter1.gfc") == {"chapter1.gfc": "fresh"}
    assert run(["verify", "--replay", "100%", "chapter1.gfc"]) == 0
    assert run(["flatten", "chapter1.gfc", "-o", "flat.gfc"]) == 0
    assert run(["flatten", "chapter1.gfc", "-o", "flat.gfc"]) == 2
    assert run(["flatten", "chapter1.gfc", "-o", "flat.gfc", "--force"]) == 0
    (folder / "a.gfc").unlink()
    capsys.readouterr()
    assert states(capsys, "chapter1.gfc") == {"chapter1.gfc": "broken"}
    assert run(["ask", "--cache", "chapter1.gfc", "x"]) == 4
    assert "a.gfc" in capsys.readouterr().err
    assert run(["verify", "flat.gfc"]) == 0
    flat = goldfinch.open_cache(folder / "flat.gfc", model)
    assert flat.compressed_k.equal(whole.compressed_k)


def test_a_child_that_grows_or_shrinks_continues_its_base(folder: Path, capsys) -> None:
    (folder / "chapter.txt").write_text("Chapter one. " + TEXT[6000:8000])
    assert run(["prefill", "--base", "a.gfc", "chapter.txt", "-q"]) == 0
    with gfcache.read_cache(folder / "chapter.gfc") as file:
        first, parent = file.header.first_token, file.header.parent
    capsys.readouterr()
    assert run(["append", "chapter.gfc", "c.txt"]) == 0
    assert "reused" in capsys.readouterr().err
    assert run(["truncate", "chapter.gfc", "--to-token", str(first + 300), "-o", "part.gfc"]) == 0
    for name in ("chapter.gfc", "part.gfc"):
        with gfcache.read_cache(folder / name) as file:
            assert (file.header.first_token, file.header.parent) == (first, parent)
        assert run(["verify", "--replay", "100%", name]) == 0
    assert run(["append", "chapter.gfc", "c.txt", "-o", "a.gfc", "--force"]) == 2
    assert "the base cache itself" in capsys.readouterr().err
    assert run(["truncate", "chapter.gfc", "--to-token", "100"]) == 0  # before any position of the base
    with gfcache.read_cache(folder / "chapter.gfc") as file:
        assert file.header.parent is None


def test_a_replaced_base_is_refused_and_refresh_mends_it(folder: Path, capsys) -> None:
    (folder / "chapter.txt").write_text("Chapter one. " + TEXT[6000:8000])
    assert run(["prefill", "--base", "a.gfc", "chapter.txt", "-q"]) == 0
    (folder / "a.txt").write_text(TEXT[:5000] + "More.")
    assert run(["refresh", "a.gfc", "--checkpoints", "512"]) == 0
    capsys.readouterr()
    assert run(["ask", "--cache", "chapter.gfc", "x"]) == 5
    assert "a.gfc" in capsys.readouterr().err
    assert states(capsys, "chapter.gfc") == {"chapter.gfc": "broken"}
    assert run(["refresh", "chapter.gfc"]) == 0
    capsys.readouterr()
    assert states(capsys, "chapter.gfc") == {"chapter.gfc": "fresh"}
    assert run(["verify", "chapter.gfc"]) == 0


def test_refresh_of_a_folder_renews_bases_before_their_children(folder: Path, capsys) -> None:
    """By name, the children come first; one of them continues the other."""
    (folder / "a.gfc").rename(folder / "z.gfc")
    (folder / "a1.txt").write_text("Chapter one. " + TEXT[6000:8000])
    (folder / "a0.txt").write_text("A note to it. " + TEXT[9000:9800])
    assert run(["prefill", "--base", "z.gfc", "a1.txt", "--checkpoints", "512", "-q"]) == 0
    assert run(["prefill", "--base", "a1.gfc", "a0.txt", "-q"]) == 0
    (folder / "a.txt").write_text(TEXT[:5000] + "More.")
    (folder / "a0.txt").write_text("Another note to it. " + TEXT[9000:9800])
    capsys.readouterr()
    for dry in (["--dry-run"], []):
        assert run(["refresh", *dry, "--checkpoints", "512"]) == 0
        assert capsys.readouterr().out.split() == ["z.gfc", "a1.gfc", "a0.gfc"]
    assert set(states(capsys).values()) == {"fresh"}
    assert run(["ask", "--cache", "a0.gfc", "-n", "2", "What?"]) == 0


def test_a_base_without_positions_and_a_base_as_its_own_child_are_refused(folder: Path, capsys) -> None:
    assert run(["prefill", "c.txt", "-m", "tiny", "--checkpoints", "none", "--force"]) == 0
    assert run(["prefill", "--base", "c.gfc", "b.txt", "-o", "child.gfc"]) == 2
    assert "--checkpoints 512" in capsys.readouterr().err
    assert not (folder / "child.gfc").exists()
    assert run(["prefill", "--base", "a.gfc", "b.txt", "-o", "a.gfc", "--force"]) == 2
    assert run(["prefill", "--base", "absent.gfc", "b.txt"]) == 4


def test_a_locked_output_is_exit_9(folder: Path, capsys) -> None:
    import fcntl

    before = (folder / "a.gfc").read_bytes()
    (folder / "a.txt").write_text("Another text.")
    with open(folder / ".a.gfc.lock", "w") as other:  # as another process would hold it
        fcntl.flock(other, fcntl.LOCK_EX)
        for command in (["prefill", "a.txt", "-m", "tiny"], ["append", "a.gfc", "b.txt"], ["flatten", "a.gfc"]):
            assert run(command) == 9
            assert "another process is writing" in capsys.readouterr().err
        assert run(["refresh", "a.gfc"]) == 3
    assert (folder / "a.gfc").read_bytes() == before


def test_explain_and_require_cached(folder: Path, capsys) -> None:
    ask = ["ask", "--cache", "a.gfc", "-n", "2"]
    assert run([*ask, "--explain", "--require-cached", "What?"]) == 0
    err = capsys.readouterr().err
    assert "prefill_fingerprint" in err
    assert "0 computed" in err
    assert "source fresh" in err
    (folder / "a.txt").write_text(TEXT[:4000] + "A new end.")
    assert run([*ask, "--explain", "--json", "What?"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("ask"))
    explained = found["explain"]
    assert explained["source_state"] == "stale"
    assert explained["tokens_computed"] == 0
    model = goldfinch.load_model("tiny")
    kept = len(model.tokenizer.encode(TEXT[:3990]))
    assert kept - 5 <= explained["first_divergent_token"] <= kept + 15
    assert run([*ask, "--require-cached", "What?"]) == 10
    assert "gf refresh a.gfc" in capsys.readouterr().err


def test_an_answer_from_an_old_text_is_said_to_be_one(folder: Path, capsys) -> None:
    (folder / "q.txt").write_text("What?")
    commands = (["What?"], ["--questions", "q.txt"])
    for stale in (False, True):
        for command in commands:
            assert run(["ask", "--cache", "a.gfc", "-n", "1", *command]) == 0
            assert capsys.readouterr().err.count("a.txt has changed since") == stale
        (folder / "a.txt").write_text("Another text.")


@pytest.mark.usefixtures("folder")
def test_explain_names_what_differs(other_model: Path, capsys) -> None:
    assert run(["ask", "--cache", "a.gfc", "-m", str(other_model), "--explain", "What?"]) == 5
    err = capsys.readouterr().err
    assert "prefill_fingerprint          differs: cache " in err
    assert "tokenizer_fingerprint        same" in err


def test_inspect_goes_on_after_a_damaged_file(folder: Path, capsys) -> None:
    (folder / "b.gfc").write_bytes(b"x")
    assert run(["inspect", "a.gfc", "b.gfc", "c.gfc"]) == 3
    out, err = capsys.readouterr()
    assert out.count("checkpoints    ") == 2
    assert "b.gfc" in err
    assert run(["inspect", "b.gfc"]) == 6


def test_files_that_fail_give_lines_like_the_others(folder: Path, capsys) -> None:
    (folder / "b.gfc").write_bytes(b"x")
    for command in ("inspect", "verify"):
        for names, code in ((["b.gfc"], 6), (["absent.gfc"], 4), (["a.gfc", "b.gfc", "absent.gfc"], 3)):
            assert run([command, "--jsonl", *names]) == code
            found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
            for row in found:
                jsonschema.validate(row, schema(command))
            assert [row["path"] for row in found] == names
            assert [row["error"]["code"] for row in found if row.get("status") == "failed"] == [
                {"b.gfc": 6, "absent.gfc": 4}[name] for name in names if name != "a.gfc"
            ]


@pytest.mark.usefixtures("folder")
def test_failed_loads_leave_the_process_usable(other_model: Path) -> None:
    """Foreign, cut, altered, newer and missing files, a cache of another model; then the good one answers as before."""
    model = goldfinch.load_model("tiny")
    ask = lambda: goldfinch.Session(model, goldfinch.open_cache("a.gfc", model)).ask("What?", max_tokens=5).token_ids  # noqa: E731
    before = ask()
    data = Path("a.gfc").read_bytes()
    newer = data[:8] + b"\x02" + data[9:]
    altered = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
    expected = [
        (b"no cache", gfcache.NotACacheFile),
        (data[:5000], gfcache.DamagedCache),
        (altered, gfcache.DamagedCache),
        (newer, gfcache.UnsupportedVersion),
    ]
    for content, kind in expected:
        Path("bad.gfc").write_bytes(content)
        with pytest.raises(kind):
            goldfinch.open_cache("bad.gfc", model)
        assert ask() == before
    with pytest.raises(goldfinch.errors.CacheMismatch):
        goldfinch.open_cache("a.gfc", goldfinch.load_model(other_model))
    with pytest.raises(FileNotFoundError):
        goldfinch.open_cache("absent.gfc", model)
    assert ask() == before


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_patterns(folder: Path, capsys, command: str) -> None:
    (folder / "below").mkdir()
    (folder / "c.gfc").rename(folder / "below" / "c.gfc")
    for pattern, names in (
        ("*.gfc", ["a.gfc", "b.gfc"]),
        ("**/*.gfc", ["a.gfc", "b.gfc", "below/c.gfc"]),
        ("[b]*.gfc", ["b.gfc"]),
    ):
        assert run([command, "--json", pattern]) == 0
        assert [row["path"] for row in json.loads(capsys.readouterr().out)] == names
    (folder / "b.gfc").write_bytes(b"x")
    assert run([command, "--json", "[b].gfc"]) == 3
    assert [row["error"]["code"] for row in json.loads(capsys.readouterr().out)] == [6]
    assert run([command, "nothing*.gfc"]) == 3
    assert "nothing*.gfc" in capsys.readouterr().err
    (folder / "a.gfc").rename(folder / "[a].gfc")  # a name, and no pattern
    assert run([command, "[a].gfc"]) == 0
