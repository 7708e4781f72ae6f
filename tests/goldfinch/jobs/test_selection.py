"""Which files of a folder are meant: patterns of the call, marks, folders that are caches, lists."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from goldfinch.errors import SourceError
from goldfinch.jobs.selection import Selection, selection
from goldfinch.jobs.sources import find_sources

NAMES = ("a.md", "b.TXT", "c.txt", "drafts/d.md", "sub/e.md", "sub/drafts/f.md", "sub/g.rst")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def found(folder: Path, only: Selection | None = None) -> set[str]:
    sources = find_sources([str(folder)], recursive=True, only=only).documents
    return {os.path.relpath(source.name, folder) for source in sources}


def test_patterns_choose_among_the_files_of_a_folder(folder: Path) -> None:
    every = set(NAMES)
    for only, expected in (
        (selection(), every),
        (selection(exclude=["drafts/"]), every - {"drafts/d.md", "sub/drafts/f.md"}),
        (selection(exclude=["/drafts", "*.TXT"]), every - {"drafts/d.md", "b.TXT"}),
        (selection(include=["sub/**"]), {"sub/e.md", "sub/drafts/f.md", "sub/g.rst"}),
        (selection(extensions=["md"]), {name for name in every if name.endswith(".md")}),
        (selection(["drafts"], ["c.*"], [".md", "rst"]), {"a.md", "c.txt", "sub/e.md", "sub/g.rst"}),
    ):
        assert found(folder, only) == expected
    for wrong in ({"exclude": [""]}, {"include": ["# a"]}, {"extensions": ["."]}, {"exclude": ["!"]}):
        with pytest.raises(SourceError, match="no pattern"):
            selection(**wrong)


def test_a_mark_before_ignore_patterns_is_none_of_them(folder: Path) -> None:
    (folder / ".gitignore").write_bytes(b"\xef\xbb\xbfa.md\n")
    assert "a.md" not in found(folder)


def test_a_folder_that_is_the_cache_of_a_program_is_left_out_below_the_one_that_was_named(folder: Path) -> None:
    tag = folder / "sub" / "CACHEDIR.TAG"
    tag.write_text("Signature: 8a477f597d28d172789f06886806bc55\n# by a program\n")
    assert found(folder) == {name for name in NAMES if not name.startswith("sub/")}
    assert "e.md" in found(folder / "sub")
    for other in ("", "Signature: none\n"):
        tag.write_text(other)
        assert "sub/e.md" in found(folder)


def test_a_list_of_names_that_end_in_nul_says_so(folder: Path) -> None:
    names = folder / "names"
    names.write_bytes(b"\0".join(os.fsencode(folder / name) for name in NAMES) + b"\0")
    with pytest.raises(SourceError) as refused:
        find_sources([], files_from=str(names))
    assert "-0" in str(refused.value.hint)
    assert len(find_sources([], files_from=str(names), null=True).documents) == len(NAMES)
