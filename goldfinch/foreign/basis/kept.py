"""The basis of a model, made when a codec first needs it, and kept beside the model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from gfcache import CacheFormatError
from gfcache.codecs.basis.matrices import Basis
from gfcache.files.replace import replacing_output
from gfcache.format.bases import known_basis, offer, offer_basis, read_basis

from goldfinch.errors import ModelDamaged, ModelRefused
from goldfinch.foreign.models import ForeignModel
from goldfinch.weights.noted import basis_files_of

from .making import made_basis


def basis_of(model: ForeignModel) -> Basis:
    """The basis of a model, offered to codecs; it is made and kept where there is none.

    Raises:
        ModelDamaged: a file in its place that is none.
        ModelRefused: the model can have none (`making.obstacle_to_basis`), or it can be kept nowhere.
    """
    places = list(basis_files_of(model.path, model.fingerprints["model_fingerprint"]))
    for path in places:
        if path.exists():
            try:
                basis = read_basis(path)
            except (OSError, ValueError) as error:
                hint = "remove it: it is made anew, and what was coded in it has to be pre-filled again"
                raise ModelDamaged(f"cannot read {path}: {error}", hint=hint) from error
            offer(basis)
            return basis
    basis = made_basis(model)
    for path in places:
        with contextlib.suppress(OSError, CacheFormatError):
            with replacing_output(path, follow=False) as stream:
                stream.write(basis.to_bytes())
            offer(basis)
            return basis
    raise ModelRefused(
        f"the basis of {model.name} cannot be kept: {places[0]} cannot be written",
        hint="make its directory writable, or use another codec",
    )


def offer_kept(model: ForeignModel, digests: Iterable[str | None]) -> None:
    """Let sections that name the basis of a model be read, where it was kept."""
    if any(digest is not None and known_basis(digest) is None for digest in digests):
        for path in basis_files_of(model.path, model.fingerprints["model_fingerprint"]):
            with contextlib.suppress(OSError, ValueError):
                offer_basis(path)
