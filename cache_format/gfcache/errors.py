"""Errors of the cache file format.

CacheFormatError
├── NotACacheFile         the file is something else
├── DamagedCache          a reading rule of SPEC.md does not hold (truncated, altered, inconsistent)
├── UnsupportedVersion    a newer major version
├── UnsupportedSection    a required section of a kind, dtype or codec that this reader does not know
├── CacheLocked           another process writes this file now
├── ParentMissing         the base cache that this one continues is not there
│   └── LenderMissing     a cache that holds some of its blocks is not there
├── BasisMissing          the basis that its keys and values were coded in is not known here
├── ParentChanged         the base cache is another file than the one that this one continues
├── UnwritableCache       what is to be written breaks a rule that readers check; nothing was written
├── CannotRound           the values are not to be rounded by the codec asked for; nothing was written
├── CacheWriteError       the file could not be written; nothing was left behind
└── NoRoom                the cap of a store leaves no room for a file
"""

from __future__ import annotations

from pathlib import Path


class CacheFormatError(Exception):
    """Root of everything that gfcache raises on purpose.

    Attributes:
        path: the file.
        hint: what to do next, or None; that of a program which knows its own options says more.
    """

    hint: str | None = None

    def __init__(self, path: Path | str, message: str) -> None:
        self.path = str(path)
        super().__init__(f"{path}: {message}")


class NotACacheFile(CacheFormatError):
    """The file is something else.

    Attributes:
        found: how it begins; empty for what is no regular file.
        is_text: it begins as a text document does.
    """

    def __init__(self, path: Path | str, found: bytes) -> None:
        self.found = found
        text = found.decode(errors="ignore").replace("\n", " ")
        self.is_text = bool(found) and not found.startswith(b"%PDF") and text.isprintable()
        if not found:
            super().__init__(path, "not a .gfc cache file (it is empty, a directory or a device)")
        elif self.is_text:
            super().__init__(path, "this is a text document, not a .gfc cache file")
        else:
            super().__init__(path, f"not a .gfc cache file (begins with {found[:8]!r})")


class DamagedCache(CacheFormatError):
    """A reading rule of SPEC.md does not hold.

    Attributes:
        rule: its number, e.g. "R7".
        found, expected: what the file holds, and what the rule says.
    """

    hint = "the file was cut or altered; pre-fill the document again"

    def __init__(self, path: Path | str, rule: str, found: object, expected: object) -> None:
        self.rule, self.found, self.expected = rule, found, expected
        super().__init__(path, f"damaged cache file ({rule}): found {found}, expected {expected}")


class UnsupportedVersion(CacheFormatError):
    """A newer major version of the format.

    Attributes:
        found, supported: major versions.
    """

    def __init__(self, path: Path | str, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(path, f"format version {found}, this reader knows up to {supported}")


class UnsupportedSection(CacheFormatError):
    """A required section that this reader does not know.

    Attributes:
        section: its name.
        field, found, supported: "kind", "dtype" or "codec", its value, and those that are known.
    """

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

    def __init__(self, path: Path | str, parent: str, digest: str) -> None:
        self.parent, self.digest = parent, digest
        super().__init__(path, f"its base cache {parent} (digest {digest[:16]}) is not there")


class LenderMissing(ParentMissing):
    """A cache that holds some of the blocks of this one is not there, or another file is."""

    def __init__(self, path: Path | str, parent: str, digest: str) -> None:
        self.parent, self.digest = parent, digest
        why = f"{parent} (digest {digest[:16]}), which holds some of its blocks, is not there"
        CacheFormatError.__init__(self, path, why)


class BasisMissing(CacheFormatError):
    """The basis that keys and values were coded in is not known here.

    Attributes:
        section: that needs it.
        digest: of the basis.
    """

    hint = "it lies in the directory of the model that made the cache; else pre-fill the document again"

    def __init__(self, path: Path | str, section: str, digest: str) -> None:
        self.section, self.digest = section, digest
        super().__init__(path, f"section {section!r} was coded in the basis {digest[:16]}, which is not here")


class ParentChanged(CacheFormatError):
    """The base cache is another file than the one that this one continues.

    Attributes:
        parent, found, expected: its name and the digests.
    """

    def __init__(self, path: Path | str, parent: str, found: str, expected: str) -> None:
        self.parent, self.found, self.expected = parent, found, expected
        super().__init__(path, f"its base cache {parent} has digest {found[:16]}, expected {expected[:16]}")


class UnwritableCache(CacheFormatError):
    """What is to be written breaks a rule of SPEC.md that readers check; nothing was written.

    Attributes:
        rule: its number, e.g. "R9".
        found, expected: what is not allowed, and what is.
    """

    def __init__(self, path: Path | str, rule: str, found: object, expected: object) -> None:
        self.rule, self.found, self.expected = rule, found, expected
        super().__init__(path, f"no reader would accept this cache ({rule}): {found}, allowed: {expected}")


class CannotRound(CacheFormatError):
    """The values of a cache are not to be rounded by the codec asked for; nothing was written."""

    hint = "pre-fill the document again with these codecs"


class CacheWriteError(CacheFormatError):
    """The file could not be written; nothing was left behind.

    Attributes:
        errno: the operating system's number, or None.
        needed_bytes: what the file takes, or None where that is not known.
    """

    hint = "make room or set the rights of its folder, or choose another output"

    def __init__(self, path: Path | str, reason: OSError, needed_bytes: int | None = None) -> None:
        self.errno, self.needed_bytes = reason.errno, needed_bytes
        what = "this file" if needed_bytes is None else f"these {needed_bytes:,} bytes"
        super().__init__(path, f"cannot write {what}: {reason.strerror or reason}")


class NoRoom(CacheFormatError):
    """The cap of a store leaves no room for a file.

    Attributes:
        needed_bytes, max_bytes: what it takes, and the cap.
    """

    def __init__(self, path: Path | str, needed_bytes: int, max_bytes: int) -> None:
        self.needed_bytes, self.max_bytes = needed_bytes, max_bytes
        super().__init__(path, f"no room for {needed_bytes:,} bytes under the cap of {max_bytes:,}")
