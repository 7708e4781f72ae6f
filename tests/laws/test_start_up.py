"""What must start fast imports no torch: the faces of the packages and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "triton", "tokenizers", "transformers")


def loaded_by(statement: str, *also: str) -> set[str]:
    """Top-level packages that a new interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "kernels", ROOT / "cache_format", *also)))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["gfcli.app", "gfcache", "goldfinch", "gfcache.store.store", "goldfinch.version", "goldfinch.engine.base"],
)
def test_a_light_start(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert module.partition(".")[0] in loaded
    assert not loaded & set(HEAVY)


def test_no_file_of_the_cache_format_loads_torch() -> None:
    """The reader of cache files works where torch is not installed."""
    modules = [
        ".".join(path.relative_to(ROOT / "cache_format").with_suffix("").parts)
        for path in sorted((ROOT / "cache_format" / "gfcache").rglob("*.py"))
    ]
    assert len(modules) > 20
    assert not loaded_by(f"import {', '.join(modules)}") & set(HEAVY)


def test_a_heavy_import_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    assert "torch" in loaded_by("import torch", str(tmp_path))
