"""The C sources of this folder, compiled on first use by the machine's C compiler, kept in the cache folder.

The library is linked without an OpenMP runtime of its own and takes the one that torch has loaded: two pools of threads
on the same cores would wait for each other.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from gfkernels.errors import NativeUnavailable

FOLDER = Path(__file__).parent
SOURCES = ("kernels.c", "decode.c", "wkv6_gradients.c")
INCLUDED = (
    "common.h",
    "each_row_type.inc.c",
    "norms.inc.c",
    "kernels_rows.inc.c",
    "decode_rows.inc.c",
    "wkv6_columns.inc.c",
    "wkv6_follow.inc.c",
)
COMPILERS = ("cc", "gcc", "clang")
# No -ffast-math: NaN, infinity and the order of additions keep their meaning.
FLAGS = (
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fopenmp",
    "-fPIC",
)
COMPILE_TIMEOUT_S = 120


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        NativeUnavailable: no compiler, a compiler that fails, a folder that cannot be written.
    """
    compiler = os.environ.get("CC") or next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None:
        raise NativeUnavailable("no C compiler found (cc, gcc, clang, or the variable CC)")
    try:
        path = cache_folder() / f"kernels-{_key(compiler)}.so"
        if not path.exists():
            _compile(compiler, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise NativeUnavailable(f"{compiler} cannot build the kernels: {str(detail).strip()[:300]}") from error


@functools.cache
def unavailable() -> str | None:
    """Why the kernels cannot be used here; None when they can."""
    try:
        library()
    except NativeUnavailable as error:
        return str(error)
    return None


def cache_folder() -> Path:
    """Where the compiled kernels are kept: GF_CACHE_DIR, or gf under the XDG cache folder; mode 0700."""
    root = os.environ.get("GF_CACHE_DIR")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gf"
    folder = base / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _key(compiler: str) -> str:
    """A name for source, flags, compiler and processor: a binary for another processor is never loaded."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=COMPILE_TIMEOUT_S, check=True).stdout
    sources = [(FOLDER / name).read_bytes() for name in SOURCES + INCLUDED]
    parts = [*sources, " ".join(FLAGS).encode(), version, platform.machine().encode(), _processor_flags()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _processor_flags() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")


def _compile(compiler: str, path: Path) -> None:
    """Build beside the final name and rename: two processes may do it at once."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        linked, built = Path(folder) / "kernels.so", []
        run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=True)
        for name in SOURCES:
            built.append(str(Path(folder) / f"{name}.o"))
            run([compiler, *FLAGS, "-c", str(FOLDER / name), "-o", built[-1]])
        run([compiler, "-shared", *built, "-o", str(linked)])
        os.replace(linked, path)
