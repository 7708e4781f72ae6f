"""Under which conditions a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from gfkernels import dispatch, native

from .. import finch_native, finch_triton
from ..cache import numerics_of
from ..model import LanguageModel
from ..version import __version__


def conditions(model: LanguageModel) -> dict[str, Any]:
    """Commit, processor, versions, model shape and numerics, for the head of a record."""
    card, config = model.card, model.config
    return {
        "commit": _commit(),
        "version": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": processor(),
        "cores": os.cpu_count(),
        "model": card.name if card is not None else "unnamed",
        "model_type": config.model_type,
        "model_fingerprint": card.model_fingerprint if card is not None else None,
        "shape": f"{config.n_layer} x {config.d_model}, vocabulary {config.vocab_size}",
        "numerics": numerics_of(model),
    }


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def processor_features() -> list[str]:
    """Instructions for bf16 matrix products that this processor has, as Linux names them."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [name for name in ("avx512_bf16", "amx_bf16", "bf16") if name in flags]


def kernel_backends(model: LanguageModel) -> dict[str, str]:
    """Which backend runs the model's layers here, and why; where the compiled kernels are."""
    asked = os.environ.get(dispatch.ENVIRONMENT_VARIABLE)
    obstacle = finch_native.supports(model)
    reason = f"{dispatch.ENVIRONMENT_VARIABLE}={asked}" if asked else (obstacle or "automatic")
    obstacles = {"native": obstacle, "triton": finch_triton.supports(model)}
    return {
        "layers": f"{model.layer_backend()} ({reason})",
        "available": ", ".join(name for name in dispatch.BACKENDS if obstacles.get(name) is None),
        "triton": obstacles["triton"] or "runs here",
        "compiled": native.unavailable() or native.loaded().place,
    }
