"""gf doctor: what this installation is and whether it keeps its promises here."""

from __future__ import annotations

import os
import platform
from typing import Annotated, Any

import typer
from gfcache.files.temporary import temporary_folder

from gfcli.support.console import console
from gfcli.support.exits import CONDITION_NOT_MET, SCHEMA_VERSION
from gfcli.support.options import DeviceOption, DtypeOption, ModelOption, load_ours

PACKAGES = ("goldfinch-gf", "torch", "triton", "numpy", "zstandard", "safetensors", "tokenizers", "typer", "rich")


def doctor(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this installation.

    Shows versions, device and kernel backends. Then it pre-fills a thousand random tokens in a temporary folder and
    checks that the file answers like memory and that damaged copies are refused. Exit code 10 when a check fails.

    Examples:
      gf doctor
      gf doctor -m mymodel --device cuda --json
    """
    loaded = load_ours(model, device, dtype)
    from goldfinch.measure.conditions import kernel_backends
    from goldfinch.measure.selfcheck import run_checks

    with temporary_folder("doctor") as folder:
        checks = run_checks(loaded, folder)
    facts = {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "device": _device(str(loaded.device)),
        "kernels": kernel_backends(loaded),
        "model": {"name": loaded.card.name, "path": str(loaded.card.path), "dtype": str(loaded.dtype).split(".")[1]},
    }
    holds = all(check.holds for check in checks)
    if as_json:
        rows = [{"name": c.name, "holds": c.holds, "seen": c.seen} for c in checks]
        console.json({"schema_version": SCHEMA_VERSION, **facts, "checks": rows, "ok": holds})
    else:
        for title, values in facts.items():
            console.line(title)
            for name, value in values.items():
                console.line(f"  {name:<14} {value}")
        console.line("checks")
        for check in checks:
            state = "ok" if check.holds else "FAILS"
            console.line(f"  {state:<6} {check.name}: {check.seen}", state=state)
    if not holds:
        raise typer.Exit(CONDITION_NOT_MET)


def _version(package: str) -> str:
    import importlib.metadata  # 20 ms that other commands need not take

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _device(name: str) -> dict[str, Any]:
    import torch

    from goldfinch.measure.conditions import processor, processor_features

    values: dict[str, Any] = {
        "device": name,
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16": ", ".join(processor_features()) or "no instructions: float32 is faster",
    }
    if torch.cuda.is_available():
        values["gpu"] = torch.cuda.get_device_name()
    return values
