"""Which documents are meant and where their caches go, as library errors with fields."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from goldfinch.errors import (
    EmptyInput,
    FolderNamed,
    InputRefused,
    NoSuchFolder,
    NothingFound,
    OutputNeeded,
    SourceError,
)
from goldfinch.jobs import sources
from goldfinch.jobs.outputs import OutputNames, check_place
from goldfinch.jobs.selection import selection
from goldfinch.jobs.sources import Source, find_sources
from goldfinch.text import documents, inputs
from goldfinch.text.documents import document_of_bytes


def test_names_that_lead_to_no_documents(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("x")
    with pytest.raises(FolderNamed) as folder:
        find_sources([str(tmp_path)])
    assert folder.value.path == str(tmp_path)
    with pytest.raises(NothingFound) as nothing:
        find_sources([str(tmp_path)], recursive=True)
    assert nothing.value.left_out == 1
    assert "chosen" not in str(nothing.value)
    with pytest.raises(NothingFound, match="or not chosen"):
        find_sources([str(tmp_path)], recursive=True, only=selection((), (), ["md"]))
    for names in ([""], ["-", "-"]):
        with pytest.raises(SourceError):
            find_sources(names)
    with pytest.raises(FileNotFoundError):
        find_sources([str(tmp_path / "*.txt")])
    (tmp_path / "blank.txt").write_text(" \n")
    with pytest.raises(EmptyInput):
        Source(str(tmp_path / "blank.txt")).read()


def test_each_document_has_an_output_of_its_own(tmp_path: Path) -> None:
    for names, caches in (
        (["a.txt"], ["a.gfc"]),
        (["a.txt", "a.md"], ["a.txt.gfc", "a.md.gfc"]),
        (["a.md", "a.txt", "b.md"], ["a.md.gfc", "a.txt.gfc", "b.gfc"]),
        (["a", "a.md", "a.md.txt"], ["a.gfc", "a.md.gfc", "a.md.txt.gfc"]),
        ([".a", "a"], [".a.gfc", "a.gfc"]),
    ):
        sources = [Source(str(tmp_path / name)) for name in names]
        for source in sources:
            Path(source.name).write_text(source.name)
        found = OutputNames(None, sources)
        assert [found.of(source, source.read()).name for source in sources] == caches
        found = OutputNames(str(tmp_path / "there.gfc"), sources[:1])
        assert found.of(sources[0], sources[0].read()) == tmp_path / "there.gfc"
    with pytest.raises(OutputNeeded):
        OutputNames(None, [Source("-")]).of(Source("-"), document_of_bytes(b"text", "stdin"))
    pipe = Source(str(tmp_path / "63"))  # of <(command)
    os.mkfifo(pipe.name)
    with pytest.raises(OutputNeeded, match="63 needs an output file"):
        OutputNames(None, [pipe]).of(pipe, document_of_bytes(b"text", pipe.name))
    folder = OutputNames(f"{tmp_path}/", [pipe])
    assert folder.of(pipe, document_of_bytes(b"text", pipe.name)) == tmp_path / "63.gfc"
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


def test_links_that_leave_the_folder_or_lead_to_what_is_hidden_are_left_out(tmp_path: Path) -> None:
    """A link to a private key was cached."""
    root, outside = tmp_path / "docs", tmp_path / "outside"
    (root / "sub" / ".hidden").mkdir(parents=True)
    outside.mkdir()
    for path in (outside / "key", root / "doc.txt", root / ".env", root / "sub" / ".hidden" / "x", root / "secret.txt"):
        path.write_text(path.name)
    (root / "sub" / ".gitignore").write_text("built/")
    (root / "sub" / "built").mkdir()
    (root / "sub" / "built" / "y").write_text("y")
    (root / ".gitignore").write_text("secret.txt")
    targets = {
        "a": outside / "key", "b": Path("../outside/key"), "c": root / ".env", "d": Path("sub/.hidden/x"),
        "e": Path("secret.txt"), "f": outside, "g": Path("/proc/self/environ"), "h": Path("sub/../../outside/key"),
        "i": Path("sub/built/y"),
    }  # fmt: skip
    for name, target in targets.items():
        (root / f"{name}.txt").symlink_to(target)
    (root / "inside.txt").symlink_to("doc.txt")
    found = find_sources([str(root)], recursive=True)
    assert [Path(s.name).name for s in found.documents] == ["doc.txt", "inside.txt"]
    assert not found.skipped
    linked = tmp_path / "linked"
    linked.symlink_to(root)  # the folder that was named may be a link itself
    assert len(find_sources([str(linked)], recursive=True).documents) == 2


def test_folders_may_be_as_deep_as_a_path_is_long(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for depth in range(2500):
            os.mkdir("d", dir_fd=here)
            deeper = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
            if depth == 1200:
                os.close(os.open("doc.txt", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    finally:
        os.close(here)
    found = find_sources([str(tmp_path)], recursive=True)
    assert len(found.skipped) == 1  # empty
    (deepest,) = found.documents
    assert "too long" in str(deepest.obstacle)
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


@pytest.mark.parametrize(
    "name", ["/dev/zero", "/dev/null", "/dev/urandom", "/proc/self/environ", "/proc/kmsg", "/sys/kernel/mm/ksm/run"]
)
def test_devices_and_files_that_a_kernel_makes_up_are_refused_at_once(name: str) -> None:
    if not os.path.exists(name):
        pytest.skip("this system has no such file")
    with pytest.raises(InputRefused):
        Source(name).read()
    with pytest.raises(InputRefused):
        find_sources([], files_from=name)


def test_a_pipe_is_read_while_somebody_writes_and_no_more_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [
        sys.executable,
        "-c",
        "import sys, time; time.sleep(0.3); open(sys.argv[1], 'w').write('text ' * 50)",
        str(pipe),
    ]
    with subprocess.Popen(command):
        assert Source(str(pipe)).read().text == "text " * 50
    monkeypatch.setattr(inputs, "PIPE_WAIT_S", 0.2)
    with pytest.raises(InputRefused, match="nobody has written"):
        Source(str(pipe)).read()
    monkeypatch.setattr(documents, "MOST_DOCUMENT_BYTES", 1000)
    with subprocess.Popen(["sh", "-c", f"exec yes > {pipe}"], stderr=subprocess.DEVNULL):
        monkeypatch.setattr(inputs, "PIPE_WAIT_S", 30)
        with pytest.raises(InputRefused, match="more than 1,000 bytes"):
            Source(str(pipe)).read()


def test_a_list_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tmp_path / "names"
    names.write_bytes(b"a.txt\0b.txt\0\0" * 2)
    assert [s.name for s in find_sources([], files_from=str(names), null=True).documents] == ["a.txt", "b.txt"]
    monkeypatch.setattr(sources, "MOST_LISTED", 3)
    with pytest.raises(SourceError, match="more than 3 documents"):
        find_sources([], files_from=str(names), null=True)
    monkeypatch.setattr(sources, "MOST_LIST_BYTES", 10)
    with pytest.raises(InputRefused, match="more than 10 bytes"):
        find_sources([], files_from=str(names), null=True)
