"""What this user's own runs have checked of model directories, and so need not compute at every load.

A model directory states fingerprints of its weights, tokenizer and template. Whether they are true takes reading and
hashing all weights, too long for every load. So it is done once, and noted: where the directory is, size and times of
each file of weights, the digest of config.json, the fingerprints of tokenizer and template. A load compares these and
checks in full again when any differs: after `gf model import` (which notes what it wrote), after a copy, a move, an
edit, a new download.

Where the note is kept decides what it is worth. In the model directory it would be worth nothing: who can change the
weights could change the note. It could not be written into a directory that is read-only either, and would be wrong in
a copy, whose files have other times. So it stands in the user's private cache, in a folder of mode 0700 that belongs to
the user: a copy, or a directory that was moved here, is checked once and noted; a read-only one as well; and where the
cache cannot be written, or belongs to someone else, every load checks in full. Loss of the cache costs one check.

Compared are the times of change (ctime), too: they cannot be set, so a file that was edited and given its old size and
time of modification back is noticed. Whoever can write as the user, or set the clock, can forge all of it.

Notes are kept by model fingerprint. What is measured of a model (a policy, a calibration, a self-check) belongs into
the same folder, `place_of`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gfcache import CacheFormatError
from gfcache.files.basis_files import FILE_NAME
from gfcache.files.locks import sweep
from gfcache.files.places import is_private, make_private, user_folder
from gfcache.files.regular import read_regular
from gfcache.files.replace import replacing_output

from goldfinch.text.json_files import parse_json

from .directory import ModelCard, list_models, weights_files_of
from .parts import check_regular

_VERSION = 1
_MOST_NOTE_BYTES = 1 << 20


def place_of(model_fingerprint: str) -> Path | None:
    """The user's private folder for what is known of a model, made if need be; None where there is none to be had.

    Private is a folder of this user's that no one else may write, however it came about.
    """
    try:
        place = user_folder("cache", "goldfinch") / "models" / model_fingerprint
        make_private(place)
        return place if all(map(is_private, (place.parent, place))) else None
    except (OSError, RuntimeError):  # no home
        return None


def state_of(card: ModelCard) -> dict[str, Any]:
    """What tells a directory that was checked from one that may have changed since.

    Raises:
        FileNotFoundError, WeightsDamaged: weights that are missing.
    """
    files = {}
    for path in weights_files_of(card):
        check_regular(path)
        found = path.stat()
        files[path.name] = [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    return {
        "version": _VERSION,
        "path": os.path.realpath(card.path),
        "config_digest": card.config_digest,
        "tokenizer_fingerprint": card.tokenizer_fingerprint,
        "template_fingerprint": card.template.fingerprint(),
        "weights": files,
    }


def noted(card: ModelCard) -> dict[str, Any] | None:
    """The state in which a directory was last checked in full and held, or None."""
    file = _note_of(card)
    if file is None:
        return None
    sweep(file)
    try:
        found = parse_json(read_regular(file, _MOST_NOTE_BYTES))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("version") == _VERSION else None


def note(card: ModelCard, state: dict[str, Any]) -> None:
    """Note that a directory was checked in full in this state, and held. Where that cannot be, the next load checks."""
    file = _note_of(card)
    if file is not None:
        # Under its lock: what a process that was killed leaves, the next one removes.
        with contextlib.suppress(OSError, CacheFormatError), replacing_output(file, follow=False) as stream:
            stream.write(json.dumps(state).encode())


def _note_of(card: ModelCard) -> Path | None:
    place = place_of(card.model_fingerprint)
    name = hashlib.sha256(os.fsencode(os.path.realpath(card.path))).hexdigest()
    return None if place is None else place / f"checked-{name[:32]}.json"


def basis_files_of(path: Path, model_fingerprint: str | None) -> Iterator[Path]:
    """Where the basis of a model may lie, in which codecs code its keys and values (SPEC, "Bases").

    That is its directory; of one that cannot be written, the user's private folder.
    """
    yield path / FILE_NAME
    private = None if model_fingerprint is None else place_of(model_fingerprint)
    if private is not None:
        yield private / FILE_NAME


def all_basis_files() -> Iterator[Path]:
    """Those of all models of others that have a name here."""
    for card in list_models():
        if card.is_foreign:
            yield from basis_files_of(card.path, card.model_fingerprint)
