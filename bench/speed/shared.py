"""Two documents of a library that share half of their text: python -m bench.speed.shared MODEL [--record]

Both are taken into a library in blocks, the second once behind the first, and once into a library of its own; the two
take turns. CPU seconds of taking it in, file written, and the bytes of its file. Then a question to each of the two
files: logits and answer have to be the same bits. Loading the model does not count.

The documents are paragraphs of docs/samples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import gfcache
from gfcache import Store

from bench.places import RESULTS, add_record, write_record
from bench.speed.blocks import document
from goldfinch.library.library import Library
from goldfinch.library.opening import Model, engine_of, load
from goldfinch.measure.conditions import git_commit, processor
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.named import BLOCKS
from goldfinch.weights.directory import find_model

RESULT = RESULTS / "blocks-shared.json"
REPEATS = 5
QUESTION = "What is this about?"


def documents(model: Model, tokens: int) -> list[str]:
    """Two texts of some `tokens` tokens; the second begins with a block in the middle of the first."""
    engine: Any = engine_of(model)
    own = engine.tokenizer.encode(document(engine, tokens * 3 // 2, 0))
    index = DocumentIndex(engine.tokenizer, own)
    rows = [index.found(n, 0.0).rows[-1] for n in range(len(index))]
    third = len(index) // 3
    return [engine.tokenizer.decode(part) for part in (own[: rows[2 * third][1]], own[rows[third][0] :])]


def taken_in(library: Library, model: Model, path: Path) -> dict[str, Any]:
    """One document: what it took."""
    started = time.process_time()
    kept = library.get(model, path)
    seconds = time.process_time() - started
    assert kept.path is not None
    lent = gfcache.inspect_cache(kept.path)
    return {
        "path": kept.path, "cpu_s": seconds, "bytes": kept.path.stat().st_size, "tokens": kept.cache.length,
        "tokens_computed": kept.tokens_computed, "blocks": lent["blocks"], "blocks_lent": lent["blocks_lent"],
    }  # fmt: skip


def are_equal(model: Model, one: Path, other: Path) -> bool:
    """Whether a question to both files has the same answer, and the same logits before it."""
    engine: Any = engine_of(model)
    found = []
    for path in (one, other):
        session = engine.session(engine.open(path, asking=True))
        ids = session.question_token_ids(QUESTION)
        logits, _ = session.start(ids, state=session.reader.state(session.reader.read(QUESTION)))
        found.append((logits.numpy().tobytes(), session.ask(QUESTION, max_tokens=16).token_ids))
    return found[0] == found[1]


def measure(model: Model, texts: list[str]) -> dict[str, Any]:
    """One repeat."""
    with tempfile.TemporaryDirectory(prefix="gf-bench-shared-") as name:
        folder = Path(name)
        paths = [folder / f"{n}.txt" for n in range(2)]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, encoding="utf-8")
        with Library(Store(folder / "both")) as library:
            taken_in(library, model, paths[0])
            lent = taken_in(library, model, paths[1])
        with Library(Store(folder / "alone")) as library:
            alone = taken_in(library, model, paths[1])
        equal = are_equal(model, lent.pop("path"), alone.pop("path"))
    return {"lent": lent, "alone": alone, "equal": equal}


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or directory of a model of others")
    parser.add_argument("--tokens", type=int, default=900, metavar="N", help="of each document, about")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N")
    add_record(parser, RESULT)
    options = parser.parse_args()
    model: Any = load(find_model(options.model), dtype="f32", layout=BLOCKS)
    texts = documents(model, options.tokens)
    measure(model, texts)  # the warm-up
    rows = []
    for _ in range(options.repeats):
        rows.append(measure(model, texts))
        print(json.dumps(rows[-1]), flush=True)
    seconds = [row["lent"]["cpu_s"] / row["alone"]["cpu_s"] for row in rows]
    record = {
        "what": "a document that shares half of its blocks with another of the library, beside one that shares none",
        "commit": git_commit(),
        "processor": processor(),
        "model": model.name,
        "numerics": engine_of(model).numerics.to_dict(),
        "blocks": rows[0]["lent"]["blocks"],
        "blocks_lent": rows[0]["lent"]["blocks_lent"],
        "cpu_s_lent": median(row["lent"]["cpu_s"] for row in rows),
        "cpu_s_alone": median(row["alone"]["cpu_s"] for row in rows),
        "cpu_ratio": {"median": median(seconds), "min": min(seconds), "max": max(seconds)},
        "bytes_lent": rows[0]["lent"]["bytes"],
        "bytes_alone": rows[0]["alone"]["bytes"],
        "equal": sum(row["equal"] for row in rows),
        "repeats": rows,
    }
    write_record(options.record, record)
    print(json.dumps({name: value for name, value in record.items() if name != "repeats"}, indent=2))


if __name__ == "__main__":
    main()
