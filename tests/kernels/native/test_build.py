"""Compiling and loading the C kernels, and what happens where they cannot be had."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from gfkernels import BackendUnavailable, choose_backend
from gfkernels.errors import NativeUnavailable
from gfkernels.native import build as native

pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_without_a_working_compiler(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Automatic choice takes torch; asked for by name, it is an error that says why."""
    monkeypatch.setenv("CC", compiler)
    native.loaded.cache_clear()
    native.unavailable.cache_clear()
    try:
        reason = native.unavailable()
        assert reason is not None
        assert compiler in reason
        with pytest.raises(NativeUnavailable, match="cannot build"):
            native.library()
        assert choose_backend("x", native_obstacle=reason) == "torch"
        with pytest.raises(BackendUnavailable, match="cannot build"):
            choose_backend("x", "native", native_obstacle=reason)
    finally:
        monkeypatch.undo()
        native.loaded.cache_clear()
        native.unavailable.cache_clear()
    assert native.unavailable() is None


def test_every_source_is_part_of_the_name_and_of_the_wheel() -> None:
    """A body that is included and not named would leave an old binary in use."""
    files = {path.name for path in native.SOURCE_FOLDER.iterdir() if path.suffix in (".c", ".h")}
    assert files == {*native.SOURCES, *native.INCLUDED}
    packaging = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = packaging["package-data"]["gfkernels"]
    assert all(any(fnmatch(f"native/{name}", pattern) for pattern in patterns) for name in files)
