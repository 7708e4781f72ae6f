"""Names beside other names: what a writer puts next to its output has to fit where the output's own name just does."""

from __future__ import annotations

import hashlib
import os

# The longest name of a file, in bytes, on the file systems in use.
MOST_BYTES = 255
_DIGEST = 16


def fitting(name: str, more_bytes: int) -> str:
    """A name to which so many bytes can be added: itself, or for a long one its beginning and a digest of all of it.

    Names that differ give names that differ.
    """
    room = MOST_BYTES - more_bytes
    if len(os.fsencode(name)) <= room:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGEST]
    # Cut between characters: some file systems take no others.
    head = os.fsencode(name)[: room - _DIGEST - 1].decode("utf-8", "ignore")
    return f"{head}~{digest}"
