"""Which documents are meant and where their caches go, as library errors with fields."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from goldfinch.errors import EmptyInput, FolderNamed, NoSuchFolder, NothingFound, OutputNeeded, OutputTaken, SourceError
from goldfinch.jobs.outputs import check_place, output_path, real
from goldfinch.jobs.sources import Source, find_sources
from goldfinch.text.documents import document_of_bytes


def test_names_that_lead_to_no_documents(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("x")
    with pytest.raises(FolderNamed) as folder:
        find_sources([str(tmp_path)])
    assert folder.value.path == str(tmp_path)
    with pytest.raises(NothingFound) as nothing:
        find_sources([str(tmp_path)], recursive=True)
    assert nothing.value.left_out == 1
    for names in ([""], ["-", "-"]):
        with pytest.raises(SourceError):
            find_sources(names)
    with pytest.raises(FileNotFoundError):
        find_sources([str(tmp_path / "*.txt")])
    (tmp_path / "blank.txt").write_text(" \n")
    with pytest.raises(EmptyInput):
        Source(str(tmp_path / "blank.txt")).read()


def test_each_document_has_an_output_of_its_own(tmp_path: Path) -> None:
    taken: set[Path] = set()
    found = []
    for name in ("a.txt", "a.md"):
        (tmp_path / name).write_text(name)
        path = output_path(Source(str(tmp_path / name)).read(), None, taken)
        taken.add(real(path))
        found.append(path.name)
    assert found == ["a.gfc", "a.md.gfc"]
    with pytest.raises(OutputTaken):
        output_path(Source(str(tmp_path / "a.md")).read(), None, taken)
    with pytest.raises(OutputNeeded):
        output_path(document_of_bytes(b"text", "stdin"), None, taken)
    with pytest.raises(NoSuchFolder) as missing:
        check_place(tmp_path / "none" / "a.gfc")
    assert missing.value.folder == tmp_path / "none"


def test_finding_needs_no_torch() -> None:
    code = (
        "import sys, goldfinch.jobs.sources, goldfinch.jobs.outputs, goldfinch.jobs.events, "
        "goldfinch.library.freshness, goldfinch.library.opening, goldfinch.library.library; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
