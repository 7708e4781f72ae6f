"""gf append, gf truncate, gf diff."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import gfcache
import jsonschema
import pytest

from gfcli.app import run
from tests.cache_format.craft import craft, sections_of
from tests.conftest import SAMPLES, SMALL_GOLDEN
from tests.schemas import schema

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()[:6000]
GOLDEN = SMALL_GOLDEN / "v1"


@pytest.fixture
def made(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]):
    """make(name, text) -> cache file."""

    def make(name: str, text: str) -> str:
        (tmp_path / f"{name}.txt").write_text(text)
        arguments = ["-m", str(tiny_model), "-q", "--checkpoints", "512"]
        assert run(["prefill", str(tmp_path / f"{name}.txt"), *arguments]) == 0
        return capsys.readouterr().out.strip()

    return make


def options(model: Path) -> list[str]:
    return ["-m", str(model), "--checkpoints", "512"]


@pytest.mark.parametrize("cut", [100, 2999, 3000, 3003, 5990])
def test_append_equals_a_cold_run(cut: int, made, tiny_model: Path, tmp_path: Path, capsys) -> None:
    """Cut inside words and at blanks: the tokens are those of the whole text."""
    part, whole = made("part", TEXT[:cut]), made("whole", TEXT)
    (tmp_path / "more.txt").write_text(TEXT[cut:])
    assert run(["append", part, str(tmp_path / "more.txt"), *options(tiny_model)]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == part
    assert ("reused" in err) == (cut > 1000)
    assert run(["diff", part, whole]) == 0


def test_what_was_taken_over_keeps_its_numerics(made, tiny_model: Path, tmp_path: Path, capsys) -> None:
    """Values computed with other threads do not become those of this run by appending to them."""
    part = Path(made("part", TEXT[:3000]))
    numerics = sections_of(part)[0].numerics
    craft(part, part, numerics=numerics | {"threads": numerics["threads"] + 15})
    (tmp_path / "more.txt").write_text(TEXT[3000:])
    assert run(["append", str(part), str(tmp_path / "more.txt"), *options(tiny_model)]) == 0
    err = capsys.readouterr().err
    assert "reused" in err
    assert "other numerics" in err
    assert sections_of(part)[0].numerics["threads"] == numerics["threads"] + 15
    assert run(["ask", "--strict", "-m", str(tiny_model), "--cache", str(part), "What?"]) == 5
    assert run(["verify", "--replay", "100%", "-m", str(tiny_model), str(part)]) == 0  # equal within rounding


def test_append_to_another_file(made, tiny_model: Path, tmp_path: Path, capsys) -> None:
    part, whole = made("part", TEXT[:3000]), made("whole", TEXT)
    before = Path(part).read_bytes()
    (tmp_path / "more.txt").write_text(TEXT[3000:])
    both = str(tmp_path / "both.gfc")
    arguments = ["append", part, str(tmp_path / "more.txt"), "-o", both, *options(tiny_model)]
    assert run(arguments) == 0
    assert Path(part).read_bytes() == before
    assert run(["diff", both, whole]) == 0
    assert run(arguments) == 2  # both.gfc is another file and exists
    assert "--force" in capsys.readouterr().err
    Path(both).write_bytes(before)
    assert run([*arguments, "--force"]) == 0
    assert run(["diff", both, whole]) == 0
    for command in (
        ["append", part, str(tmp_path / "more.txt")],
        ["truncate", part, "--to-line", "1"],
        ["flatten", part],
    ):
        capsys.readouterr()
        assert run([*command, "-o", str(tmp_path / "more.txt"), "--force"]) == 2
        assert "--force" not in capsys.readouterr().err
    assert (tmp_path / "more.txt").read_text() == TEXT[3000:]
    (tmp_path / "nothing.txt").write_text("")
    assert run(["append", part, str(tmp_path / "nothing.txt"), *options(tiny_model)]) == 2


def test_truncate(made, tiny_model: Path, tmp_path: Path, capsys) -> None:
    lines = TEXT.splitlines(keepends=True)
    whole, first = made("whole", TEXT), made("first", "".join(lines[:5]))
    shorter = str(tmp_path / "shorter.gfc")
    assert run(["truncate", whole, "--to-line", "5", "-o", shorter, *options(tiny_model)]) == 0
    assert run(["diff", shorter, first]) == 0
    assert run(["truncate", whole, "--to-token", "700", *options(tiny_model)]) == 0
    assert "512 reused" in capsys.readouterr().err
    for bad in (["--to-line", "0"], ["--to-token", "100000"], [], ["--to-line", "1", "--to-token", "1"]):
        assert run(["truncate", whole, *bad, *options(tiny_model)]) == 2


def test_no_character_is_cut_in_half(tmp_path: Path, tiny_model: Path, capsys) -> None:
    """Each of these takes three tokens."""
    document, cut = tmp_path / "euro.txt", str(tmp_path / "cut.gfc")
    document.write_text("\u20ac" * 5)
    assert run(["prefill", str(document), "-m", str(tiny_model), "-q"]) == 0
    for asked, kept in ((6, 6), (7, 6), (8, 6), (9, 9)):
        to_token = ["--to-token", str(asked), "-o", cut, "--force", "-m", str(tiny_model)]
        assert run(["truncate", str(tmp_path / "euro.gfc"), *to_token]) == 0
        assert ("cut a character in half" in capsys.readouterr().err) == (asked != kept)
        template = sections_of(cut)[0].template
        assert template["document_end"] - template["document_start"] == kept


def test_diff(made, other_model: Path, tmp_path: Path, capsys) -> None:
    a, b = made("a", TEXT), made("b", TEXT[:3000] + "X" + TEXT[3001:])
    assert run(["diff", a, a]) == 0
    assert "equal" in capsys.readouterr().out
    assert run(["diff", "--json", a, b]) == 10
    result = json.loads(capsys.readouterr().out)
    jsonschema.validate(result, schema("diff"))
    assert not result["equal"]
    assert result["identity"] == []
    assert 0 < result["first_divergent_token"] < result["tokens"][0]
    assert "compressed_k/0" in result["sections"]
    assert run(["prefill", str(tmp_path / "a.txt"), "-m", str(other_model), "-q", "-o", str(tmp_path / "c.gfc")]) == 0
    capsys.readouterr()
    assert run(["diff", a, str(tmp_path / "c.gfc")]) == 10
    assert "model.prefill_fingerprint" in capsys.readouterr().out
    assert run(["diff", a, str(tmp_path / "none.gfc")]) == 4


def rewritten(old: Path, out: Path, changed: str = "", **header: object) -> None:
    """A cache with another first value in the section of that name, and other header fields."""
    with gfcache.read_cache(old) as file:
        data = []
        for s in file.header.sections:
            array = file.array(s).copy()
            if s.name == changed:
                array.flat[0] = 1
            places = {"position": s.position, "token_start": s.token_start, "layer": s.layer}
            data.append(
                gfcache.SectionData(s.name, s.kind, s.dtype, array, s.depends_on, s.required, **places, codec=s.codec)
            )
        gfcache.write_cache(out, dataclasses.replace(file.header, sections=(), **header), data)


@pytest.mark.parametrize("changed", ["token_ids", "compressed_k/0", ""])
def test_diff_sees_the_base(changed: str, tmp_path: Path, capsys) -> None:
    base, child = tmp_path / "goldfinch.gfc", tmp_path / "child.gfc"
    rewritten(GOLDEN / "goldfinch.gfc", base, changed, writer="another")
    with gfcache.read_cache(base) as file, gfcache.read_cache(GOLDEN / "child.gfc") as old:
        reference = gfcache.parent_reference(file, old.header.first_token, child)
    rewritten(GOLDEN / "child.gfc", child, parent=reference)
    assert run(["diff", "--json", str(GOLDEN / "child.gfc"), str(child)]) == (10 if changed else 0)
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, schema("diff"))
    assert found["equal"] is not bool(changed)
    assert found["first_divergent_token"] == (0 if changed == "token_ids" else None)
    assert found["sections"] == (["compressed_k of the base"] if changed.startswith("compressed_k") else [])


def test_diff_of_a_damaged_copy(made, capsys) -> None:
    a = made("a", TEXT[:600])
    b = Path(a).with_name("b.gfc")
    data = bytearray(Path(a).read_bytes())
    data[-100] ^= 1
    b.write_bytes(data)
    assert run(["diff", a, str(b)]) == 6
    assert "R14" in capsys.readouterr().err


def test_words_of_a_foreign_cache_do_not_steer_the_terminal(tmp_path: Path, capsys, monkeypatch) -> None:
    steering = "\x1b[2J\x07"
    monkeypatch.chdir(tmp_path)
    with gfcache.read_cache(GOLDEN / "child.gfc") as file:
        header = file.header
    strange = {
        "model": dict(header.model) | {"name": steering},
        "source": dict(header.source or {}) | {"name": steering, "path": None},
        "parent": dict(header.parent or {}) | {"path": steering, "name": steering},
        "numerics": dict(header.numerics) | {steering: "x"},
    }
    rewritten(GOLDEN / "child.gfc", tmp_path / "child.gfc", **strange)
    alone = {name: strange[name] for name in ("model", "source", "numerics")}
    rewritten(GOLDEN / "goldfinch.gfc", tmp_path / "alone.gfc", **alone)
    good = str(GOLDEN / "goldfinch.gfc")
    for command, code in (
        (["inspect", "child.gfc"], 0), (["status", "child.gfc"], 0), (["verify", "child.gfc"], 4),
        (["diff", "alone.gfc", good], 0), (["cache", "import", "alone.gfc"], 0), (["cache", "ls"], 0),
        (["cache", "export", "--filter", "hits=0", "-o", "out/"], 0),
    ):  # fmt: skip
        assert run(command) == code, command
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err, command
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["?[2J?.gfc"]


def test_lines_are_those_of_other_programs(tiny_model: Path, tmp_path: Path, capsys) -> None:
    """Of the ends of lines that Unicode knows, only one counts: what `head -n` and --cite take for one."""
    text = "one\ntwo\f\nthree\u2028still\x85three\r\nfour\n"
    (tmp_path / "lines.txt").write_bytes(text.encode())
    path = str(tmp_path / "lines.gfc")
    assert run(["prefill", str(tmp_path / "lines.txt"), "-m", str(tiny_model), "-q"]) == 0
    kept = str(tmp_path / "kept.gfc")
    assert run(["truncate", path, "--to-line", "3", "-m", str(tiny_model), "-o", kept]) == 0
    whole = text[: text.index("four")].encode()
    with gfcache.read_cache(kept) as file:
        assert file.header.source["bytes"] == len(whole)
    assert run(["truncate", path, "--to-line", "5", "-m", str(tiny_model)]) == 2
    assert "1 to 4" in capsys.readouterr().err


def test_the_name_of_a_log_stays_short(made, tiny_model: Path, tmp_path: Path) -> None:
    path = made("log", TEXT[:300])
    (tmp_path / "today.txt").write_text(" And so on.")
    for _ in range(3):
        assert run(["append", path, str(tmp_path / "today.txt"), "-m", str(tiny_model)]) == 0
    with gfcache.read_cache(path) as file:
        assert file.header.source["name"] == "log.txt (and today.txt)"
    assert run(["truncate", path, "--to-token", "20", "-m", str(tiny_model)]) == 0
    with gfcache.read_cache(path) as file:
        assert file.header.source["name"] == "log.txt (first 20 tokens)"


def test_a_document_that_holds_all_that_was_appended_takes_the_cache_over(made, tmp_path, tiny_model, capsys) -> None:
    """There is one cache of a log, however it grew."""
    log, more = tmp_path / "log.txt", tmp_path / "more.txt"
    cache = made("log", TEXT[:3000])
    more.write_text(TEXT[3000:4000])
    assert run(["append", cache, str(more), *options(tiny_model), "-q"]) == 0
    log.write_text(TEXT[:5000])
    capsys.readouterr()
    assert run(["prefill", str(log), *options(tiny_model)]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == cache
    assert "reused" in err
    assert [path.name for path in tmp_path.glob("*.gfc")] == ["log.gfc"]
    assert run(["status", cache]) == 0
    assert capsys.readouterr().out.startswith("fresh")


@pytest.mark.parametrize("change", ["append", "truncate"])
def test_a_document_leaves_a_changed_cache_what_it_does_not_hold(change, made, tmp_path, tiny_model, capsys) -> None:
    """What was appended and is not in the file would be lost; what was truncated is so on purpose."""
    log, more = tmp_path / "log.txt", tmp_path / "more.txt"
    cache = made("log", TEXT[:3000])
    more.write_text("Something else.\n")
    arguments = [str(more)] if change == "append" else ["--to-token", "100"]
    assert run([change, cache, *arguments, *options(tiny_model), "-q"]) == 0
    before = Path(cache).read_bytes()
    capsys.readouterr()
    assert run(["prefill", str(log), *options(tiny_model)]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == f"{log}.gfc"
    assert f"{log}: its cache is {log}.gfc, for {cache} is of another document" in err
    assert Path(cache).read_bytes() == before
