"""Documents that are generated are up to date; examples in the guide run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parent.parent


def test_cli_reference_is_generated_from_the_help() -> None:
    from gfcli.reference import reference

    assert (ROOT / "docs" / "cli.md").read_text() == reference(), "run make docs"


def test_every_command_ends_with_three_examples() -> None:
    from gfcli.reference import COMMANDS, help_text

    for command in COMMANDS:
        if command and command not in (("model",), ("bench",), ("cache",), ("config",)):
            text = help_text(command)
            after = text.split("Examples:", 1)[1].split("Options:", 1)[0].split("Arguments:", 1)[0]
            assert (
                len(re.findall(r"^ +\S.*gf ", after, re.MULTILINE)) + len(re.findall(r"^ +gf ", after, re.MULTILINE))
                >= 3
            ), command


def test_schemas_are_schemas() -> None:
    for path in (ROOT / "docs" / "schemas").glob("*.json"):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_generated_figures_are_up_to_date() -> None:
    from bench.report import MODEL_CARD, README, benchmarks_page, with_figures

    assert (ROOT / "docs" / "benchmarks.md").read_text() == benchmarks_page(), "run python bench/report.py"
    for page in (README, MODEL_CARD):
        assert page.read_text() == with_figures(page), "run python bench/report.py"


def test_the_readme_fits_one_screen() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 60


def test_python_examples_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs" / "guide.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert examples
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doc.txt").write_text((ROOT / "docs" / "samples" / "lighthouse-handbook.txt").read_text())
    names: dict[str, object] = {}
    for example in examples:
        exec(example, names)


def test_links_point_at_files() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
