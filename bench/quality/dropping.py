"""What dropping rows costs beside rounding them, on text that training never saw; random rows are the line to beat.

    python -m bench.quality.dropping [-m MODEL] [--documents 5] [--tokens 1000] [--record]

Documents are held-out texts of the encyclopedia, joined and cut to so many tokens, as for the bench of codecs. Each is
made smaller by every policy at every share, and by some codecs; for each: bytes of rows, and of what says which they
are, against the rows as computed; KL of next-token distributions at 256 positions of the document and behind general
questions, read whole; CPU time of choosing, of that of the pre-fill. --record writes
bench/results/dropping-gf-mini-4.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from gfcache import Coding, layout
from gfcache.codecs import registry

import goldfinch
from bench.places import add_record, of_embedded, write_record
from bench.quality.codecs import documents_of
from goldfinch.caching.coding import coded
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.kept import without
from goldfinch.caching.kept_rows import rows_in
from goldfinch.caching.row_parts import Form
from goldfinch.datasets.corpora import data_directory
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.engine.prefill import prefill
from goldfinch.measure.conditions import conditions
from goldfinch.measure.divergence import Yardstick
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.dropping.choosing import Chooser
from goldfinch.policies.dropping.named import DROPPERS, Dropping

KEEPS = (0.5, 0.2)
CODECS = ("int8", "step3", "step2", "step1.5")


def rows_bytes(cache: DocumentCache) -> int:
    """Bytes of the rows of a cache in its file, and of the list of those that it keeps."""
    return sum(
        len(registry.encode(section.array, section.dtype, section.codec)[1])
        for section in cache.packed()
        if section.kind in (layout.COMPRESSED_K, layout.KEPT_POSITIONS)
    )


def smaller(model: LanguageModel, cache: DocumentCache) -> Iterator[tuple[str, float, DocumentCache, float]]:
    """(method, share of the rows that are kept, the smaller cache, seconds of choosing), one after the other."""
    for name in CODECS:
        yield name, 1.0, coded(cache, Form(Coding(name))), 0.0
    for policy in DROPPERS:
        started = time.process_time()
        chooser = Chooser(model, cache.ids_on(model.device), policy)
        seconds = time.process_time() - started
        for keep in KEEPS:
            small = without(cache, chooser.kept(keep), Dropping(policy, keep))
            yield policy, rows_in(small.kept or ()) / cache.length, small, seconds


def measure(model: LanguageModel, documents: list[Any]) -> list[dict[str, Any]]:
    """Means over the documents, a row for each method and share."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for name, ids, span in documents:
        started = time.process_time()
        cache = prefill(model, ids, document_range=span)
        prefill_s, raw = time.process_time() - started, rows_bytes(cache)
        yardstick = Yardstick(GoldFinchEngine(model), cache)
        for n, (method, kept, small, seconds) in enumerate(smaller(model, cache)):
            document, questions = yardstick.divergences(small)
            found.setdefault((method, n), []).append(
                {
                    "kept": kept, "bytes_share": rows_bytes(small) / raw, "document_kl": document.mean_kl,
                    "document_flips": document.flips / document.positions, "questions_kl": questions.mean_kl,
                    "choosing_of_prefill": seconds / prefill_s,
                }
            )  # fmt: skip
        print(name, file=sys.stderr, flush=True)
    rows = []
    for (method, _), values in found.items():
        means = {name: round(sum(v[name] for v in values) / len(values), 5) for name in values[0]}
        rows.append({"method": method, "documents": len(values)} | means)
    return rows


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default=None)
    parser.add_argument("--data", default=None)
    parser.add_argument("--documents", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1000)
    add_record(parser, of_embedded("dropping"))
    arguments = parser.parse_args()
    model = goldfinch.load_model(arguments.model) if arguments.model else goldfinch.load_model()
    documents = list(documents_of(model, data_directory(arguments.data), arguments.tokens, arguments.documents))
    head = {"what": "dropping", "tokens": arguments.tokens, "conditions": conditions(model)}
    record = head | {"rows": measure(model, documents)}
    print(json.dumps(record, indent=2))
    write_record(arguments.record, record)


if __name__ == "__main__":
    main()
