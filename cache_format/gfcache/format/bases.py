"""The bases that are known here (SPEC, "Bases").

Whoever reads a section that was coded in a basis hands that over beforehand: `offer` takes one, `offer_bases` knows
where files of some lie. As a basis is known by the digest of its content, no wrong one can be found.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from gfcache.codecs.basis.matrices import MOST_BYTES, Basis, Matrices, parse
from gfcache.files.basis_files import basis_files
from gfcache.files.regular import open_regular

_known: dict[str, Basis] = {}


def read_basis(path: Path | str) -> Basis:
    """A basis from its file.

    Raises:
        ValueError: it is none.
        OSError: as the system says.
    """
    with os.fdopen(open_regular(Path(path), follow=True), "rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"a basis of more than {MOST_BYTES:,} bytes")
    return parse(data)


def offer(basis: Basis) -> None:
    """Let sections that name this basis be decoded and encoded from now on."""
    _known[basis.digest] = basis


def offer_basis(path: Path | str) -> str:
    """Let sections that were coded in the basis of this file be read from now on; errors as of `read_basis`.

    Returns:
        its digest.
    """
    basis = read_basis(path)
    offer(basis)
    return basis.digest


def known_basis(digest: str) -> Basis | None:
    """The basis of a digest, from memory or from the files that were named; None where there is none."""
    for path in basis_files() if digest not in _known else ():
        try:
            basis = read_basis(path)
        except (OSError, ValueError):
            continue
        if basis.digest == digest:
            offer(basis)
            break
    return _known.get(digest)


def matrices_of(digest: str, layers: tuple[int, ...], part: str) -> Matrices | None:
    """Of the heads of these layers; None where the basis is not known, or has none of one."""
    basis = known_basis(digest)
    return None if basis is None else _stacked(basis, layers, part)


@lru_cache(16)
def _stacked(basis: Basis, layers: tuple[int, ...], part: str) -> Matrices | None:
    try:
        return basis.of(layers, part)
    except (KeyError, ValueError):  # ValueError: heads of different widths
        return None
