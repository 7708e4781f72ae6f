"""Exit codes. Once released they do not change; the table for users is in docs/cli.md."""

from __future__ import annotations

import re
import sys
from typing import Any

import gfcache
from gfcache.files.regular import NotRegular, TooLarge

from goldfinch import errors as library

from .hints import hint_of

# The version of every JSON object that a command prints.
SCHEMA_VERSION = 1

OK = 0
BUG_OR_OTHER = 1
USAGE = 2
SOME_FAILED = 3
NOT_FOUND = 4
DOES_NOT_BELONG = 5
DAMAGED = 6
UNSUPPORTED = 7
MEMORY_DEVICE_DISK = 8
LOCKED = 9
CONDITION_NOT_MET = 10
HUNG_UP = 129
INTERRUPTED = 130
TERMINATED = 143


class CommandError(Exception):
    """A complaint of the command line itself.

    Attributes:
        code: exit code.
        hint: what to do next, or None.
    """

    def __init__(self, message: str, *, code: int = USAGE, hint: str | None = None) -> None:
        super().__init__(message)
        self.code, self.hint = code, hint


# First match wins: special cases before their roots.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (library.EmptyInput, USAGE),
    (library.ModelNotFound, NOT_FOUND),
    (library.CorpusMissing, NOT_FOUND),
    (library.CacheMismatch, DOES_NOT_BELONG),
    (library.ModelDamaged, DAMAGED),
    (library.ConfigDamaged, DAMAGED),
    (library.TokenizerDamaged, DAMAGED),
    (library.WeightsDamaged, DAMAGED),
    (library.WeightsMismatch, DOES_NOT_BELONG),
    (library.NotItsDocument, DAMAGED),
    (library.NotVerified, CONDITION_NOT_MET),
    (library.NoCodecFits, CONDITION_NOT_MET),
    (library.DeviceError, MEMORY_DEVICE_DISK),
    (library.MadeRoom, MEMORY_DEVICE_DISK),
    (library.SourceGone, NOT_FOUND),
    (library.SourceUnknown, DAMAGED),
    (library.GoldFinchError, USAGE),
    (gfcache.UnsupportedVersion, UNSUPPORTED),
    (gfcache.UnsupportedSection, UNSUPPORTED),
    (gfcache.CacheLocked, LOCKED),
    (gfcache.ParentMissing, NOT_FOUND),
    (gfcache.BasisMissing, NOT_FOUND),
    (gfcache.ParentChanged, DOES_NOT_BELONG),
    (gfcache.UnwritableCache, USAGE),
    (gfcache.CannotRound, USAGE),
    (gfcache.NoRoom, MEMORY_DEVICE_DISK),
    (gfcache.CacheWriteError, MEMORY_DEVICE_DISK),
    (gfcache.CacheFormatError, DAMAGED),
    (FileNotFoundError, NOT_FOUND),
    (NotRegular, USAGE),
    (TooLarge, USAGE),
    (MemoryError, MEMORY_DEVICE_DISK),
    (OSError, MEMORY_DEVICE_DISK),
)
# Errors of packages that only a command which computes has loaded: looked up there, never imported to fail.
_CODES_WHERE_LOADED = (
    ("gfkernels.errors", "KernelError", USAGE),
    ("torch", "OutOfMemoryError", MEMORY_DEVICE_DISK),
)
_PATTERN_CHARACTERS = frozenset("*?[")
# How torch says that a CPU lacks memory: a plain RuntimeError.
_CPU_ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"


def _missing_package(error: BaseException) -> str | None:
    """The package of others whose absence an error tells; one of our own modules that is missing is a bug."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return name if name and name not in ("gfcli", "goldfinch", "gfkernels", "gfcache") else None


def exit_code(error: BaseException) -> int:
    """The exit code of an exception."""
    if isinstance(error, CommandError):
        return error.code
    if _missing_package(error) is not None:
        return USAGE
    for module, name, code in _CODES_WHERE_LOADED:
        if isinstance(error, getattr(sys.modules.get(module), name, ())):
            return code
    if isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error):
        return MEMORY_DEVICE_DISK
    return next((code for kind, code in _CODES if isinstance(error, kind)), BUG_OR_OTHER)


def failed_json(path: str, error: BaseException) -> dict[str, Any]:
    """The object of a file that failed, on stdout among those of the others."""
    failure = {"code": exit_code(error), "message": describe(error)[0]}
    return {"schema_version": SCHEMA_VERSION, "path": path, "status": "failed", "error": failure}


def describe(error: BaseException) -> tuple[str, str | None]:
    """(message, hint) for people."""
    hint = hint_of(error)
    if isinstance(error, OSError) and error.filename:
        reason = error.strerror or type(error).__name__
        if isinstance(error, FileNotFoundError) and not _PATTERN_CHARACTERS.isdisjoint(str(error.filename)):
            reason = "no such file, and no file matches it as a pattern"
        return f"{error.filename}: {reason[:1].lower()}{reason[1:]}", hint
    if _CPU_ALLOCATOR in str(error):
        wanted = re.search(r"allocate (\d+) bytes", str(error))
        return "not enough memory" + (f" for {int(wanted.group(1)):,} bytes" if wanted else ""), hint
    missing = _missing_package(error)
    if missing is not None:
        install = f"{sys.executable} -m pip install {missing}"
        return f"this needs {missing}, which is not installed in {sys.prefix}", hint or install
    if exit_code(error) == BUG_OR_OTHER:
        message = " ".join(str(error).split())  # others write several lines
        return f"unexpected {type(error).__name__}: {message}", hint or "run `gf --debug COMMAND ...` and report it"
    return str(error) or type(error).__name__, hint
