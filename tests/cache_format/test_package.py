"""The package alone: its names load when they are used, and none of them needs torch."""

from __future__ import annotations

import subprocess
import sys

import gfcache
import pytest


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_name_is_there() -> None:
    for name in gfcache.__all__:
        assert getattr(gfcache, name).__name__ == name
    assert gfcache.layout.MAGIC.endswith(b"\n")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gfcache.nothing  # noqa: B018


def test_all_of_it_needs_no_torch() -> None:
    found = run(
        "import gfcache, pkgutil, importlib, sys\n"
        "for m in pkgutil.walk_packages(gfcache.__path__, 'gfcache.'): importlib.import_module(m.name)\n"
        "print([n for n in ('torch', 'goldfinch', 'gfcli', 'gfkernels') if n in sys.modules], len(sys.modules) > 100)"
    )
    assert found.split() == ["[]", "True"]


def test_importing_it_costs_nothing() -> None:
    found = run(
        "import sys, gfcache, gfcache.files.places\nprint([n for n in ('numpy', 'sqlite3') if n in sys.modules])"
    )
    assert found.strip() == "[]"
