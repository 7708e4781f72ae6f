"""The laws of the house: direction of imports, homes of typer, rich and triton, sizes of files and functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOMES = {
    "gfcli": ROOT / "gfcli",
    "goldfinch": ROOT / "goldfinch",
    "gfkernels": ROOT / "kernels" / "gfkernels",
    "gfcache": ROOT / "cache_format" / "gfcache",
}
OURS = set(HOMES)
ALLOWED_OURS = {
    "gfcli": {"gfcli", "goldfinch", "gfcache"},
    "goldfinch": {"goldfinch", "gfkernels", "gfcache"},
    "gfkernels": {"gfkernels"},
    "gfcache": {"gfcache"},
}
# matplotlib draws, where it is installed
ALLOWED_OTHERS = {
    "gfcli": {"typer", "click", "rich", "torch"},
    "goldfinch": {
        "torch",
        "numpy",
        "pathspec",
        "safetensors",
        "tokenizers",
        "zstandard",
        "matplotlib",
        "snowballstemmer",
    },
    "gfkernels": {"torch", "triton"},
    "gfcache": {"numpy", "platformdirs", "zstandard", "safetensors"},
}
FILES = [(package, path) for package, folder in HOMES.items() for path in sorted(folder.rglob("*.py"))]
IDS = [str(path.relative_to(ROOT)) for _, path in FILES]
# Files that hold a model or a kernel may be longer.
LONG_FILES = {"language_model.py", "gold.py", "finch.py", "attention.py"}


def imported_packages(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize(("package", "path"), FILES, ids=IDS)
def test_imports_go_one_way(package: str, path: Path) -> None:
    import sys

    found = set(imported_packages(ast.parse(path.read_text())))
    assert found & OURS <= ALLOWED_OURS[package]
    others = {name for name in found - OURS if name not in sys.stdlib_module_names}
    assert others <= ALLOWED_OTHERS[package]
    if "triton" in found:
        assert path.name.startswith("triton")


@pytest.mark.parametrize(("package", "path"), FILES, ids=IDS)
def test_sizes(package: str, path: Path) -> None:
    text = path.read_text()
    limit = 600 if package == "gfkernels" or path.name in LONG_FILES else 400
    assert len(text.splitlines()) <= limit
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 60, f"{node.name} has {length} lines"


@pytest.mark.parametrize(("package", "path"), FILES, ids=IDS)
def test_public_things_have_docstrings(package: str, path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_no_utils() -> None:
    assert not [path for _, path in FILES if path.name == "utils.py"]


def test_the_tree_is_small_enough() -> None:
    import subprocess

    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        return  # an unpacked source archive has no history to ask
    names = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    sizes = {path: path.stat().st_size for path in names if path.is_file()}
    assert sum(sizes.values()) < 40_000_000
    binaries = [
        path for path, size in sizes.items()
        if size > 250_000 and "assets" not in path.parts and path.relative_to(ROOT).parts[:2] != ("tests", "golden")
    ]  # fmt: skip
    assert not binaries
