"""Numbers, sizes, ages, patterns: read in one way by options, filters and settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfcli.app import run
from gfcli.support.exits import CommandError
from gfcli.support.values import checkpoints, count, parse_age, parse_bytes, parse_count, parse_lengths, show_bytes


@pytest.mark.parametrize(
    ("text", "number"), [("500", 500), ("1k", 1000), ("2.5k", 2500), ("1M", 10**6), ("1,534", 1534), ("0", 0)]
)
def test_counts(text: str, number: int) -> None:
    assert parse_count(text, "it") == number
    if number:
        assert count(text) == number
        assert checkpoints(text) == str(number)
        assert parse_lengths(f"{text}" if "," not in text else "7", "it")[-1] in (number, 7)


@pytest.mark.parametrize("text", ["", "k", "1.5", "-1", "1e3", "1,53", "1_000", "one", "9" * 30])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(CommandError, match="expected a whole number"):
        parse_count(text, "it")
    with pytest.raises(ValueError, match="1 or more"):
        count(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("4g", 4 << 30), ("1.5K", 1536), ("2KiB", 2048), ("2kB", 2000), ("211.3 kB", 211_300), ("1,024 B", 1024)],
)
def test_sizes(text: str, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize("number", [7, 999, 1500, 211_300, 5_200_000, 7_400_000_000])
def test_a_size_that_is_shown_can_be_given(number: int) -> None:
    assert parse_bytes(show_bytes(number)) == number


def test_ages() -> None:
    ages = ["90s", "5m", "2h", "7d", "2w", "6mo", "1y"]
    assert [parse_age(age, "it") for age in ages] == sorted(parse_age(age, "it") for age in ages)


def test_every_option_that_is_a_number_reads_thousands(cache: Path, tiny_model: Path, capsys) -> None:
    model = ["-m", str(tiny_model)]
    assert run(["truncate", str(cache), "--to-token", "0.1k", *model, "-q"]) == 0
    capsys.readouterr()
    assert run(["truncate", str(cache), "--to-line", "1k", *model]) == 2
    assert "cannot keep 1000 lines" in capsys.readouterr().err
    assert run(["cache", "ls", "--limit", "0"]) == 2
    assert "--limit: 0 is not allowed; allowed: 1 or more" in capsys.readouterr().err
    assert run(["cache", "ls", "--limit", "many"]) == 2
    assert "--limit: 'many' is no number; expected a whole number, perhaps with k or m" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["verify"], ["inspect"], ["status"], ["refresh"]])
def test_patterns_and_folders_mean_the_caches_there(command: list[str], cache: Path, capsys) -> None:
    other = cache.with_name("other.gfc")
    other.write_bytes(cache.read_bytes())
    cache.with_name("notes.txt").write_text("Not a cache.\n")
    for named in (f"{cache.parent}/*.gfc", str(cache.parent)):
        assert run([*command, named]) == 0, capsys.readouterr().err
        out, err = capsys.readouterr()
        assert command == ["refresh"] or (str(cache) in out and str(other) in out), (out, err)


def test_a_folder_of_caches_is_asked(cache: Path, tiny_model: Path, capsys) -> None:
    assert run(["ask", "--cache", str(cache.parent), "What is freedom?", "-m", str(tiny_model), "-n", "1"]) == 0, (
        capsys.readouterr()
    )
