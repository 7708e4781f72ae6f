"""What codecs cost and save on text that training never saw: the record that the default codecs rest on.

    python -m bench.quality.codecs [-m MODEL] [--documents 20] [--tokens 4000,500] [--record]

Documents are held-out texts of the encyclopedia, joined and cut to so many tokens. For each codec of keys (at the
first length), of states, and for both together: bits per value, the file against the one without codecs, KL of
next-token distributions at 256 positions per document and behind general questions, and the speed of encoding and
decoding keys, as bf16 values, on one core (CPU time; encoding includes the check that the very same bits are read).
--record writes bench/results/codecs-gf-mini-4.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gfcache import Coding

import goldfinch
from bench.places import add_record, of_embedded, write_record
from goldfinch.datasets.corpora import data_directory
from goldfinch.evaluate.held_out import held_out_texts
from goldfinch.measure.codec_rates import Document, measure_codecs
from goldfinch.models.language_model import LanguageModel
from goldfinch.text.prompt import document_token_ids

KEYS = ("int8", "int4", "step3.5", "step3", "step2.5", "step2", "step1.5", "kivi4", "kivi2", "flexgen4")
STATES = ("int8", "int4")
TOGETHER = (("step3.5", "int8"), ("step3", "int8"), ("step3", "int4"), ("step2.5", "int4"), ("step2", "int4"))


def codings_of(first: bool) -> list[Coding]:
    """What is measured at the first length, or at another one."""
    keys = [Coding(name, "raw") for name in KEYS] if first else []
    return keys + [Coding("raw", name) for name in STATES] + [Coding(*both) for both in TOGETHER]


def documents_of(model: LanguageModel, directory: Path, tokens: int, count: int) -> Iterator[Document]:
    """Held-out texts one after the other until they fill a document, cut where it is full."""
    texts = iter(held_out_texts(directory))
    for n in range(count):
        text = ""
        while len(text) < 6 * tokens:  # a token has fewer characters than that
            text += next(texts) + "\n\n"
        ids, (start, _) = document_token_ids(model, text)
        if ids.shape[1] < tokens:
            raise SystemExit(f"document {n} has only {ids.shape[1]} tokens")
        yield f"held-out {n + 1}", ids[:, :tokens], (start, tokens)


def _progress(row: dict[str, Any]) -> None:
    print(row, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default=None)
    parser.add_argument("--data", default=None)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--tokens", default="4000,500", type=lambda t: [int(n) for n in t.split(",")])
    add_record(parser, of_embedded("codecs"))
    arguments = parser.parse_args()
    model = goldfinch.load_model(arguments.model) if arguments.model else goldfinch.load_model()
    directory, rows, head = data_directory(arguments.data), [], {}
    for n, tokens in enumerate(arguments.tokens):
        documents = list(documents_of(model, directory, tokens, arguments.documents))
        record = measure_codecs(model, documents, codings_of(n == 0), _progress)
        rows += [{"tokens": tokens, "documents": len(documents)} | row for row in record["rows"]]
        head = {"what": "codecs", "conditions": record["conditions"]}
    print(json.dumps(head | {"rows": rows}, indent=2))
    write_record(arguments.record, head | {"rows": rows})


if __name__ == "__main__":
    main()
