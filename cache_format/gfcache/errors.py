"""Errors of the cache file format.

CacheFormatError
├── NotACacheFile         the file is something else
├── DamagedCache          a reading rule of SPEC.md does not hold (truncated, altered, inconsistent)
├── UnsupportedVersion    a newer major version
├── UnsupportedSection    a required section of a kind, dtype or codec that this reader does not know
├── CacheLocked           another process writes this file now
├── ParentMissing         the base cache that this one continues is not there
├── ParentChanged         the base cache is another file than the one that this one continues
├── UnwritableCache       what is to be written breaks a rule that readers check; nothing was written
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
        what = f"begins with {found[:8]!r}" if found else "it is empty, a directory or a device"
        super().__init__(path, f"not a .gfc cache file ({what})")


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


class CacheLocked(CacheFormatError):
    """Another process writes this file now."""

    hint = "wait until it has finished, or choose another output"

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, "another process is writing this file")


class ParentMissing(CacheFormatError):
    """The base cache that this one continues is not there.

    Attributes:
        parent: its name.
        digest: its digest.
    """

    hint = "put the base cache back, or pre-fill the whole document without --base"

    def __init__(self, path: Path | str, parent: str, digest: str) -> None:
        self.parent, self.digest = parent, digest
        super().__init__(path, f"its base cache {parent} (digest {digest[:16]}) is not there")


class ParentChanged(CacheFormatError):
    """The base cache is another file than the one that this one continues.

    Attributes:
        parent, found, expected: its name and the digests.
    """

    hint = "pre-fill this document again with --base, for the base cache was replaced"

    def __init__(self, path: Path | str, parent: str, found: str, expected: str) -> None:
        self.parent, self.found, self.expected = parent, found, expected
        super().__init__(path, f"its base cache {parent} has digest {found[:16]}, expected {expected[:16]}")


class UnwritableCache(CacheFormatError):
    """What is to be written breaks a rule of SPEC.md that readers check; nothing was written.

    Attributes:
        rule: its number, e.g. "R9".
    """

    def __init__(self, path: Path | str, rule: str, found: object, expected: object) -> None:
        self.rule, self.found, self.expected = rule, found, expected
        self.hint = {
            "R4": "keep fewer checkpoints, for instance --checkpoints auto",
            "R7": "give the document a name in UTF-8",
            "R9": "keep fewer checkpoints, for instance --checkpoints auto",
            "R16": "compute in another dtype (--dtype float32), or check the weights with gf model verify",
        }.get(rule)
        super().__init__(path, f"no reader would accept this cache ({rule}): {found}, allowed: {expected}")


class CacheWriteError(CacheFormatError):
    """The file could not be written; nothing was left behind.

    Attributes:
        errno: the operating system's number, or None.
    """

    hint = "make room or set the rights of its folder, or choose another output"

    def __init__(self, path: Path | str, reason: OSError) -> None:
        self.errno = reason.errno
        super().__init__(path, f"cannot write this file: {reason.strerror or reason}")


class NoRoom(CacheFormatError):
    """The cap leaves no room for a file.

    Attributes:
        needed_bytes, max_bytes: what it takes, and the cap.
    """

    hint = "raise the cap (GF_CACHE_MAX_SIZE, cache.max_size), or unpin entries: gf cache ls --filter pinned=yes"

    def __init__(self, path: Path | str, needed_bytes: int, max_bytes: int) -> None:
        self.needed_bytes, self.max_bytes = needed_bytes, max_bytes
        super().__init__(path, f"no room for {needed_bytes:,} bytes under the cap of {max_bytes:,}")
