"""Reading the training corpora (JSON Lines, zstandard) from the folder named by GF_DATA_DIR."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from goldfinch.errors import CorpusMissing, GoldFinchError

MAX_WINDOW_BYTES = 1 << 27
HOLDS = (
    "its files are NAME.jsonl.zst, one object per line: corpus-wikipedia-00, corpus-wikipedia-01 and corpus-books with "
    "title and text, train_qa, train_qa_unanswerable and train_docqa with questions, and whatever else a recipe names "
    "under corpora; gf eval also asks about the documents of samples/questions.jsonl"
)
HINT = f"name its folder with --data or GF_DATA_DIR; {HOLDS}"


def data_directory(given: str | None = None) -> Path:
    """The corpora's folder: the argument, or GF_DATA_DIR.

    Raises:
        GoldFinchError: neither is set, or the folder is not there.
    """
    name = given or os.environ.get("GF_DATA_DIR")
    if not name:
        raise GoldFinchError("no training data given", hint=HINT)
    path = Path(name)
    if not path.is_dir():
        raise GoldFinchError(f"training data folder {name} does not exist", hint=HINT)
    return path


def read_records(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The records of one .jsonl.zst file, at most `limit`.

    Raises:
        CorpusMissing: it is not there.
    """
    import zstandard

    if not path.exists():
        raise CorpusMissing(f"{path}: no such corpus", hint=HINT)
    with open(path, "rb") as raw:
        stream = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(raw)
        for i, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8")):
            if limit is not None and i >= limit:
                return
            yield json.loads(line)


def is_held_out_document(key: str) -> bool:
    """One document in fifty, by a hash of its title or id, is kept for evaluation."""
    return zlib.crc32(("document:" + key).encode()) % 50 == 0


def is_for_choosing(key: str) -> bool:
    """One of the other documents in sixty is kept from training with a pointer, to choose among its weights by."""
    return zlib.crc32(("choosing:" + key).encode()) % 60 == 0
