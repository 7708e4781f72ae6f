"""Where compiled kernels are kept, and what is loaded from there."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gfkernels.native import build

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=str(build.unavailable()))
BUILT = b"what the compiler made"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gf-kernels"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that kernels were built in; what is loaded is given back as bytes."""
    seen: list[Path] = []

    def compile_(compiler: str, folder: Path) -> Path:
        seen.append(folder)
        (folder / "kernels.so").write_bytes(BUILT)
        return folder / "kernels.so"

    monkeypatch.setattr(build, "_compile", compile_)
    monkeypatch.setattr(build.ctypes, "CDLL", lambda path: Path(path).read_bytes())
    return seen


def test_kept_in_a_private_folder_and_built_once(place: Path, builds: list[Path]) -> None:
    for _ in range(2):
        loaded = build.load("cc")
        assert loaded.library == BUILT
        assert Path(loaded.place).parent == place
    assert len(builds) == 1
    assert not builds[0].exists()
    assert place.stat().st_mode & 0o777 == 0o700
    assert sorted(path.suffix for path in place.iterdir()) == [".sha256", ".so"]
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("damage", ["cut", "altered", "no digest", "link", "writable"])
def test_a_file_that_differs_is_built_again(builds: list[Path], damage: str, tmp_path: Path) -> None:
    path = Path(build.load("cc").place)
    if damage == "cut":
        path.write_bytes(BUILT[:-3])
    elif damage == "altered":
        path.write_bytes(BUILT[::-1])
    elif damage == "no digest":
        path.with_suffix(".sha256").unlink()
    elif damage == "link":
        path.rename(tmp_path / "elsewhere.so")
        path.symlink_to(tmp_path / "elsewhere.so")
    else:
        path.chmod(0o620)
    assert build.load("cc").library == BUILT
    assert len(builds) == 2
    assert path.read_bytes() == BUILT
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    build.load("cc")
    assert len(builds) == 2


def _group_writable(place: Path) -> None:
    place.chmod(0o770)


def _linked(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))


def _anothers(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(place, 12345, -1)


def _in_anothers(place: Path) -> None:
    _anothers(place.parent)


def _a_file(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))
    place.write_text("")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_group_writable, "others may write to"), (_linked, "is a link"), (_anothers, "belongs to another user"),
        (_in_anothers, "belongs to another user"), (_a_file, "Not a directory"),
    ],
)  # fmt: skip
def test_nothing_is_loaded_from_a_folder_that_is_not_private(
    place: Path, builds: list[Path], change, words: str
) -> None:
    path = Path(build.load("cc").place)
    planted = b"planted"
    path.write_bytes(planted)
    path.with_suffix(".sha256").write_text(hashlib.sha256(planted).hexdigest())
    change(place)
    with pytest.warns(UserWarning, match=words):
        loaded = build.load("cc")
    assert loaded.library == BUILT
    assert words in loaded.place
    assert len(builds) == 2
    assert not builds[1].exists()


@pytest.mark.usefixtures("builds")
def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user that no passwd entry knows
    with pytest.warns(UserWarning, match="no home folder"):
        assert build.load("cc").library == BUILT


@pytest.mark.usefixtures("builds")
@pytest.mark.usefixtures("place")
def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: int, name: str, data: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(build, "_write", write)
    with pytest.warns(UserWarning, match="Read-only"):
        assert build.load("cc").library == BUILT


def test_the_name_tells_compilers_and_flags_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {build._key("cc")}
    monkeypatch.setattr(build, "FLAGS", ("-O2",))
    names.add(build._key("cc"))
    monkeypatch.setattr(build, "_processor_flags", lambda: b"none")
    names.add(build._key("cc"))
    monkeypatch.setattr(build.os.path, "realpath", lambda path: "/other/cc")
    names.add(build._key("cc"))
    assert len(names) == 4


@pytest.fixture
def own() -> Path:
    """A user's folder for caches with the compiled kernels in it: that of these tests."""
    kept = Path(build.load(os.environ.get("CC", "cc")).place)
    assert kept.parent == build.folder_path()
    return kept.parents[1]


@pytest.mark.parametrize("how", ["gf.toml", "GF_CACHE_DIR"])
def test_a_library_that_a_project_brings_is_not_loaded(how: str, own: Path, tmp_path: Path, tiny_model: Path) -> None:
    """Under every name that a run of one's own gives it, and with a fitting digest beside it."""
    project, mark = tmp_path / "project", tmp_path / "mark"
    project.mkdir()
    (project / "doc.txt").write_text("Some text.")
    code = f'#include <stdio.h>\n__attribute__((constructor)) static void run(void) {{ fclose(fopen("{mark}", "w")); }}'
    (tmp_path / "planted.c").write_text(code)
    planted = tmp_path / "planted.so"
    subprocess.run(["cc", "-shared", "-fPIC", str(tmp_path / "planted.c"), "-o", str(planted)], check=True)
    command = [sys.executable, "-m", "gfcli", "prefill", "doc.txt", "-m", str(tiny_model), "-q", "--force"]
    environment = {name: value for name, value in os.environ.items() if name != "GF_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = str(own)
    (name,) = {path.name for path in own.rglob("kernels-*.so")}
    for folder in (project / "caches", project / "caches" / "kernels", project / "caches" / "gf-kernels"):
        folder.mkdir(mode=0o700)
        (folder / name).write_bytes(planted.read_bytes())
        (folder / name).with_suffix(".sha256").write_text(hashlib.sha256(planted.read_bytes()).hexdigest())
    if how == "gf.toml":
        (project / "gf.toml").write_text('[cache]\ndir = "caches"\n')
    else:
        environment["GF_CACHE_DIR"] = str(project / "caches")
    done = subprocess.run(command, cwd=project, env=environment, check=False, capture_output=True, text=True)
    assert not mark.exists()
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_warning_of_a_command_is_one_line(own: Path, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "doc.txt").write_text("Some text.")
    (kept,) = own.rglob("kernels-*.so")
    compiler = tmp_path / "compiler"  # whose last argument is the file that it makes
    compiler.write_text(f'#!/bin/sh\nfor made; do :; done\n[ "$1" = --version ] || cp {kept} "$made"\n')
    compiler.chmod(0o755)
    (tmp_path / "gf-kernels").mkdir()
    (tmp_path / "gf-kernels").chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-m", "gfcli", "prefill", "doc.txt", "-m", str(tiny_model), "-q"],
        cwd=tmp_path, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), "CC": str(compiler)}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    expected = f"others may write to {tmp_path / 'gf-kernels'}"
    assert done.stderr == f"warning: compiled kernels are not kept, and built again each time: {expected}\n"


@pytest.mark.usefixtures("builds")
def test_what_a_killed_build_left_goes_with_the_next(place: Path) -> None:
    place.mkdir(mode=0o700, parents=True)
    left = [place / f".kernels-{'a' * 24}.{kind}.1234.tmp" for kind in ("so", "sha256")]
    other = place / ".kernels-notes.tmp"
    for path in (*left, other):
        path.touch()
    build.load("cc")
    assert not any(path.exists() for path in left)
    assert other.exists()


@pytest.mark.usefixtures("builds")
def test_it_is_said_that_kernels_are_compiled_and_how_long(place: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "gfkernels")
    build.load("cc")
    before, after = caplog.records
    assert before.getMessage() == "compiling kernels, once"
    assert not hasattr(before, "seconds")
    assert after.seconds > 0
    caplog.clear()
    build.load("cc")
    assert caplog.records == []
    place.chmod(0o777)  # where they cannot be kept, each process compiles them
    with pytest.warns(UserWarning, match="built again each time"):
        build.load("cc")
    assert [record.getMessage() for record in caplog.records][:1] == ["compiling kernels"]


def test_a_tilde_in_a_variable_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the library: what sets it may not have been a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/caches")
    assert build.folder_path() == tmp_path / "caches" / build.FOLDER
