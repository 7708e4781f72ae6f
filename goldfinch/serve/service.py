"""What a server does, without HTTP: find the document of a request, make and remove caches, count."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goldfinch.library.library import Library
from goldfinch.library.opening import Model
from goldfinch.text.documents import Document, document_of_bytes, read_document

from . import openai
from .refused import Refused
from .scheduler import Done, Scheduler
from .shelf import Shelf, Shelved, find, of_text

MOST_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class Making:
    """How caches are made for clients.

    Attributes:
        library: opened anew for each document.
        model: loads the model that pre-fills.
        root: below which clients may name files; None for nowhere.
    """

    library: Callable[[], Library]
    model: Callable[[], Model]
    root: Path | None = None


@dataclass
class Counts:
    """What was done so far, as /metrics gives it."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)

    def note(self, done: Done) -> None:
        """Count an answer in."""
        usage = done.answer.usage
        self.totals["answers"] += 1
        self.totals["cached_tokens"] += usage.document_tokens_cached
        self.totals["question_tokens"] += usage.question_tokens
        self.totals["generated_tokens"] += usage.generated_tokens
        self.totals["first_token_seconds"] += done.first_token_s  # type: ignore[assignment]
        self.totals["load_seconds"] += done.load_s  # type: ignore[assignment]


class Service:
    """Documents, and what computes.

    Args:
        shelf: the documents.
        scheduler: that computes; started and stopped by whoever made it.
        model: name of the model that answers whatever cache is asked, None for the one that made each.
        making: how caches are made, None where they are not.
    """

    def __init__(self, shelf: Shelf, scheduler: Scheduler, *, model: str | None = None, making: Making | None = None):
        self.shelf, self.scheduler, self.model, self.making = shelf, scheduler, model, making
        self.counts = Counts()

    def document(self, asked: openai.Asked, documents: Sequence[Shelved]) -> Shelved:
        """The cached document that a request is about.

        Raises:
            Refused: 404, none of that name; 409, one of another model; 400, none is meant.
        """
        found = of_text(documents, asked.digests) if asked.named is None else find(documents, *asked.named)
        if found is None and len(documents) == 1:
            found = documents[0]
        if found is None:
            raise Refused(
                400, "the request names no cached document", code="no_cache", param="prompt_cache_key",
                hint='name one in "prompt_cache_key", in "cache", or as the model "MODEL/NAME"; GET /v1/caches lists '
                "them; POST /v1/caches makes one of a text",
            )  # fmt: skip
        self._check_model(asked.model, found, documents)
        return found

    def answering(self, document: Shelved) -> str:
        """The name of the model that answers from a document."""
        return self.model or document.model or "unnamed"

    def _check_model(self, name: str | None, document: Shelved, documents: Sequence[Shelved]) -> None:
        if name is None or name == self.answering(document):
            return
        if name in {self.answering(one) for one in documents}:
            message = f"{document.name} belongs to the model {self.answering(document)!r}, not to {name!r:.200}"
            raise Refused(409, message, code="cache_mismatch", param="model")
        message, hint = f"there is no model called {name!r:.200}", f"there is {self.answering(document)!r}"
        raise Refused(404, message, code="model_not_found", param="model", hint=hint)

    def wanted(self, body: dict[str, Any]) -> Document:
        """The document that a request to make a cache brings, or names.

        Raises:
            Refused: 400, 403.
            the errors of `read_document`.
        """
        if self.making is None:
            hint = "gf serve --library makes and removes caches"
            raise Refused(409, "this server answers from files of the user's", code="not_made", hint=hint)
        text, path, name = body.get("text"), body.get("path"), body.get("name")
        if (text is None) == (path is None):
            raise Refused(400, 'either "text" or "path"', code="invalid_value", param="text")
        if path is not None:
            return read_document(self._below_root(path))
        if not isinstance(text, str):
            raise Refused(400, "text must be a text", code="invalid_value", param="text")
        if name is not None and not _is_name(name):
            allowed = f"up to {MOST_NAME_CHARACTERS} printable characters"
            raise Refused(400, f"name must be a text of {allowed}", code="invalid_value", param="name")
        return document_of_bytes(text.encode(errors="replace"), name or "document")

    def _below_root(self, path: object) -> Path:
        root = None if self.making is None else self.making.root
        if root is None:
            hint = "gf serve --root FOLDER lets clients name files below it; send the text instead"
            raise Refused(403, "clients may name no files here", code="no_root", param="path", hint=hint)
        if not isinstance(path, str) or "\0" in path:
            raise Refused(400, "path must be a text", code="invalid_value", param="path")
        top = Path(os.path.realpath(root))
        place = Path(os.path.realpath(top / path))
        if not place.is_relative_to(top):
            raise Refused(403, "path leads out of the folder that clients may read", code="not_below", param="path")
        if not place.is_file():
            raise Refused(404, f"there is no file {path!r:.200}", code="file_not_found", param="path")
        return place

    def make(self, document: Document, turn: Callable[[], None]) -> dict[str, Any]:
        """Pre-fill a document unless it is cached; for the computing thread.

        Args:
            turn: called now and then, so that others go on.
        """
        assert self.making is not None
        with self.making.library() as library:
            kept = library.get(self.making.model(), document, progress=lambda done, total: turn())
        if kept.path is None:
            raise kept.obstacle or Refused(503, "the cache was not kept", code="not_written")
        made = next((one for one in self.shelf.documents() if one.path == kept.path), None)
        if made is None:
            raise Refused(503, "the cache was removed again for others", code="no_room", hint="raise the library's cap")
        return described(made) | {"cache_write_tokens": kept.tokens_computed}

    def text(self, document: Shelved) -> str:
        """The text of a cached document, as the model read it; for the computing thread."""
        held = self.scheduler.sessions.open(document)
        return str(held.engine.tokenizer.decode(held.session.cache.own_token_ids.tolist()))

    def remove(self, document: Shelved) -> None:
        """Remove a document; for the computing thread."""
        if self.making is None:
            raise Refused(409, "these caches are files of the user's", code="cache_kept", param="name")
        self.shelf.remove(document)
        self.scheduler.sessions.close(document)

    def metrics(self) -> str:
        """Counts in the text format of Prometheus."""
        lines = []
        for name, value in sorted(self.counts.totals.items()):
            lines += [f"# TYPE gf_{name}_total counter", f"gf_{name}_total {value}"]
        lines.append("# TYPE gf_requests_total counter")
        for (route, status), count in sorted(self.counts.requests.items()):
            lines.append(f'gf_requests_total{{route="{route}",status="{status}"}} {count}')
        scheduler = self.scheduler
        gauges = {
            "open_caches": len(scheduler.sessions),
            "open_bytes": scheduler.sessions.bytes,
            "waiting": scheduler.waiting,
            "running": scheduler.running,
        }
        for name, value in gauges.items():
            lines += [f"# TYPE gf_{name} gauge", f"gf_{name} {value}"]
        return "\n".join(lines) + "\n"


def described(document: Shelved) -> dict[str, Any]:
    """A document as /v1/caches gives it."""
    return {
        "object": "cache",
        "id": document.name,
        "digest": document.digest,
        "model": document.model,
        "tokens": document.tokens,
        "bytes": document.bytes,
    }


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MOST_NAME_CHARACTERS and name.isprintable() and bool(name.strip())
