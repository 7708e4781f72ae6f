"""What one would write by hand to pre-fill documents: python -m bench.speed.plain_loop FOLDER DOCUMENT..."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import goldfinch


def main() -> None:
    """Read, tokenise, pre-fill and save one document after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the caches")
    parser.add_argument("documents", nargs="+")
    options = parser.parse_args()
    model = goldfinch.load_model()
    for name in options.documents:
        data = Path(name).read_bytes()
        ids, span = goldfinch.document_token_ids(model, data.decode())
        source = {"name": Path(name).name, "path": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        cache = goldfinch.prefill(model, ids, document_range=span, source=source)
        cache.save(options.folder / (Path(name).stem + ".gfc"))


if __name__ == "__main__":
    main()
