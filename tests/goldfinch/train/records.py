"""Small corpora for tests."""

from __future__ import annotations

import io
import json
from pathlib import Path

import zstandard


def write_records(path: Path, records: list[dict[str, object]]) -> None:
    stream = io.StringIO()
    for record in records:
        stream.write(json.dumps(record) + "\n")
    path.write_bytes(zstandard.compress(stream.getvalue().encode()))
