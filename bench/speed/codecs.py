"""What rounded caches cost in time: encoding and decoding, the command `gf ask`, answers read from all rows.

    python -m bench.speed.codecs [--others MODEL] [--tokens 8192] [--repeats 5] [--record]

All in CPU time of one thread, which others that use the machine do not change; what is compared is interleaved.
Encoding and decoding count values as bf16, and encoding includes the check that the very same bits are read: rows of
gf-mini-3 and, with --others, keys and values of MODEL, a folder of `gf model import`. `gf ask` is a process of its
own from its start to its end, and reads what it always reads; answers read all rows, with their keys and values kept,
or rebuilt at every step. --record writes bench/results/codec-speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gfkernels.threads  # noqa: F401

import gfcache
import numpy as np
import torch
from gfcache import Coding
from gfcache.codecs import registry
from gfcache.codecs.tokens import KINDS, Where
from gfcache.format.families.registry import where_of

import goldfinch
from bench.places import RESULTS, ROOT, add_record, write_record
from bench.speed.first_token import QUESTION, document
from goldfinch.engine.base import Start
from goldfinch.engine.session import DEFAULT_MEMORY_BYTES
from goldfinch.foreign.models import load
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.measure.conditions import conditions
from goldfinch.measure.speed import spread
from goldfinch.models.language_model import LanguageModel

CODECS = ("int8", "int4", "step4", "step3.5", "step3", "step2.5", "step2", "step1.5")
CODINGS = (Coding(), Coding("int8", "int8"), Coding("step3.5", "int8"))
# Tokens whose rows are encoded: of ours, and of a model of others.
ROWS, PAIRS = 4000, 800
# Tokens of an answer, and of one for each of which all keys and values are rebuilt.
STEPS, REBUILT_STEPS = 32, 2
# An array, its dtype, and where it stands.
Values = tuple[np.ndarray, str, Where]


def seconds(action: Callable[[], Any]) -> float:
    """CPU time of an action in this process."""
    started = time.process_time()
    action()
    return time.process_time() - started


def codec_speeds(what: str, values: Sequence[Values], repeats: int) -> list[dict[str, Any]]:
    """MB/s of each codec, values counted as bf16."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CODECS}
    rounded = {
        name: [np.ascontiguousarray(registry.rounded(array, dtype, name, where)) for array, dtype, where in values]
        for name in CODECS
    }
    mb = 2e-6 * sum(array.size for array, _, _ in values)
    for repeat in range(repeats + 1):  # the first is the warm-up
        for name in CODECS:
            encode_s = decode_s = 0.0
            for array, (_, dtype, where) in zip(rounded[name], values, strict=True):
                started = time.process_time()
                codec, stored = registry.encode(array, dtype, name, where)
                encode_s += time.process_time() - started
                decode_s += seconds(lambda: registry.decode(codec, bytes(stored), dtype, array.shape, where))  # noqa: B023
            if repeat:
                found[name].append((mb / encode_s, mb / decode_s))
    rows = []
    for name, speeds in found.items():
        encode, decode = zip(*speeds, strict=True)
        rows.append(
            {"what": what, "codec": name, "encode_mb_s": spread(list(encode)), "decode_mb_s": spread(list(decode))}
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def pairs_of(folder: Path, path: Path) -> list[Values]:
    """Keys and values of a text, of a model of others."""
    engine = ForeignEngine(load(folder, dtype="f32"))
    assert engine.tokenizer is not None
    text = "\n\n".join(sorted(p.read_text() for p in (ROOT / "docs").glob("*.md")))
    engine.prefill_from(Start(), np.array(engine.tokenizer.encode(text[: 8 * PAIRS])[:PAIRS])).save(path)
    with gfcache.read_cache(path) as file:
        model = file.header.model
        return [
            (file.array(s), s.dtype, where_of(model, s))
            for s in file.header.sections
            if s.kind in KINDS and s.dtype in ("f32", "bf16")
        ]


def asked(path: Path) -> float:
    """CPU time of `gf ask`, a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "gfcli", "ask", "--cache", str(path), QUESTION, "--max-tokens", str(STEPS)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def decoded(model: LanguageModel, path: Path, *, kept: bool) -> Callable[[], float]:
    """CPU time of a question and the tokens behind it, all rows of the document read."""
    cache = goldfinch.open_cache(path, model)
    session = goldfinch.Session(model, cache, read="all", memory_bytes=DEFAULT_MEMORY_BYTES if kept else 0)
    ids, steps = session.question_token_ids(QUESTION), STEPS if kept else REBUILT_STEPS
    assert session.expands == kept
    return lambda: seconds(lambda: session.likeliest(ids, steps))


def compared(runs: dict[Coding, Callable[[], float]], repeats: int) -> list[dict[str, Any]]:
    """Times of each coding, and against those without in the same round."""
    found: dict[Coding, list[float]] = {coding: [] for coding in runs}
    for repeat in range(repeats + 1):  # the first is the warm-up
        for coding, run in runs.items():
            once = run()
            if repeat:
                found[coding].append(once)
    plain = found[Coding()]
    rows = []
    for coding, times in found.items():
        ratios = [own / other for own, other in zip(times, plain, strict=True)]
        rows.append({"codec": coding.rows, "state_codec": coding.state, "s": spread(times), "ratio": spread(ratios)})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", type=Path, default=None)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=5)
    add_record(parser, RESULTS / "codec-speed.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = goldfinch.load_model()
    cache = goldfinch.prefill(model, document(model, options.tokens))
    assert cache.compressed_k is not None
    rows = codec_speeds("rows", [(cache.compressed_k[0, :ROWS].numpy(), "f32", Where())], options.repeats)
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = {coding: folder / f"{coding.rows}-{coding.state}.gfc" for coding in CODINGS}
        cache.save(files[Coding()])
        for coding in CODINGS[1:]:
            gfcache.convert_cache(files[Coding()], files[coding], coding)
        record = {
            "schema_version": 1, "what": "codec-speed", "conditions": conditions(model), "repeats": options.repeats,
            "document_tokens": options.tokens, "rows": rows,
            "ask": compared({c: lambda path=path: asked(path) for c, path in files.items()}, options.repeats),  # type: ignore[misc]
            "kept": compared({c: decoded(model, path, kept=True) for c, path in files.items()}, options.repeats),
            "rebuilt": compared({c: decoded(model, path, kept=False) for c, path in files.items()}, options.repeats),
        }  # fmt: skip
        if options.others is not None:
            rows += codec_speeds("keys and values", pairs_of(options.others, folder / "others.gfc"), options.repeats)
            record["others"] = options.others.name
    print(json.dumps(record, indent=2))
    write_record(options.record, record)


if __name__ == "__main__":
    main()
