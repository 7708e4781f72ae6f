"""Coverage-guided fuzzing of the torch-free reader with atheris:

    python tests/fuzz/fuzz_reader.py -runs=1000000 tests/fuzz/corpus

Checksums are made to fit before the reader sees the bytes (otherwise nothing behind rule R5 would be reached), for
half of the inputs. Allowed outcomes: a typed error, or a consistent file; never another exception, a hang, or more
memory than BOUND_FACTOR times the file plus BOUND_BYTES.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import pkgutil
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script

try:
    import atheris
except ImportError:  # the test suite replays the corpus without it
    atheris = None

if atheris is not None and __name__ == "__main__":
    with atheris.instrument_imports(include=["gfcache"]):
        import gfcache
        from gfcache import layout

        for module in pkgutil.walk_packages(gfcache.__path__, "gfcache."):  # gfcache loads its parts later, unseen
            importlib.import_module(module.name)
else:
    import gfcache
    from gfcache import layout

from gfcache.codecs.basis.matrices import parse

from tests.fuzz.mutations import changed

# In which the seeds of codecs that need one were coded.
gfcache.offer_basis(Path(__file__).parents[1] / "golden" / "v1_1" / "codecs" / "pairs.gfb")

# SPEC.md section 4: one section at a time, 1,024 n + 1 MiB each.
BOUND_FACTOR, BOUND_BYTES = 1024, 1 << 20
_PATH = os.path.join(
    tempfile.mkdtemp(prefix="gf-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None), "x.gfc"
)


def repaired(data: bytes) -> bytes:
    """The bytes with prefix lengths and checksums that fit, as far as the header can be read."""
    if len(data) <= layout.HEADER_OFFSET:
        return data
    body_length = min(int.from_bytes(data[12:16], "little"), len(data) - layout.HEADER_OFFSET)
    body = data[layout.HEADER_OFFSET : layout.HEADER_OFFSET + body_length]
    payload = data[layout.align(layout.HEADER_OFFSET + body_length) :]
    try:
        values = json.loads(body)
        for row in values["sections"]:
            start, stored = row["offset"], row["stored_bytes"]
            if isinstance(start, int) and isinstance(stored, int) and start >= 0 and stored >= 0:
                row["sha256"] = hashlib.sha256(payload[start : start + stored]).hexdigest()
        body = json.dumps(values).encode()
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        pass
    padding = bytes(layout.align(layout.HEADER_OFFSET + len(body)) - layout.HEADER_OFFSET - len(body))
    total = layout.HEADER_OFFSET + len(body) + len(padding) + len(payload)
    prefix = layout.PREFIX.pack(layout.MAGIC, 1, 0, len(body), total, 0)
    return prefix + hashlib.sha256(prefix + body).digest() + body + padding + payload


def read_everything(data: bytes) -> None:
    """What a program does with a file: rows by their digests, summary, checks, all arrays."""
    with open(_PATH, "wb") as stream:
        stream.write(data)
    try:
        with gfcache.read_cache(_PATH) as file:
            if file.has_digests():  # before anything else has looked at them, as a question does
                for section in file.header.of_kind(layout.COMPRESSED_K):
                    file.rows(section, 0, section.shape[0])
        gfcache.inspect_cache(_PATH)
        header: Any = gfcache.verify_cache(_PATH)
    except gfcache.CacheFormatError:
        return
    for section in (one for one in header.sections if one.is_known):  # the others are skipped, and never decoded
        assert section.raw_bytes <= BOUND_FACTOR * len(data) + BOUND_BYTES


def test_one_input(data: bytes) -> None:
    """The fuzzer's entry: the first byte chooses whether checksums are repaired."""
    if not data:
        return
    with contextlib.suppress(ValueError):
        parse(data)
    read_everything(repaired(data[1:]) if data[0] & 1 else data[1:])


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Half of the changes are made to the header as JSON, where random bytes would only break its syntax."""
    rng = Random(seed)
    if rng.random() < 0.5 and len(data) > layout.HEADER_OFFSET + 1:
        inner = data[1:]
        length = int.from_bytes(inner[12:16], "little")
        end = layout.HEADER_OFFSET + length
        try:
            values = json.loads(inner[layout.HEADER_OFFSET : end])
            body = json.dumps(changed(values, rng)).encode()
        except (ValueError, RecursionError, IndexError):
            return atheris.Mutate(data, max_size)
        payload = inner[layout.align(end) :]
        padding = bytes(layout.align(layout.HEADER_OFFSET + len(body)) - layout.HEADER_OFFSET - len(body))
        prefix = layout.PREFIX.pack(layout.MAGIC, 1, 0, len(body), 0, 0)
        return (data[:1] + prefix + bytes(layout.DIGEST_BYTES) + body + padding + payload)[:max_size]
    return atheris.Mutate(data, max_size)


def main() -> None:
    atheris.Setup(sys.argv, test_one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
