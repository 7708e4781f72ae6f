"""The documents of a `Scope`, opened to be searched as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfcache import Entry, Store

from goldfinch.jobs.sources import Source, find_sources
from goldfinch.library.find import (
    Collection,
    Member,
    Obstacle,
    Place,
    Texts,
    checked,
    members_of_files,
    members_of_library,
    members_of_texts,
    open_words,
)
from goldfinch.library.reach import Reach
from goldfinch.policies.named import HYBRID, INSTALL_VECTORS, LEXICAL
from goldfinch.policies.vectors import vectors_at_hand

from .cache_files import expand
from .console import console
from .exits import NOT_FOUND, CommandError
from .filters import filtered
from .options import model_card
from .progress import DocumentProgress
from .scope import Scope
from .store import open_store, say_index
from .tally import MOST_FAILURES_SHOWN, Failures
from .values import counted

SNIPPET_CHARACTERS = 160


@dataclass
class Searched:
    """Documents that are open to be searched.

    Attributes:
        store: the user's.
        collection: the documents.
        failures: those that cannot be searched, or did not answer.
    """

    store: Store
    collection: Collection
    failures: Failures
    _told: int = field(default=0, init=False)

    def tell(self, *, say: bool = True) -> list[dict[str, Any]]:
        """Name the documents that turned out not to be readable since the last call; their objects for JSON."""
        fresh = self.collection.obstacles[self._told :]
        self._told = len(self.collection.obstacles)
        return tell_obstacles(fresh, self.failures, say=say)


def tell_obstacles(obstacles: Sequence[Obstacle], failures: Failures, *, say: bool = True) -> list[dict[str, Any]]:
    """Note documents that cannot be searched; the first of them are named on stderr."""
    rows = []
    for obstacle in obstacles:
        named = say and len(failures) < MOST_FAILURES_SHOWN
        rows.append({"document": obstacle.name, "error": failures.note(obstacle.name, obstacle.error, say=named)})
    hidden = len(failures) - MOST_FAILURES_SHOWN
    if say and rows and hidden > 0:
        console.warn(f"{hidden} more documents cannot be searched")
    return rows


# Computes what the library lacks: from the documents, their SHA-256 by name, and where failures go, to the members.
Prefill = Callable[[Store, Sequence[Source], dict[str, str], Failures], list[Member]]


@contextmanager
def searched(
    scope: Scope,
    *,
    model: str | None = None,
    policy: str | None = None,
    prefill: Prefill | None = None,
    verified: bool = False,
) -> Iterator[Searched]:
    """The documents of a scope; what cannot be read of them is named.

    Args:
        model: whose tokenizer reads them where no model here has a name, and whose caches are meant in a library.
        policy: LEXICAL for words alone, HYBRID to compare by word vectors, too; None for what is installed.
        prefill: computes the caches that a folder's documents lack; None leaves them out, with a remark.
        verified: leave out caches that no run of this user made or replayed.

    Raises:
        CommandError: exit 4 when there is no document.
        typer.Exit: exit 3 when none of them can be searched.
    """
    scope.check()
    if policy == HYBRID and not vectors_at_hand():
        raise CommandError("the word vectors are not installed", hint=f"{INSTALL_VECTORS}, or --read lexical")
    failures, card = Failures(), None if model is None else model_card(model)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(keep_cap=prefill is not None))
        entries: list[Entry] | None = None
        if scope.caches:
            members, obstacles = members_of_files(map(Path, expand(scope.caches)))
        elif scope.folder is not None:
            members, obstacles = _of_folder(store, scope, failures, prefill), []
        else:
            entries = store.entries()
            wanted = [e for e in filtered(entries, scope.filters) if card is None or e.model == card.name]
            members, obstacles = members_of_library(store, wanted)
        say_index(store)
        reach = Reach([*scope.caches, *([] if scope.folder is None else [scope.folder])])
        members, others = checked(members, verified=verified, reach=reach)
        tell_obstacles([*obstacles, *others], failures)
        if not members and not failures:
            raise CommandError(_nothing(scope), code=NOT_FOUND, hint="gf prefill --library -r FOLDER fills the library")
        words = stack.enter_context(open_words(store, entries))
        progress = stack.enter_context(DocumentProgress("finding words"))
        by_likeness = None if policy is None else policy != LEXICAL
        collection = Collection(
            members, words, Texts(card), in_store=not scope.caches, by_likeness=by_likeness, progress=progress
        )
        progress.end()
        found = Searched(store, collection, failures)
        found.tell()
        if not collection.members:
            failures.end()
        console.detail(f"{counted(len(collection.members), 'document')} searched, {policy_of(collection)}")
        yield found


def policy_of(collection: Collection) -> str:
    """The name of what a search follows."""
    return HYBRID if collection.by_likeness else LEXICAL


def _nothing(scope: Scope) -> str:
    if scope.folder is not None:
        return f"no document below {scope.folder} is cached"
    return "no cache of the library meets the conditions" if scope.filters else "the library is empty"


def _of_folder(store: Store, scope: Scope, failures: Failures, prefill: Prefill | None) -> list[Member]:
    folder = scope.folder or "."
    found = find_sources([folder], recursive=True, reading=scope.reading, only=scope.only)
    for name in found.skipped:
        console.detail(f"{name}: skipped, not plain text")
    sources, texts = list[Source](), dict[str, str]()
    for source in found.documents:
        try:
            texts[source.name] = source.read().source["sha256"]
            sources.append(source)
        except Exception as error:
            if source.is_passed_over(error):
                console.detail(f"{source.name}: skipped: {error}")
            else:
                failures.note(source.name, error)
    if prefill is not None:
        return prefill(store, sources, texts, failures)
    members, missing = members_of_texts(store, store.entries(), texts)
    if missing:
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        console.warn(f"{not_cached(len(missing), len(texts))}: {some}")
        console.say(f"gf prefill --library -r {folder} makes them searchable")
    return members


def not_cached(missing: int, documents: int) -> str:
    """How many of some documents are not cached as they are."""
    verb = "is not cached as it is now" if missing == 1 else "are not cached as they are now"
    return f"{missing} of {counted(documents, 'document')} {verb}"


def snippet(place: Place, question: str) -> str:
    """The sentence of a block that shares most words with a question, on one line."""
    from goldfinch.policies.blocks import sentences_of
    from goldfinch.policies.words import words_of

    asked = set(words_of(question))
    best = max(sentences_of(place.text), key=lambda sentence: len(asked & set(words_of(sentence))))
    line = " ".join(best.split())
    return line if len(line) <= SNIPPET_CHARACTERS else line[: SNIPPET_CHARACTERS - 3] + "..."
