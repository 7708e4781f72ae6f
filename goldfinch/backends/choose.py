"""Which executor runs a model: argument > GF_KERNELS > what suits the device. Never a silent fallback."""

from __future__ import annotations

import warnings

from gfkernels import choose_backend
from gfkernels.dispatch import requested_backend

from goldfinch.models.executor import Executor
from goldfinch.models.stack import Stack
from goldfinch.models.torch_executor import TorchExecutor

from .native.executor import NativeExecutor
from .triton.executor import TritonExecutor

FAST: dict[str, type[TorchExecutor]] = {"native": NativeExecutor, "triton": TritonExecutor}


def choose_executor(model: Stack, requested: str | None = None) -> Executor:
    """The executor of a model as it is now.

    Args:
        model: where it lies and in which dtype decides what can run.
        requested: "native", "triton", "torch" or "reference"; None lets GF_KERNELS decide, and without it the device.

    Warns where a model is left to PyTorch only because its kernels cannot be built or loaded here.

    Raises:
        gfkernels.BackendUnavailable: the argument or GF_KERNELS names one that cannot run this model here.
    """
    asked = requested_backend(requested)
    obstacle = "not asked for" if asked in ("torch", "reference") else NativeExecutor.obstacle(model)
    name = choose_backend(
        "the recurrent layers",
        requested,
        native_obstacle=obstacle,
        triton_obstacle=TritonExecutor.obstacle(model, requested),
    )
    if asked == "auto" and name == "torch" and NativeExecutor.misfit(model) is None:
        warnings.warn(f"the layers run in PyTorch, several times slower than compiled: {obstacle}", stacklevel=2)
    return FAST.get(name, TorchExecutor)(model, name)
