"""What is built from the tree: a source distribution that its tests run from, a wheel with types and licences."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gfcli", "goldfinch", "gfkernels", "gfcache")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


@pytest.mark.parametrize("name", ["goldfinch", "gfkernels", "gfcache"])
def test_dir_shows_what_is_loaded_late(name: str) -> None:
    package = importlib.import_module(name)
    assert dir(package) == sorted(package.__all__)  # what Tab shows: nothing that only this file imports
    assert all(hasattr(package, member) for member in package.__all__)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The unpacked source distribution of this tree, and the wheel that is built from it."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("packaging")
    own = shutil.ignore_patterns(".git", ".venv", "build", "runs", "shared", "__pycache__", ".*_cache", "*.egg-info")
    shutil.copytree(ROOT, folder / "tree", ignore=own)
    for kind, place in (("build_sdist", folder / "tree"), ("build_wheel", folder / "source")):
        subprocess.run([sys.executable, "-c", BUILD, kind, str(folder)], cwd=place, check=True, capture_output=True)
        if kind == "build_sdist":
            (archive,) = folder.glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            (folder / archive.name.removesuffix(".tar.gz")).rename(folder / "source")
    (wheel,) = folder.glob("*.whl")
    return folder / "source", wheel


@pytest.mark.slow
def test_the_wheel_has_types_licences_and_the_model(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = wheel.namelist()
        (metadata,) = (wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {"goldfinch/assets/gf-mini-4/model.safetensors", "gfkernels/native/kernels.c"} <= set(names)
    assert sum(".dist-info/licenses/" in name for name in names) == 2
    assert "License-Expression: Apache-2.0 AND CC-BY-SA-4.0\n" in metadata
    assert "Author: The gf authors\n" in metadata
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert sum(name.endswith(".safetensors") for name in names) == 1  # the model, no copies to train on from


@pytest.mark.slow
def test_the_source_distribution_is_tested_as_the_tree_is(built: tuple[Path, Path]) -> None:
    source = built[0]
    tests = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")]
    assert not [name for name in tests if not (source / name).exists()]
    places = os.pathsep.join(str(source / name) for name in (".", "kernels", "cache_format"))
    environment = os.environ | {"PYTHONPATH": places}
    some = ["tests/cache_format/format/test_fuzz_corpus.py", "tests/laws/test_rules.py", "tests/goldfinch/datasets"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *some], cwd=source, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode()[-2000:]


def test_options_are_spelt_out_and_objects_say_what_they_are(tmp_path: Path, tiny_model: Path) -> None:
    import inspect
    from dataclasses import fields
    from typing import get_type_hints

    import gfcache

    import goldfinch
    from goldfinch.engine.sampling import Sampling, SamplingOptions

    assert get_type_hints(SamplingOptions) == {f.name: get_type_hints(Sampling)[f.name] for f in fields(Sampling)}
    for function in (goldfinch.Session.ask, goldfinch.Session.stream, goldfinch.ask_many):
        assert inspect.signature(function).parameters["sampling"].annotation == "Unpack[SamplingOptions]"
    model = goldfinch.load_model(tiny_model)
    token_ids, span = goldfinch.document_token_ids(model, "The code is 48213.")
    cache = goldfinch.prefill(model, token_ids, document_range=span, source={"name": "a.txt"})
    tokens = f"{cache.length:,} tokens of 'a.txt'"
    assert repr(cache) == f"<DocumentCache: {tokens}, f32>"
    assert repr(goldfinch.Session(model, cache)).startswith(f"<Session: {tokens}, read=")
    with gfcache.Store(tmp_path) as store:
        assert repr(store) == f"<Store in {str(tmp_path / 'library')!r}>"
        assert repr(goldfinch.Library(store)) == f"<Library in {str(tmp_path / 'library')!r}>"
