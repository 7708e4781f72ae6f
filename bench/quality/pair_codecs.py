"""What codecs of keys and values cost and save for a model of others: the table of docs/benchmarks.md.

    python -m bench.quality.pair_codecs MODEL [--documents 20] [--tokens 800] [--record]

MODEL is a folder of `gf model import`. Documents are held-out texts of the encyclopedia, cut to so many tokens. For
each codec: bits per value of keys and values, everything counted that the sections hold; the whole file against one of
bf16 values; KL of next-token distributions, in nats, behind the 32 tokens that follow the document; the speed of
encoding and decoding the first documents, as bf16 values, in CPU time (encoding includes the check that the very same
bits are read).
--record writes bench/results/pair-codecs.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gfcache
import numpy as np
from gfcache import Coding, layout
from gfcache.codecs import registry
from gfcache.format.families.registry import where_of

from bench.places import RESULTS, add_record, write_record
from goldfinch.caching.row_parts import Form
from goldfinch.datasets.corpora import data_directory
from goldfinch.engine.base import Start
from goldfinch.evaluate.held_out import held_out_texts
from goldfinch.foreign.models import load
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.measure.conditions import git_commit, processor
from goldfinch.measure.divergence import between
from goldfinch.policies.named import ALL

CODECS = (
    "int8", "basis4", "basis3.5", "basis3", "basis2.5", "basis2", "basis1.5",
    "step4", "step3.5", "step3", "step2.5", "step2", "kivi4", "kivi2", "flexgen4",
)  # fmt: skip
# Documents whose codecs are timed.
TIMED = 2
# Tokens behind the document that are predicted.
CONTINUED = 32
_PAIRS = (layout.KV_KEYS, layout.KV_VALUES)


def documents_of(engine: ForeignEngine, directory: Path, tokens: int, count: int) -> Iterator[np.ndarray]:
    """Token ids of held-out texts that are long enough, cut."""
    assert engine.tokenizer is not None
    for text in held_out_texts(directory):
        ids = engine.tokenizer.encode(text[: 8 * (tokens + CONTINUED)])
        if len(ids) >= tokens + CONTINUED:
            yield np.array(ids[: tokens + CONTINUED])
            count -= 1
        if not count:
            return
    raise SystemExit(f"{count} documents of {tokens + CONTINUED} tokens are missing")


def measured(
    engine: ForeignEngine, ids: np.ndarray, folder: Path, timed: bool
) -> Iterator[tuple[str, dict[str, float]]]:
    """Figures of one document for each codec."""
    own, then = ids[:-CONTINUED], ids[-CONTINUED:].tolist()
    computed = engine.prefill_from(Start(), own)
    computed.save(folder / "raw.gfc")
    expected = engine.session(computed, read=ALL).continued(then).double().log_softmax(-1)
    with gfcache.read_cache(folder / "raw.gfc") as file:
        pairs = [s for s in file.header.sections if s.kind in _PAIRS]
        values = sum(s.raw_bytes // layout.DTYPES[s.dtype] for s in pairs)
        plain = file.file_bytes - sum(s.raw_bytes for s in pairs) + 2 * values
    for name in CODECS:
        rounded = engine.coded(computed, Form(Coding(name)))
        found = between(expected, engine.session(rounded, read=ALL).continued(then).double().log_softmax(-1))
        speeds = _timed(rounded) if timed else {"encode_s": 0.0, "decode_s": 0.0, "mb": 0.0}
        header = rounded.save(folder / "coded.gfc")
        stored = sum(s.stored_bytes for s in header.sections if s.kind in _PAIRS)
        others = sum(layout.align(s.stored_bytes) for s in header.sections if s.kind not in _PAIRS)
        rest = layout.align(layout.HEADER_OFFSET + len(header.to_json())) + others
        yield name, speeds | {
            "bits_per_value": 8 * stored / values, "file_share": (rest + stored) / plain, "kl": found.mean_kl,
            "max_kl": found.max_kl, "flips": found.flips / found.positions,
        }  # fmt: skip


def _timed(cache: Any) -> dict[str, float]:
    """CPU seconds of both ways, and megabytes as bf16 values."""
    encode_s, decode_s, mb = 0.0, 0.0, 0.0
    for section in cache.packed():
        if section.kind not in _PAIRS:
            continue
        where = where_of(cache.identity["model"], section, basis=section.basis)
        array = np.ascontiguousarray(section.array)
        started = time.process_time()
        codec, stored = registry.encode(array, section.dtype, section.codec, where)
        encoded = time.process_time()
        registry.decode(codec, bytes(stored), section.dtype, array.shape, where)
        encode_s, decode_s = encode_s + encoded - started, decode_s + time.process_time() - encoded
        mb += 2e-6 * array.size
    return {"encode_s": encode_s, "decode_s": decode_s, "mb": mb}


def row_of(name: str, figures: list[dict[str, float]]) -> dict[str, Any]:
    """Means over the documents; speeds over all bytes; the worst divergence."""
    row: dict[str, Any] = {"codec": name, "max_kl": round(max(one["max_kl"] for one in figures), 4)}
    for field in ("bits_per_value", "file_share", "kl", "flips"):
        row[field] = round(statistics.fmean(one[field] for one in figures), 5)
    for way in ("encode", "decode"):
        row[f"{way}_mb_s"] = round(sum(one["mb"] for one in figures) / sum(one[f"{way}_s"] for one in figures), 1)
    return row


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default=None)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=800)
    add_record(parser, RESULTS / "pair-codecs.json")
    arguments = parser.parse_args()
    engine = ForeignEngine(load(arguments.model, dtype="f32"))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CODECS}
    documents = documents_of(engine, data_directory(arguments.data), arguments.tokens, arguments.documents)
    with TemporaryDirectory() as folder:
        for number, ids in enumerate(documents, 1):
            for name, figures in measured(engine, ids, Path(folder), number <= TIMED):
                found[name].append(figures)
            print(f"{number} documents", file=sys.stderr, flush=True)
    rows = [row_of(name, figures) for name, figures in found.items()]
    model = engine.model
    conditions = {"commit": git_commit(), "processor": processor(), "numerics": engine.numerics.to_dict()}
    record = {
        "schema_version": 1, "what": "pair-codecs", "conditions": conditions, "model": model.name,
        "architecture": model.config.model_type, "documents": arguments.documents, "tokens": arguments.tokens,
        "positions": CONTINUED, "rows": rows,
    }  # fmt: skip
    print(json.dumps(record, indent=2))
    write_record(arguments.record, record)


if __name__ == "__main__":
    main()
