"""Documents that are generated are up to date; examples in the guide run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from bench.places import EMBEDDED

ROOT = Path(__file__).parent.parent


def test_cli_reference_is_generated_from_the_help() -> None:
    from gfcli.reference import reference

    assert (ROOT / "docs" / "cli.md").read_text() == reference(), "run make docs"


def test_schemas_are_schemas() -> None:
    for path in (ROOT / "docs" / "schemas").glob("*.json"):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_generated_figures_are_up_to_date() -> None:
    from bench.report.page import CONCEPTS, MODEL_CARD, MODELS, README, benchmarks_page, with_figures

    assert (ROOT / "docs" / "benchmarks.md").read_text() == benchmarks_page(), "run python -m bench.report.page"
    for page in (README, MODEL_CARD, CONCEPTS, MODELS):
        assert page.read_text() == with_figures(page), "run python -m bench.report.page"


def test_the_readme_fits_one_screen() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 60


def test_the_model_card_stays_short() -> None:
    assert len((EMBEDDED / "MODEL_CARD.md").read_text().splitlines()) <= 50


def test_python_examples_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "guide.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert examples
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doc.txt").write_text((ROOT / "docs" / "samples" / "lighthouse-handbook.txt").read_text())
    names: dict[str, object] = {}
    for example in examples:
        exec(example, names)


@pytest.mark.parametrize("notebook", sorted((ROOT / "docs" / "examples").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell, in their folder, as Jupyter does; they write nothing there, and no outputs are kept in them."""
    monkeypatch.chdir(notebook.parent)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(notebook.parent.iterdir())
    names: dict[str, object] = {}
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    for number, cell in enumerate(cells):
        assert cell["outputs"] == []
        exec(compile("".join(cell["source"]), f"{notebook.name}:{number}", "exec"), names)
    assert sorted(notebook.parent.iterdir()) == before


def test_links_point_at_files() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def table_under(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading of CONTRIBUTING, without its head."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split(heading, 1)[1]
    lines = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_where_to_change_things_names_files_that_are_there() -> None:
    rows = table_under("## Where do I change ...?")
    assert len(rows) >= 12
    for what, where in rows:
        assert (ROOT / where.strip("`")).exists(), f"{what}: {where}"


def test_every_folder_of_the_library_is_described() -> None:
    described = {row[0].strip("`/") for row in table_under("The folders of goldfinch/")}
    assert described == {path.name for path in (ROOT / "goldfinch").iterdir() if path.is_dir() and path.name[0] != "_"}


def test_lines_of_prose_are_short() -> None:
    """Tables, and lines that a program prints, are as long as they are."""
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "kernels/README.md", ROOT / "bench/README.md"]
    for path in (*texts, ROOT / "cache_format/SPEC.md", *(ROOT / "goldfinch/assets").glob("*/*.md")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert len(line) < 120 or line.startswith(("|", "    {", "![")), f"{path}:{number}"


def guide_commands() -> list[str]:
    """The command lines of the guide, without their comments."""
    guide = (ROOT / "docs" / "guide.md").read_text()
    outside = re.sub(r"```.*?```", "", guide, flags=re.DOTALL)
    lines = re.findall(r"^    (\S.*)$", outside, re.MULTILINE)
    return [re.sub(r"\s+# .*$", "", line) for line in lines if not line.startswith("{")]


# What needs a terminal, weights from elsewhere, a converter or hours; each of these has tests of its own.
NOT_RUN = (
    "gf ask report.txt", "gf model import", "gf prefill report.txt -m my-model", "GF_DATA_DIR", "pdftotext", "gf bench",
    "gf model list", "gf model set", "gf train recipe.toml",
)  # fmt: skip


def test_command_lines_of_the_guide_run(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them, in order, in one folder, as a shell would run them."""
    import glob
    import io
    import os
    import shlex
    import subprocess
    import sys

    from gfcli.app import run

    text = (ROOT / "docs" / "samples" / "four-freedoms-1941.txt").read_text()
    work, programs = tmp_path / "work", tmp_path / "programs"
    for name, length in (
        ("report.txt", 3000), ("doc.txt", 2500), ("more.txt", 200), ("handbook.txt", 6000), ("chapter1.txt", 900),
        ("chapter2.txt", 800), ("docs/a.txt", 700), ("docs/b.txt", 900), ("docs/sub/c.md", 800),
    ):  # fmt: skip
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"{name}\n{text[:length]}")
    (work / "questions.txt").write_text("Who?\nWhen?\n")
    (work / "questions.jsonl").write_text(
        '{"id": "w", "question": "Who?"}\n{"question": "When?", "document": "a.txt"}\n'
    )
    programs.mkdir()
    (programs / "gf").write_text(f'#!/bin/sh\nexec {sys.executable} -c "from gfcli.app import main; main()" "$@"\n')
    (programs / "gf").chmod(0o755)
    (tmp_path / "user-models").mkdir()
    (tmp_path / "user-models" / "tiny").symlink_to(tiny_model)
    code = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), str(ROOT / "cache_format")])
    for name, value in (
        ("PATH", f"{programs}:{os.environ['PATH']}"), ("PYTHONPATH", code), ("GF_MODEL", "tiny"), ("GF_MAX_TOKENS", "2"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    commands = [c for c in guide_commands() if c not in NOT_RUN and not c.startswith(NOT_RUN[1:])]
    assert len(commands) >= 30
    assert run(["prefill", "-q", "doc.txt"]) == 0
    for command in commands:
        if "|" in command:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (command, done.stderr)
            continue
        words = shlex.split(command.split(" > ")[0], posix=False)
        assert words[0] == "gf"
        arguments = []
        for word in words[1:]:
            arguments += [word.strip("'\"")] if word[0] in "'\"" else sorted(glob.glob(word)) or [word]
        found = run(arguments)
        assert found == 0, (command, capsys.readouterr().err)


def test_the_settings_of_the_guide_are_settings() -> None:
    import tomllib

    from gfcli.support import settings

    guide = (ROOT / "docs" / "guide.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    values = tomllib.loads(re.sub(r"^# (\w+ =)", r"\1", example, flags=re.MULTILINE))
    flat = {k: v for k, v in values.items() if not isinstance(v, dict)} | {
        f"cache.{k}": v for k, v in values["cache"].items()
    }
    assert set(flat) == set(settings.SETTINGS)
    for name, value in flat.items():
        settings.SETTINGS[name].check(value)
