"""The C sources of this folder, compiled on first use, kept in a folder that is the user's alone and loaded from there.

It is FOLDER in XDG_CACHE_HOME, by default ~/.cache; neither settings of a project nor GF_CACHE_DIR, which they set,
move it. What others could have written is never loaded: where there is no such folder, each process builds for itself.

The library is linked without an OpenMP runtime of its own and takes the one that torch has loaded, or would load: two
pools of threads on the same cores would wait for each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import importlib.util
import logging
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gfkernels.errors import NativeUnavailable
from gfkernels.temporary import temporary_folder

_LOG = logging.getLogger(__name__)
SOURCE_FOLDER = Path(__file__).parent
SOURCES = ("kernels.c", "decode.c", "product.c", "wkv6_gradients.c")
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
COMPILE_TIMEOUT_S = 600  # ten seconds of work, which a busy machine may draw out
FOLDER = "gf-kernels"
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC


class Loaded(NamedTuple):
    """The compiled kernels.

    Attributes:
        library: their functions.
        place: the file that they were loaded from, or why they are in no lasting file.
    """

    library: ctypes.CDLL
    place: str


_TEMPORARY = re.compile(r"\.kernels-[0-9a-f]{24}\.(so|sha256)\.\d+\.tmp")


class NotPrivate(Exception):
    """There is no folder that is the user's alone; the text says why."""


@functools.cache
def loaded() -> Loaded:
    """The compiled kernels and where they are.

    Raises:
        NativeUnavailable: no compiler, a compiler that fails, a library that cannot be loaded.
    """
    compiler = os.environ.get("CC") or next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None:
        raise NativeUnavailable("no C compiler found (cc, gcc, clang, or the variable CC)")
    try:
        return load(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise NativeUnavailable(f"{compiler} cannot build the kernels: {str(detail).strip()[:300]}") from error


@functools.cache
def default_threads() -> int:
    """How many threads kernels take where torch, which would say, is not loaded: what OpenMP says."""
    library()
    return int(ctypes.CDLL(None).omp_get_max_threads())


def library() -> ctypes.CDLL:
    """The compiled kernels; raises what `loaded` does."""
    return loaded().library


@functools.cache
def unavailable() -> str | None:
    """Why the kernels cannot be used here; None when they can."""
    try:
        library()
    except NativeUnavailable as error:
        return str(error)
    return None


def load(compiler: str) -> Loaded:
    """The kernels of this source, compiler and processor, built where they are not kept yet or not as they were kept.

    Warns once where they cannot be kept.

    Raises:
        OSError, subprocess.SubprocessError: they cannot be built or loaded.
    """
    name = f"kernels-{_key(compiler)}"
    try:
        with _private_folder() as folder:
            if not _is_intact(folder, name):
                with _told("compiling kernels, once"):
                    with contextlib.suppress(OSError):  # some network file systems have no locks
                        fcntl.flock(folder, fcntl.LOCK_EX)
                    if not _is_intact(folder, name):
                        _sweep(folder)
                        return _build(compiler, folder, name)
            try:
                return _kept(folder, name)
            except OSError as error:  # a disk that programs may not be run from
                problem = str(error)
    except NotPrivate as error:
        problem = str(error)
    with _told("compiling kernels"):
        return _build(compiler, None, name, problem)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Log what takes its time, before it does (level INFO), and then how long it took: `seconds` of the record."""
    started = time.perf_counter()
    _LOG.info(what)
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        _LOG.info("%s: %.1f s", what, seconds, extra={"seconds": seconds})


def folder_path() -> Path:
    """Where compiled kernels are kept.

    Raises:
        NotPrivate: this user has no home.
    """
    given = os.path.expanduser(os.environ.get("XDG_CACHE_HOME", ""))  # what sets it may not have been a shell
    if os.path.isabs(given):
        return Path(given) / FOLDER
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise NotPrivate("no home folder, and no XDG_CACHE_HOME")
    return Path(home) / ".cache" / FOLDER


@contextlib.contextmanager
def _private_folder() -> Iterator[int]:
    """A descriptor of the folder, made if need be.

    Raises:
        NotPrivate: it cannot be made or read, is a link, or others own it or may write to it.
    """
    path = folder_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.parent.stat().st_uid != os.geteuid():
            raise NotPrivate(f"{path.parent} belongs to another user")
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if path.is_symlink():
            raise NotPrivate(f"{path} is a link")
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _OPEN)
    except OSError as error:
        raise NotPrivate(f"{path}: {error.strerror}") from error
    try:
        found = os.fstat(folder)
        if found.st_uid != os.geteuid():
            raise NotPrivate(f"{path} belongs to another user")
        if found.st_mode & WRITABLE_BY_OTHERS:
            raise NotPrivate(f"others may write to {path}")
        yield folder
    finally:
        os.close(folder)


def _have_openmp() -> None:
    """Load the OpenMP runtime that torch would, where torch has not: its own, or the system's where it brings none.

    Raises:
        OSError: there is none.
    """
    if "torch" in sys.modules:
        return
    found = importlib.util.find_spec("torch")
    folders = [Path(place) / "lib" for place in (found.submodule_search_locations or ())] if found else []
    brought = [str(file) for folder in folders for file in sorted(folder.glob("libgomp*.so*"))]
    ctypes.CDLL((brought or ["libgomp.so.1"])[0], mode=ctypes.RTLD_GLOBAL)


def _is_intact(folder: int, name: str) -> bool:
    """Whether the library is there, and is the one that was noted when it was built."""
    try:
        library, noted = _read(folder, f"{name}.so"), _read(folder, f"{name}.sha256")
    except OSError:
        return False
    return hashlib.sha256(library).hexdigest().encode() == noted


def _read(folder: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | _OPEN, dir_fd=folder), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & WRITABLE_BY_OTHERS:
            raise PermissionError(f"{name} is not the user's alone")
        return file.read()


def _sweep(folder: int) -> None:
    """Remove what a process left that was killed as it wrote; the folder is locked, so nobody is writing now."""
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)


def _write(folder: int, name: str, data: bytes) -> None:
    temporary = f".{name}.{os.getpid()}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600, dir_fd=folder), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise


def _kept(folder: int, name: str) -> Loaded:
    """Load from the folder that was checked, whatever has its path by now."""
    path = folder_path() / f"{name}.so"
    held = f"/proc/self/fd/{folder}/{name}.so"
    _have_openmp()
    return Loaded(ctypes.CDLL(held if os.path.exists(held) else str(path)), str(path))


def _build(compiler: str, folder: int | None, name: str, problem: str = "") -> Loaded:
    """Compile in a new folder of this process; keep the result where that can be done, otherwise load it from there."""
    with temporary_folder("gf-kernels-") as own:
        built = _compile(compiler, own)
        if folder is not None:
            data = built.read_bytes()
            try:
                _write(folder, f"{name}.so", data)
                _write(folder, f"{name}.sha256", hashlib.sha256(data).hexdigest().encode())
                return _kept(folder, name)
            except OSError as error:
                problem = f"{folder_path()}: {error.strerror or error}"
        warnings.warn(f"compiled kernels are not kept, and built again each time: {problem}", stacklevel=2)
        _have_openmp()
        return Loaded(ctypes.CDLL(str(built)), f"not kept: {problem}")


def _key(compiler: str) -> str:
    """A name for source, flags, compiler and processor: a binary for another processor is never loaded."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=COMPILE_TIMEOUT_S, check=True).stdout
    identity = os.path.realpath(shutil.which(compiler) or compiler).encode()
    sources = [(SOURCE_FOLDER / name).read_bytes() for name in SOURCES + INCLUDED]
    parts = [*sources, " ".join(FLAGS).encode(), identity, version, platform.machine().encode(), _processor_flags()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]


def _processor_flags() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    return next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")


def _compile(compiler: str, folder: Path) -> Path:
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=True)
    objects = [str(folder / f"{name}.o") for name in SOURCES]
    for name, made in zip(SOURCES, objects, strict=True):
        run([compiler, *FLAGS, "-c", str(SOURCE_FOLDER / name), "-o", made])
    linked = folder / "kernels.so"
    run([compiler, "-shared", *objects, "-lm", "-o", str(linked)])
    return linked
