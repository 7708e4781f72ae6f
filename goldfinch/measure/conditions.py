"""Under which conditions a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfkernels import dispatch
from gfkernels.native import build as native

from goldfinch.caching.numerics import numerics_of
from goldfinch.version import __version__

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel

RECORDS = "bench/results"


def conditions(model: LanguageModel) -> dict[str, Any]:
    """Commit, CPU, versions, model shape and numerics, for the head of a record."""
    import torch

    card, config = model.card, model.config
    return {
        "commit": git_commit(),
        "version": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": processor(),
        "processor_features": processor_features(),
        "cores": os.cpu_count(),
        "model": card.name if card is not None else "unnamed",
        "model_type": config.model_type,
        "model_fingerprint": card.model_fingerprint if card is not None else None,
        "shape": f"{config.n_layer} x {config.d_model}, vocabulary {config.vocab_size}",
        "numerics": numerics_of(model).to_dict(),
    }


def git_commit(checkout: Path = Path(__file__).parent) -> str | None:
    """The commit of a checkout, "-dirty" behind it where files are changed; None outside of git.

    Records do not count: a bench that adds a row to one is the same code for the next row.

    Args:
        checkout: any folder in it; by default that of this file.
    """
    commit = _git(checkout, "describe", "--always")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no", "--", ":/", f":(top,exclude){RECORDS}")
    return commit + ("-dirty" if changed else "") if commit else None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def processor() -> str:
    """The name of the CPU."""
    known = _cpuinfo()
    return known.get("model name", platform.machine()) if known else platform.processor()


def processor_features() -> list[str]:
    """Instructions for bf16 matrix products that this CPU has, as Linux names them."""
    known = _cpuinfo()
    flags = known.get("flags", known.get("Features", "")).split()
    return [name for name in ("avx512_bf16", "amx_bf16", "bf16") if name in flags]


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    rows = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in rows}


def kernel_backends(model: LanguageModel) -> dict[str, str]:
    """Which backend runs the model's layers here, and why; where the compiled kernels are."""
    from goldfinch.backends.native.executor import NativeExecutor
    from goldfinch.backends.triton.executor import TritonExecutor

    asked = os.environ.get(dispatch.ENVIRONMENT_VARIABLE)
    obstacle = NativeExecutor.obstacle(model)
    reason = f"{dispatch.ENVIRONMENT_VARIABLE}={asked}" if asked else (obstacle or "automatic")
    obstacles = {"native": obstacle, "triton": TritonExecutor.obstacle(model)}
    return {
        "layers": f"{model.executor.name} ({reason})",
        "available": ", ".join(name for name in dispatch.BACKENDS if obstacles.get(name) is None),
        "triton": obstacles["triton"] or "runs here",
        "compiled": native.unavailable() or native.loaded().place,
    }
