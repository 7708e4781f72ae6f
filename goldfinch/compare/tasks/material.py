"""What documents are made of: held-out texts of the data folder, or a text of gf's own where there is no folder."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

from goldfinch.datasets.articles import Passage, read_articles
from goldfinch.datasets.corpora import is_held_out_document, read_records
from goldfinch.datasets.facts import harvest_names
from goldfinch.evaluate.held_out import (
    BOOKS,
    ENCYCLOPEDIA,
    SPEECHES,
    held_out_articles,
    held_out_novels,
    held_out_texts,
)
from goldfinch.evaluate.policies import NAMES, TEXT

# Modules of Python's library that are long enough to hold a document, by their size.
_LEAST_MODULE_BYTES = 20_000
_MOST_MODULE_BYTES = 1 << 20


class Material:
    """Texts by their purpose.

    Args:
        directory: the data folder, as `gf eval` reads it; None for none.
    """

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory

    def has(self, corpora: Sequence[str]) -> str | None:
        """The first of these corpora that is missing; None where all are there."""
        return next((name for name in corpora if not self._has(name)), None)

    def _has(self, name: str) -> bool:
        return self.directory is not None and (self.directory / f"{name}.jsonl.zst").is_file()

    @property
    def _folder(self) -> Path:
        assert self.directory is not None
        return self.directory

    @cached_property
    def texts(self) -> list[str]:
        """Prose to hide things in: held-out texts of the encyclopedia, else the Constitution of the United States."""
        if self.has(ENCYCLOPEDIA) is None and (found := held_out_texts(self._folder)):
            return found
        return [(TEXT / "constitution.txt").read_text(encoding="utf-8")]

    @cached_property
    def names(self) -> list[str]:
        """Names for planted facts, never read in training."""
        found = harvest_names(self.texts, held_out=True) if self.has(ENCYCLOPEDIA) is None else []
        return found if len(found) >= len(NAMES) else list(NAMES)

    @cached_property
    def books(self) -> list[str]:
        """Long texts to predict: held-out novels, else the prose."""
        return (held_out_novels(self._folder) if self.has(BOOKS) is None else []) or self.texts

    @cached_property
    def articles(self) -> list[list[Passage]]:
        """Held-out articles with questions, as their paragraphs."""
        return read_articles(self._folder, held_out_articles(self._folder).__contains__)

    @cached_property
    def kinds(self) -> dict[str, list[str]]:
        """Held-out texts by what kind of text they are."""
        speeches = [
            record["text"]
            for record in read_records(self._folder / f"{BOOKS[0]}.jsonl.zst")
            if record.get("source") == SPEECHES and is_held_out_document(record["title"])
        ]
        found = {"encyclopedia": self.texts, "novel": held_out_novels(self._folder), "speech": speeches}
        return {kind: texts for kind, texts in found.items() if texts}

    @cached_property
    def modules(self) -> list[str]:
        """Source of Python's library, in the order of its names."""
        folder = Path(sysconfig.get_path("stdlib"))
        paths = (path for path in sorted(folder.glob("*.py")) if path.is_file())
        sized = (path for path in paths if _LEAST_MODULE_BYTES <= path.stat().st_size <= _MOST_MODULE_BYTES)
        return [path.read_text(encoding="utf-8", errors="replace") for path in sized]

    def fingerprint(self, corpora: Sequence[str]) -> str:
        """SHA-256 of what documents are made of, 16 digits: those corpora, the prose and Python's version."""
        files = [name for name in dict.fromkeys((*corpora, *ENCYCLOPEDIA, *BOOKS)) if self._has(name)]
        digests = [f"{name} {_digest(self._folder / f'{name}.jsonl.zst')}" for name in files]
        return hashlib.sha256("\n".join([sys.version.split()[0], *digests]).encode()).hexdigest()[:16]


@cache
def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
