"""Where the basis of a model lies, in which a codec codes its keys and values (SPEC, "Bases")."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gfcache.files.basis_files import FILE_NAME

from .directory import list_models
from .noted import place_of


def files_of(path: Path, model_fingerprint: str | None) -> Iterator[Path]:
    """The places for the basis of a model: its directory; of one that cannot be written, the user's private folder."""
    yield path / FILE_NAME
    private = None if model_fingerprint is None else place_of(model_fingerprint)
    if private is not None:
        yield private / FILE_NAME


def all_files() -> Iterator[Path]:
    """Those of all models of others that have a name here."""
    for card in list_models():
        if card.is_foreign:
            yield from files_of(card.path, card.model_fingerprint)
