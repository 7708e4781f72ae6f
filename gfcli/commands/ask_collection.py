"""gf ask with -r, --library or several cache files: one question to many documents."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from gfcache import Store

from gfcli.support.answers import How, answer_question, answer_values, shown_blocks
from gfcli.support.collection import Searched, not_cached, policy_of, searched
from gfcli.support.console import console
from gfcli.support.documents import question_of
from gfcli.support.events import Teller, say_outcome
from gfcli.support.exits import CONDITION_NOT_MET, NOT_FOUND, SCHEMA_VERSION, CommandError
from gfcli.support.options import journal_seconds, model_card, numerics_allowed
from gfcli.support.progress import BatchProgress
from gfcli.support.prompt import prompt
from gfcli.support.scope import Scope
from gfcli.support.sessions import Options, cache_session
from gfcli.support.tally import Failures
from gfcli.support.values import FILE_DTYPES, counted
from goldfinch.jobs.events import Begun, Failed, PassedOver, Written
from goldfinch.jobs.sources import Source, Sources
from goldfinch.library.find import Member, Place, members_of_texts, unique
from goldfinch.library.library import Library, card_identity
from goldfinch.library.opening import LazyModel
from goldfinch.policies.named import ALL, ATTENTION, AUTO


def ask_collection(scope: Scope, question: str | None, how: How, options: Options, top: int) -> None:
    """The whole command; see `gf ask --help`.

    Args:
        question: None for stdin, or for a prompt in a terminal.
        top: how many documents answer.

    Raises:
        typer.Exit: exit 3 when a document could not be searched or asked, and the others were.
        CommandError: nothing to ask, nothing found.
    """
    if how.raw:
        raise CommandError("--raw with several documents", hint="name the document whose text is to go on")
    interactive = question is None and sys.stdin.isatty()
    asked = None if interactive else question_of(question)
    policy = None if how.read in (AUTO, ALL, ATTENTION) else str(how.read)
    computing = _Computing(options)
    with searched(
        scope, model=options.model, policy=policy, prefill=computing, verified=options.require_verified
    ) as found:
        if asked is None:
            documents = counted(len(found.collection.members), "document")
            greeting = f"{documents}. /help shows what can be typed; exit or Ctrl-D ends."
            prompt(lambda text: _answer(found, text, how, options, top), greeting, how.toggle_cite)
            return
        _answer(found, asked, how, options, top)
        found.failures.end()


class _Computing:
    """Pre-fills the documents of a folder that the library lacks as they are now."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __call__(
        self, store: Store, sources: Sequence[Source], texts: dict[str, str], failures: Failures
    ) -> list[Member]:
        options = self._options
        card = model_card(options.model)
        device, dtypes = numerics_allowed(options.models.device, options.models.dtype, card)
        found = [members_of_texts(store, store.entries(), texts, card_identity(card, FILE_DTYPES[n])) for n in dtypes]
        # Documents all cached in another dtype are asked in it; else what is missing is computed in the first.
        members, missing = next((one for one in found if not one[1]), found[0])
        if not missing:
            return members
        dtype = dtypes[0]
        if options.require_cached:
            raise CommandError(
                f"{not_cached(len(missing), len(texts))}: {missing[0]}",
                code=CONDITION_NOT_MET,
                hint="without --require-cached they are pre-filled",
            )
        model = LazyModel(card, device, FILE_DTYPES[dtype], lambda: options.models(str(card.path), FILE_DTYPES[dtype]))
        made = _prefill(store, model, [source for source in sources if source.name in set(missing)], failures)
        digests = {store.path(entry): entry.digest for entry in store.entries()}
        rest = [Member(path, name, digests[path]) for name, path in made.items() if path in digests]
        return unique([*members, *rest])


def _prefill(store: Store, model: LazyModel, sources: list[Source], failures: Failures) -> dict[str, Path]:
    """Bring the caches of documents into the library; where they are, by name, as far as they did not fail."""
    from goldfinch.jobs.batch import Batch
    from goldfinch.jobs.destinations import Plan

    made = dict[str, Path]()
    library = Library(store, journal_s=journal_seconds())
    with BatchProgress(Sources(sources, [])) as overall, Teller(overall, store) as tell:
        batch = Batch(model, Plan(journal_s=journal_seconds()), library=library, tell=tell)
        with closing(batch.events(sources)) as events:
            for event in events:
                match event:
                    case Begun():
                        overall.begin(event.source)
                    case Failed():
                        made.pop(event.source.name, None)
                        failures.note(event.source.name, event.error)
                    case Written() | PassedOver():
                        made[event.source.name] = event.report.path
                        say_outcome(event)
    return made


def _answer(found: Searched, question: str, how: How, options: Options, top: int) -> None:
    """Answer from the best documents, as many as are asked for; one that cannot is named, and the next one does."""
    rows, matched = list[dict[str, Any]](), False
    for places in found.collection.documents(question):
        matched = True
        try:
            rows.append(_answer_one(found, places, question, how, options))
        except Exception as error:  # of one document: the others are asked
            found.failures.note(places[0].member.name, error)
        if len(rows) == top:
            break
    found.tell()
    if not matched:
        documents = counted(len(found.collection.members), "document")
        raise CommandError(f"no word of the question is in {documents}", code=NOT_FOUND)
    if how.as_json:
        console.json({"schema_version": SCHEMA_VERSION, "question": question, "answers": rows})


def _answer_one(found: Searched, places: Sequence[Place], question: str, how: How, options: Options) -> dict[str, Any]:
    """Answer from one document, on stdout unless as JSON."""
    from goldfinch.policies.base import Chosen

    member = places[0].member
    blocks = tuple(place.found for place in places[: how.read_blocks or 1])
    own = how.read in (ALL, ATTENTION)  # words find the document, and not what is read of it
    read = how.read if own else Chosen(policy_of(found.collection), blocks)
    one = replace(how, read=read, read_blocks=how.read_blocks if own else None, document=member.name)
    started = time.perf_counter()
    session = cache_session(str(member.path), one, options)
    one.load_s = time.perf_counter() - started
    if found.store.folder in member.path.parents:
        found.store.used(member.path, hit=True)
    if how.as_json:
        values = answer_values(session, question, one)
        del values["schema_version"]
        return {"answer": values.pop("answer"), "document": member.name, "cache": str(member.path), **values}
    answer_question(session, question, one)
    console.line(f"  [{member.name}{shown_blocks(session.last_usage)}]")
    return {}
