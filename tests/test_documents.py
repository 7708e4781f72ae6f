"""Documents that are generated are up to date; examples in the guide and the tutorial run; the site has all pages."""

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
    from bench.report.page import CONCEPTS, MODEL_CARD, MODELS, README, benchmarks_page, record, with_figures
    from bench.report.sections.methods import methods_page

    assert (ROOT / "docs" / "benchmarks.md").read_text() == benchmarks_page(), "run python -m bench.report.page"
    page = (ROOT / "docs" / "methods-results.md").read_text()
    assert page == methods_page(record("methods")), "run python -m bench.report.page"
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


def test_links_point_at_headings() -> None:
    def place(heading: str) -> str:
        return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())

    found = 0
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^):]*\.md)?#([^)]+)\)", page.read_text()):
            other = page.parent / target if target else page
            assert anchor in map(place, re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)), (page.name, anchor)
            found += 1
    assert found >= 8


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


def commands_of(page: str) -> list[str]:
    """The command lines of a page, without their comments."""
    outside = re.sub(r"```.*?```", "", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)
    lines = re.findall(r"^    (\S.*)$", outside, re.MULTILINE)
    return [re.sub(r"\s+# .*$", "", line) for line in lines if not line.startswith("{")]


# What needs a terminal, weights from elsewhere, a converter or hours; each of these has tests of its own.
NOT_RUN = (
    "gf ask report.txt", "gf model import", "gf prefill report.txt -m my-model", "GF_DATA_DIR", "pdftotext", "gf bench",
    "gf model list", "gf model set", "gf train recipe.toml", "make ", "pip", "export PATH", "gf doctor",
)  # fmt: skip


@pytest.fixture
def shell(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, in which gf is a command with a small model."""
    import io
    import os
    import sys

    work, programs = tmp_path / "work", tmp_path / "programs"
    work.mkdir()
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
    return work


def run_as_a_shell_would(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    import glob
    import shlex
    import subprocess

    from gfcli.app import run

    words = shlex.split(command.split(" > ")[0], posix=False)
    if "|" in command or words[0] != "gf":
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        return
    arguments = []
    for word in words[1:]:
        arguments += [word.strip("'\"")] if word[0] in "'\"" else sorted(glob.glob(word)) or [word]
    assert run(arguments) == 0, (command, capsys.readouterr().err)


def test_command_lines_of_the_guide_run(shell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, in order, in one folder, as a shell would run them."""
    from gfcli.app import run

    text = (ROOT / "docs" / "samples" / "four-freedoms-1941.txt").read_text()
    for name, length in (
        ("report.txt", 3000), ("doc.txt", 2500), ("more.txt", 200), ("handbook.txt", 6000), ("chapter1.txt", 900),
        ("chapter2.txt", 800), ("docs/a.txt", 700), ("docs/b.txt", 900), ("docs/sub/c.md", 800),
    ):  # fmt: skip
        (shell / name).parent.mkdir(parents=True, exist_ok=True)
        (shell / name).write_text(f"{name}\n{text[:length]}")
    (shell / "questions.txt").write_text("Who?\nWhen?\n")
    (shell / "questions.jsonl").write_text(
        '{"id": "w", "question": "Who?"}\n{"question": "When?", "document": "a.txt"}\n'
    )
    commands = [c for c in commands_of("guide.md") if c not in NOT_RUN and not c.startswith(NOT_RUN[1:])]
    assert len(commands) >= 30
    assert run(["prefill", "-q", "doc.txt"]) == 0
    for command in commands:
        run_as_a_shell_would(command, capsys)


def test_the_tutorial_runs(shell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands in order, then its Python; what the embedded model answers is not held to."""
    (shell / "docs").mkdir()
    (shell / "docs" / "samples").symlink_to(ROOT / "docs" / "samples")
    commands = [c for c in commands_of("tutorial.md") if not c.startswith(NOT_RUN[1:])]
    assert len(commands) >= 10
    for command in commands:
        run_as_a_shell_would(command, capsys)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    exec(example.replace("load_model()", 'load_model("tiny")'), {})


def test_the_site_has_all_pages() -> None:
    import yaml

    def pages(entry: object) -> list[str]:
        inner = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
        return [entry] if isinstance(entry, str) else [page for one in inner for page in pages(one)]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert all((ROOT / page).is_file() for page in listed)
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= set(listed)
    (build,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text())
    assert build == "mkdocs build --strict"  # with -q it counts no warning, and passes whatever there is


def test_the_settings_of_the_page_are_settings() -> None:
    import tomllib

    from gfcli.support import settings

    page = (ROOT / "docs" / "settings.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    values = tomllib.loads(re.sub(r"^# (\w+ =)", r"\1", example, flags=re.MULTILINE))
    flat = {k: v for k, v in values.items() if not isinstance(v, dict)} | {
        f"cache.{k}": v for k, v in values["cache"].items()
    }
    assert set(flat) == set(settings.SETTINGS)
    for name, value in flat.items():
        settings.SETTINGS[name].check(value)
