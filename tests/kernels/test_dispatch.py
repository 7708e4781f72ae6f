"""The choice of a backend, and what importing the package means."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import gfkernels
import pytest
import torch
from gfkernels import BackendUnavailable, KernelError, choose_backend, dispatch, linear
from gfkernels.wkv import run


def test_what_can_run_is_chosen_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("x", native_obstacle=None, triton_obstacle=None) == "native"
    assert choose_backend("x", native_obstacle="no compiler", triton_obstacle=None) == "triton"
    assert choose_backend("x", native_obstacle="no compiler") == "torch"
    monkeypatch.setenv("GF_KERNELS", "torch")
    assert choose_backend("x", native_obstacle=None) == "torch"
    assert choose_backend("x", "reference", native_obstacle=None) == "reference"
    assert choose_backend("x", "auto", native_obstacle=None) == "native"


def test_a_backend_named_and_not_to_be_had_is_an_error() -> None:
    with pytest.raises(BackendUnavailable, match="no compiler") as caught:
        choose_backend("x", "native", native_obstacle="no compiler", triton_obstacle=None)
    assert caught.value.supported == ("triton", "torch", "reference")
    assert isinstance(caught.value, KernelError)
    assert isinstance(caught.value, NotImplementedError)  # what the command line knows it by


def test_an_op_that_is_given_a_backend_does_not_ask_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "os", SimpleNamespace())
    x, weight = torch.randn(1, 1, 16), torch.randn(8, 16)
    with torch.no_grad():
        for backend in ("native", "torch"):
            torch.testing.assert_close(linear(x, weight, backend), x @ weight.t())
        with pytest.raises(AttributeError):
            linear(x, weight)


def test_the_name_of_the_op_is_the_function_not_the_folder() -> None:
    assert gfkernels.wkv6 is run.wkv6
    code = "import gfkernels.wkv.chunked, gfkernels; sys.exit(not callable(gfkernels.wkv6))"
    assert subprocess.run([sys.executable, "-c", f"import sys; {code}"]).returncode == 0


def test_importing_the_kernels_imports_no_compiler() -> None:
    """It takes a second, and triton asks once, when it is imported, whether it is to interpret."""
    code = "import sys, gfkernels; sys.exit(bool({'triton', 'torch._dynamo'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
