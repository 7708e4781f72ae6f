"""Compile every Triton kernel ahead of time, without a GPU, and say what it takes: run as a script, prints JSON.

A process of its own: kernels that were imported for the interpreter cannot be compiled.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"
warnings.simplefilter("ignore")

import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from gfkernels.attention import triton as attention_triton  # noqa: E402
from gfkernels.layer import triton as layer_triton  # noqa: E402
from gfkernels.rebuild import triton as rebuild_triton  # noqa: E402
from gfkernels.wkv import triton as wkv6_triton  # noqa: E402
from gfkernels.wkv import triton_backward as wkv6_backward_triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
# Rows of each dtype and the factors of their products, as common_triton.dot_types chooses them.
DTYPES: dict[str, tuple[Any, str]] = {
    "bf16": (tl.bfloat16, "ieee"),
    "fp16": (tl.float32, "tf32"),
    "fp32": (tl.float32, "tf32x3"),
}
HEAD = {"K": 64, "V": 64, "BT": 16, "BK": 64, "BV": 64}
# Pointers that are not rows of the model's dtype.
FLOAT_POINTERS = {
    "decay_ptr", "u_ptr", "state_in_ptr", "state_out_ptr", "decayed_ptr", "added_ptr", "states_ptr", "start_ptr",
    "end_ptr", "S_ptr", "G_ptr", "du_ptr", "mix_ptr", "weight_ptr", "bias_ptr", "lse_ptr", "part_ptr", "out_lse_ptr",
    "scale_ptr", "now_ptr",
}  # fmt: skip
INTEGER_POINTERS = dict.fromkeys(("segments_ptr", "first_ptr", "ids_ptr", "length_ptr"), "*i64") | {
    "starts_ptr": "*i32"
}
FLOATS = {"eps", "scale"}


def specialisations() -> list[tuple[str, Any, dict[str, Any], dict[str, str], Any, tuple[str, ...]]]:
    """(name, kernel, constants, types that differ from the rule, warps (or those for CUDA and HIP), dtypes of the rows)."""
    flags = {"HAS_STATE": True, "HAS_U": False, "HAS_DECAY": True, "ONE_MINUS_W": True}
    finch = {"HAS_STATE": True, "HAS_U": True, "HAS_DECAY": False, "ONE_MINUS_W": False}
    f32, before = {"out_ptr": "*fp32"}, {"before_ptr": "*fp32"}
    shift = {"HAS_BEFORE": True, "PACKED": False, "BT": 32}
    norm = {"HAS_ADD": True, "HAS_MORE": False, "HAS_GATE": True, "STORE_SUM": True}
    split = {"D": 64, "HAS_LENGTH": False, "BN": 64, "BD": 64, "BM": 16}
    mix = {"RANK": 32, "BT": 32}
    states = {**HEAD, **flags, "HAS_STATE": False, "OUTPUT": False}
    step = {"K": 64, "V": 64, "BK": 64, "BV": 16, "HAS_U": False, "HAS_DECAY": True, "ONE_MINUS_W": True}
    wide = {**HEAD, "K": 128, "V": 128, "BK": 128}
    w, b, a, m, g = wkv6_triton, wkv6_backward_triton, attention_triton, layer_triton, rebuild_triton
    half, bf16, full = ("bf16", "fp16"), ("bf16",), ("fp32",)
    return [
        ("wkv6", w._segment_kernel, {**HEAD, **flags, "OUTPUT": True}, {}, 4, half),
        ("wkv6", w._segment_kernel, {**HEAD, **flags, "BV": 32, "OUTPUT": True}, {}, 8, full),
        ("wkv6 with bonus", w._segment_kernel, {**HEAD, **finch, "OUTPUT": True}, {"w_ptr": "*fp32"}, 4, bf16),
        ("wkv6 segment states", w._segment_kernel, states, {}, 4, bf16),
        ("wkv6 segment states", w._segment_kernel, {**states, "BV": 32}, {}, 8, full),
        ("wkv6, K 128", w._segment_kernel, {**wide, **flags, "OUTPUT": True}, {}, 4, bf16),
        ("wkv6 scan", w._scan_kernel, {"K": 64, "V": 64, "HAS_STATE": True, "SB": 32, "BK": 64}, {}, 2, full),
        ("wkv6 scan, few segments", w._scan_kernel, {"K": 64, "V": 64, "HAS_STATE": True, "SB": 2, "BK": 64}, {}, 2, full),
        ("wkv6 scan, one segment", w._scan_kernel, {"K": 64, "V": 64, "HAS_STATE": True, "SB": 1, "BK": 64}, {}, 2, full),
        ("wkv6 step", w._step_kernel, step, {}, 1, bf16),
        ("wkv6 states", b._boundary_kernel, {**HEAD, "BV": 32, "BACKWARDS": False}, f32, 4, bf16),
        ("wkv6 state gradients", b._boundary_kernel, {**HEAD, "BV": 32, "BACKWARDS": True}, f32, 4, bf16),
        ("wkv6 gradients", b._gradient_kernel, {**HEAD, "HAS_U": True}, {}, (8, 4), ("bf16", "fp16", "fp32")),
        ("wkv6 gradients, K 128", b._gradient_kernel, {**wide, "BV": 128, "HAS_U": False}, {}, (8, 4), bf16),
        ("shift lerps", m._lerp_kernel, {**shift, "G": 2, "BC": 256}, {}, 4, bf16),
        ("shift ddlerp", m._ddlerp_kernel, {**shift, "G": 5, "RANK": 32, "BC": 128}, {}, 4, half),
        ("shift ddlerp", m._ddlerp_kernel, {**shift, "G": 5, "RANK": 32, "BC": 64}, {}, 4, full),
        ("shift ddlerp packed", m._ddlerp_kernel, {**shift, "PACKED": True, "G": 5, "RANK": 32, "BC": 128}, {}, 4, bf16),
        ("norm 768", m._norm_kernel, {**norm, "HAS_GATE": False, "BC": 1024}, {}, 4, bf16),
        ("norm 2048", m._norm_kernel, {**norm, "BC": 2048}, {}, 4, bf16),
        ("sum norm 2048", m._norm_kernel, {**norm, "HAS_GATE": False, "HAS_MORE": True, "BC": 2048}, {}, 4, bf16),
        ("norm 4096", m._norm_kernel, {**norm, "BC": 4096}, {}, 8, bf16),
        ("relu squared", m._relu_squared_kernel, {"BLOCK": 2048}, {}, 4, bf16),
        ("gate add", m._gate_add_kernel, {"BLOCK": 2048}, {}, 4, bf16),
        ("attention split", a._split_kernel, split, f32, 4, ("bf16", "fp16", "fp32")),
        ("attention split, 64 queries", a._split_kernel, {**split, "BM": 64}, f32, 4, bf16),
        ("attention split, growing", a._split_kernel, {**split, "HAS_LENGTH": True}, f32, 4, bf16),
        ("attention split, D 128", a._split_kernel, {**split, "D": 128, "BD": 128, "BM": 64}, f32, 4, bf16),
        ("attention split, D 128", a._split_kernel, {**split, "D": 128, "BD": 128, "BM": 32, "num_stages": 2}, f32, 4, full),
        ("attention merge", a._merge_kernel, {"D": 64, "BS": 32, "BD": 64}, f32, 4, full),
        ("k_cache rows", g._k_cache_kernel, {"BT": 32, "BC": 64, "BR": 128}, {"weight_ptr": "row"}, 4, half),
        ("k_cache rows", g._k_cache_kernel, {"BT": 16, "BC": 64, "BR": 128}, {"weight_ptr": "row"}, 4, full),
        ("k_cache rows, R 1024", g._k_cache_kernel, {"BT": 32, "BC": 32, "BR": 1024, "num_stages": 1}, {"weight_ptr": "row"}, 4, bf16),
        ("k_cache rows, R 512", g._k_cache_kernel, {"BT": 16, "BC": 32, "BR": 512, "num_stages": 1}, {"weight_ptr": "row"}, 4, full),
        ("k_cache rows, R 256", g._k_cache_kernel, {"BT": 16, "BC": 64, "BR": 256, "num_stages": 1}, {"weight_ptr": "row"}, 4, full),
        ("mixed keys", g._mix_kernel, {**mix, "GATHER": False, "BC": 128}, before, 4, bf16),
        ("mixed values", g._mix_kernel, {**mix, "GATHER": True, "BC": 128}, before, 4, bf16),
        ("tanh", g._tanh_kernel, {"BLOCK": 1024}, {}, 4, bf16),
    ]  # fmt: skip


def _source(kernel: Any, constants: dict[str, Any], types: dict[str, str], dtype: str, hip: bool) -> ASTSource:
    names = kernel.arg_names
    factor, precision = DTYPES[dtype]
    if names.count("DOT"):
        attention = kernel is attention_triton._split_kernel
        constants = {**constants, "DOT": tl.float16 if attention and dtype == "fp16" else factor}
        constants["PRECISION"] = "ieee" if hip or (attention and dtype == "fp16") else precision

    if names.count("SUMS"):
        constants = {**constants, "SUMS": "ieee" if hip else "tf32x3"}

    def type_of(name: str) -> str:
        if name in constants:
            return "constexpr"
        given = types.get(name)
        if given:
            return f"*{dtype}" if given == "row" else given
        if name.endswith("_ptr"):
            return INTEGER_POINTERS.get(name) or ("*fp32" if name in FLOAT_POINTERS else f"*{dtype}")
        return "fp32" if name in FLOATS else "i32"

    signature = {name: type_of(name) for name in names}
    # What the launcher finds out: pointers are aligned, and so are the strides and widths of real models.
    aligned = {"T", "C", "R", "rows", "count", "Tq", "Tk", "N", "H", "q_start", "k_start", "S", "group", "first"}
    attrs = {
        (n,): [["tt.divisibility", 16]]
        for n, name in enumerate(names)
        if name.endswith("_ptr") or (signature[name] == "i32" and (name not in aligned or name in ("C", "R")))
    }
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attrs)


def _resources(compiled: Any) -> dict[str, int]:
    shared = int(compiled.metadata.shared)
    if "cubin" in compiled.asm:
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(compiled.asm["cubin"])
            file.flush()
            text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
        found = re.search(r"REG:(\d+) STACK:(\d+)", text)
        assert found, text
        return {"registers": int(found[1]), "spilled_bytes": int(found[2]), "shared_bytes": shared}
    text = compiled.asm["amdgcn"]

    def number(name: str) -> int:
        found = re.search(rf"\.{name}:\s+(\d+)", text)
        return int(found[1]) if found else 0

    return {
        "registers": number("vgpr_count"),
        "spilled_bytes": 4 * number("vgpr_spill_count") + number("private_segment_fixed_size"),
        "shared_bytes": shared,
    }


def compile_all() -> dict[str, dict[str, dict[str, int]]]:
    """Resources by kernel and dtype, then by target."""
    out: dict[str, dict[str, dict[str, int]]] = {}
    for name, kernel, given, types, warps, dtypes in specialisations():
        constants = dict(given)
        options = {"num_stages": constants.pop("num_stages")} if "num_stages" in constants else {}
        for dtype in dtypes:
            for target_name, target in TARGETS.items():
                hip = target.backend == "hip"
                source = _source(kernel, constants, types, dtype, hip)
                options["num_warps"] = warps if isinstance(warps, int) else warps[hip]
                compiled = triton.compile(source, target=target, options=options)
                out.setdefault(f"{name}, {dtype}", {})[target_name] = _resources(compiled)
    return out


if __name__ == "__main__":
    json.dump({"triton": triton.__version__, "kernels": compile_all()}, sys.stdout, indent=1)
