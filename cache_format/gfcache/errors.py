"""Errors of the cache file format.

CacheFormatError
├── NotACacheFile         the file is something else
├── DamagedCache          a reading rule of SPEC.md does not hold (truncated, altered, inconsistent)
├── UnsupportedVersion    a newer major version
├── UnsupportedSection    a required section of a kind, dtype or codec that this reader does not know
└── CacheWriteError       the file could not be written; nothing was left behind
"""

from __future__ import annotations

from pathlib import Path


class CacheFormatError(Exception):
    """Root of everything that gfcache raises on purpose.

    Attributes:
        path: the file.
        hint: what to do next, or None.
    """

    hint: str | None = None

    def __init__(self, path: Path | str, message: str) -> None:
        self.path = str(path)
        super().__init__(f"{path}: {message}")


class NotACacheFile(CacheFormatError):
    """The file is something else."""

    hint = "gf prefill makes a cache from a text document"

    def __init__(self, path: Path | str, found: bytes) -> None:
        self.found = found
        super().__init__(path, f"not a .gfc cache file (begins with {found[:8]!r})")


class DamagedCache(CacheFormatError):
    """A reading rule of SPEC.md does not hold.

    Attributes:
        rule: its number, e.g. "R7".
    """

    hint = "the file was cut or altered; pre-fill the document again"

    def __init__(self, path: Path | str, rule: str, found: object, expected: object) -> None:
        self.rule, self.found, self.expected = rule, found, expected
        super().__init__(path, f"damaged cache file ({rule}): found {found}, expected {expected}")


class UnsupportedVersion(CacheFormatError):
    """A newer major version of the format."""

    hint = "update gf, or pre-fill the document again with this version"

    def __init__(self, path: Path | str, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(path, f"format version {found}, this reader knows up to {supported}")


class UnsupportedSection(CacheFormatError):
    """A required section that this reader does not know."""

    hint = "update gf, or pre-fill the document again with this version"

    def __init__(self, path: Path | str, section: str, field: str, found: str, supported: tuple[str, ...]) -> None:
        self.section, self.field, self.found, self.supported = section, field, found, supported
        super().__init__(path, f"section {section!r} has {field} {found!r}, this reader knows {', '.join(supported)}")


class CacheWriteError(CacheFormatError):
    """The file could not be written; nothing was left behind.

    Attributes:
        errno: the operating system's number, or None.
    """

    def __init__(self, path: Path | str, reason: OSError) -> None:
        self.errno = reason.errno
        super().__init__(path, f"cannot write the cache: {reason.strerror or reason}")
