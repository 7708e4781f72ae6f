"""Every command: named once, loaded when it is called, with a help page that is whole and an example that runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gfcli import registry
from gfcli.app import run
from gfcli.parser import _completed, build
from gfcli.registry import COMMANDS, GROUPS

LEAVES = [command for command in COMMANDS if command.function]
NAMES = [command.name for command in LEAVES]


def page(capsys: pytest.CaptureFixture[str], name: str, flag: str = "--help") -> str:
    capsys.readouterr()
    assert run([*name.split(), flag]) == 0
    return capsys.readouterr().out


def test_names_are_unique_and_every_group_is_shown() -> None:
    words = [(c.parent, word) for c in COMMANDS for word in (c.word, *c.aliases)]
    assert len(set(words)) == len(words)
    for command in COMMANDS:
        assert len(command.summary) < 45, command.name
        assert command.summary.endswith("."), command.name
        assert (command.heading in GROUPS) == (command.parent == ""), command.name
        assert not command.parent or registry.find("", command.parent) is not None


@pytest.mark.parametrize("columns", ["60", "80"])
def test_summaries_are_never_cut(columns: str, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for group in ("", "cache", "model", "bench", "config"):
        text = page(capsys, group)
        assert "..." not in text
        assert all(len(line) <= int(columns) for line in text.splitlines())
        for command in registry.below(group):
            assert command.summary in " ".join(text.split())
    assert [line for line in page(capsys, "").splitlines() if line.endswith(":")] == [
        f"{g}:" for g in (*GROUPS, "Options")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_examples_use_the_options_that_the_page_lists(name: str, capsys) -> None:
    """A letter that stays for those who know it, as -n for --limit, is not taught."""
    description, _, options = page(capsys, name).partition("Options:\n")
    listed = set(re.findall(r"(?:^| )(-[a-zA-Z0-9]\b|--[a-z][a-z-]*)", options, re.MULTILINE))
    for line in description.split("Examples:\n")[1].splitlines():
        found = re.match(rf"  gf {name} (.*)", line)
        taught = (
            re.findall(r"(?:^| )(-[a-zA-Z0-9]\b|--[a-z][a-z-]*)", re.split(r" [|&>]+ ", found[1])[0]) if found else []
        )
        assert not set(taught) - listed, line


@pytest.mark.parametrize("name", NAMES)
def test_pages_are_whole(name: str, capsys) -> None:
    """They begin with the summary; every value has a name of ours; an example at least ends the description."""
    text = page(capsys, name)
    assert page(capsys, name, "-h") == text
    command = registry.named(name.split())
    assert command is not None
    lines = text.splitlines()
    assert lines[0].startswith(f"Usage: gf {name} [OPTIONS]")
    assert lines[2].strip() == command.summary
    assert "{" not in lines[0]
    assert "Examples:\n  " in text
    for param in build(command).params:
        assert param.metavar or getattr(param, "is_flag", False), f"{name} {param.name}"
        assert param.help, f"{name} {param.name}"


def test_an_option_with_a_usual_value_may_go_without_one() -> None:
    """`gf verify --replay doc.gfc` missed its argument, for the file was taken for a share."""
    usual = {"--replay": "100%"}
    for given, expected in (
        (["--replay", "doc.gfc"], ["--replay", "100%", "doc.gfc"]), (["doc.gfc", "--replay"], ["doc.gfc", "--replay", "100%"]),
        (["--replay", "--json", "a"], ["--replay", "100%", "--json", "a"]), (["--replay", "10%", "a"],) * 2,
        (["--replay", __file__], ["--replay", "100%", __file__]), (["--", "--replay", "a.gfc"],) * 2, (["--replay", "x"],) * 2,
    ):  # fmt: skip
        assert _completed(given, usual) == expected


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_of_the_options(name: str) -> None:
    command = registry.named(name.split())
    assert command is not None
    options = {param.name for param in build(command).params}
    # gf refresh keeps the checkpoints that each cache has; gf eval compares policies that it is given.
    # What gf convert does to a file is what its command line says.
    without = {"refresh": {"checkpoints"}, "eval": {"read", "read_blocks"}, "convert": {"codec", "state_codec"}}
    unset = without.get(name, set())
    named = {
        "device",
        "checkpoints",
        "layout",
        "codec",
        "state_codec",
        "encoding",
        "verbatim",
        "skip_blobs",
        "memory",
        "read",
        "read_blocks",
        "least_likelihood",
        "max_tokens",
    } - unset
    assert set(command.settings) == options & named


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("prefil", "gf prefill"), ("cache lss", "gf cache ls"), ("ls", "gf cache ls or gf model list"), ("pin", "gf cache pin"),
        ("model lisst", "gf model list"), ("ask --jsn", "--json or --jsonl"), ("inspect --jason x", "--json or --jsonl"),
    ],
)  # fmt: skip
def test_the_nearest_is_suggested(line: str, hint: str, capsys) -> None:
    assert run(line.split()) == 2
    assert capsys.readouterr().err.endswith(f"hint: did you mean {hint}?\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nothing", "no such command: gf nothing"), ("inspect", "missing argument CACHE..."), ("ask -n", "-n"),
        ("diff a b c", "unexpected extra argument (c)"), ("model init", "missing option --output"),
        ("ask d --top-k x", "--top-k: 'x' is"), ("verify x --seed -1", "--seed: -1 is"),
    ],
)  # fmt: skip
def test_complaints_begin_in_lower_case_and_lead_to_help(line: str, words: str, capsys) -> None:
    assert run(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("error: ")
    assert "\nhint: see gf" in err


def test_aliases(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for long, short in (("model list", "model ls"), ("cache ls", "cache list")):
        outputs = []
        for name in (long, short):
            assert run([*name.split(), "--json"]) == 0
            outputs.append(capsys.readouterr().out)
        assert outputs[0] == outputs[1]


def test_one_letter_means_one_thing(capsys) -> None:
    """-n is --max-tokens; for --dry-run and --limit it works, and only the long name is documented."""
    pages = {name: page(capsys, name) for name in NAMES}
    assert [name for name, text in pages.items() if "  -n, " in text] == ["ask"]
    assert [name for name, text in pages.items() if " --dry-run" in text] == [
        "refresh", "prune", "cache rm", "cache prune",
    ]  # fmt: skip
    assert run(["cache", "prune", "-n"]) == 0


def test_only_the_command_that_is_called_is_imported() -> None:
    code = (
        "import sys; from gfcli.app import run; run(sys.argv[1:]);"
        "print(*sorted(m for m in sys.modules if m.startswith(('gfcli.commands.', 'numpy.', 'torch.'))))"
    )
    for arguments, modules in ((["--help"], ""), (["completion", "x"], "gfcli.commands.completion")):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1].strip() == modules


def test_torch_is_loaded_by_the_commands_that_say_so(cache: Path, tiny_model: Path) -> None:
    lines = {
        "cache import": [str(cache)], "status": [str(cache)], "prune": [str(cache.parent), "--orphaned"], "flatten": [str(cache)], "inspect": [str(cache)], "verify": [str(cache)],
        "convert": [str(cache), "--codec", "int8", "--state-codec", "int8"],
        "diff": [str(cache), str(cache)], "cache ls": [], "cache rm": ["--filter", "hits>9"], "cache prune": [],
        "cache pin": ["--filter", "hits>9"], "cache unpin": ["--filter", "hits>9"], "cache du": [],
        "cache tag": ["--add", "x", "--filter", "hits>9"], "cache export": ["--filter", "hits>9"],
        "search": ["--cache", str(cache), "-m", str(tiny_model), "the world"], "model list": [], "model show": [str(tiny_model)], "config show": [],
        "completion": ["bash"], "log": [], "bench methods": ["--arithmetic"],
    }  # fmt: skip
    light = {command.name for command in LEAVES if not command.loads_torch}
    assert set(lines) == light | {"bench methods"}  # by formula
    code = "import json, sys; from gfcli.app import run\nfor line in json.loads(sys.argv[1]): assert run(line) in (0, 6), line\nassert 'torch' not in sys.modules"
    given = json.dumps([[*name.split(), *rest] for name, rest in lines.items()])
    done = subprocess.run(
        [sys.executable, "-c", code, given], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [[], ["prefill"], ["cache"], ["cache", "ls"]])
def test_help_is_a_word_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", *words]) == 0
    pages = [capsys.readouterr().out]
    assert run([*words, "--help"]) == 0
    assert capsys.readouterr().out == pages[0] != ""
    assert run(["help", "nosuch"]) == 2
