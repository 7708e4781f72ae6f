"""Who runs the layers is said where it is not what the machine could do."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

import goldfinch
from goldfinch.backends.native import executor


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "unavailable", lambda: "no C compiler found")


@pytest.mark.usefixtures("no_compiler")
def test_a_model_that_is_left_to_pytorch_for_want_of_kernels_says_so(tiny_model: Path) -> None:
    with pytest.warns(UserWarning, match="several times slower than compiled: no C compiler found"):
        assert goldfinch.load_model(tiny_model).executor.name == "torch"


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(("asked", "dtype"), [("torch", torch.float32), (None, torch.float64)])
def test_pytorch_that_was_asked_for_or_that_alone_can_is_no_surprise(
    asked: str | None, dtype: torch.dtype, tiny_model: Path, monkeypatch
) -> None:
    if asked is not None:
        monkeypatch.setenv("GF_KERNELS", asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert goldfinch.load_model(tiny_model, dtype=dtype).executor.name == "torch"


def test_what_is_not_asked_for_is_not_built(tiny_model: Path, monkeypatch) -> None:
    def build() -> str:
        raise AssertionError("built")

    monkeypatch.setattr(executor, "unavailable", build)
    monkeypatch.setenv("GF_KERNELS", "torch")
    assert goldfinch.load_model(tiny_model).executor.name == "torch"
