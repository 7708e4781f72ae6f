"""Makes the files of tests/golden/v1_1/codecs, as long as 1.1 is a draft: `python -m tests.cache_format.codecs.golden`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import gfcache
from gfcache import Coding
from gfcache.codecs import registry

from tests.cache_format.small_cache import header, sections

FOLDER = Path(__file__).parents[2] / "golden" / "v1_1" / "codecs"


def coding_of(name: str) -> Coding:
    """The rows in one codec, the states in the same where it may serve them."""
    return Coding(name, name if name in registry.serving("wkv_state") else "int4")


def values_in(path: Path) -> dict[str, str]:
    """SHA-256 of the decoded bytes of each section."""
    with gfcache.read_cache(path) as file:
        return {s.name: hashlib.sha256(file.array(s).tobytes()).hexdigest() for s in file.header.sections}


def make() -> None:
    """All files and what is expected of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    expected = {}
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.gfc"
        gfcache.write_cache(plain, replace(header(), writer="golden files"), sections())
        for name in registry.LOSSY:
            path = FOLDER / f"{name}.gfc"
            digest = gfcache.convert_cache(plain, path, coding_of(name)).digest
            expected[path.name] = {"digest": digest, "values": values_in(path)}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    make()
