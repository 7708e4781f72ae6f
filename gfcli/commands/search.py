"""gf search: places in many documents, without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfcli.support.answers import shown_lines
from gfcli.support.console import console
from gfcli.support.documents import chosen_files, clean_text, reading_of
from gfcli.support.exits import NOT_FOUND, SCHEMA_VERSION, CommandError
from gfcli.support.options import (
    ExcludeOption,
    ExtensionOption,
    IncludeOption,
    ModelOption,
    QuietOption,
    RequireVerifiedOption,
    VerboseOption,
)
from gfcli.support.scope import MOST_RESULTS, FilterOption, LibraryOption, RecursiveOption, Scope
from gfcli.support.settings import value as setting

if TYPE_CHECKING:
    from goldfinch.library.find import Place


def search(
    first: Annotated[str, typer.Argument(metavar="WORDS|FOLDER", help="What to look for; with -r, the folder.")],
    second: Annotated[str | None, typer.Argument(metavar="WORDS", help="With -r: what to look for.")] = None,
    recursive: RecursiveOption = False,
    exclude: ExcludeOption = None,
    include: IncludeOption = None,
    extensions: ExtensionOption = None,
    library: LibraryOption = False,
    filters: FilterOption = None,
    cache: Annotated[
        list[str] | None,
        typer.Option("--cache", metavar="FILE", help="Cache file, or quoted pattern of several; may be repeated."),
    ] = None,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, max=MOST_RESULTS, metavar="N", help="Show at most N places.")
    ] = 10,
    model: ModelOption = None,
    require_verified: RequireVerifiedOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per place.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Find places in cached documents.

    Lists the blocks (a paragraph or so) that fit the words best: document, lines, score and the sentence that shares
    most words. It searches the library; with -r the documents of a folder that are cached there, with --cache any cache
    files. No model is loaded, only its tokenizer. What gf ask answers from with -r, --library or --cache is found in
    the same way.

    Examples:
      gf search "who signed the treaty"
      gf search -r kb/ "late payment" --limit 3
      gf search --cache 'kb/*.gfc' --json "late payment"
    """
    console.quiet, console.verbose = quiet, verbose
    if recursive != (second is not None):
        raise CommandError(
            "-r takes a folder and the words" if recursive else f"{second!r}: one search at a time",
            hint='gf search -r kb/ "WORDS"' if recursive else 'quote the words: gf search "late payment"',
        )
    words = clean_text(first if second is None else second)
    if not words.strip():
        raise CommandError("there are no words to look for", hint='gf search "late payment"')
    # Without -r or --cache it is the library that is meant.
    reading = reading_of(setting("encoding"), setting("verbatim"), setting("skip_blobs"))
    folder, in_library = first if recursive else None, library or not (recursive or cache)
    only = chosen_files(recursive, exclude, include, extensions)
    scope = Scope(folder, in_library, filters or (), cache or (), reading, only)
    from gfcli.support.collection import policy_of, searched

    with searched(scope, model=model, verified=require_verified) as found:
        places = found.collection.search(words, limit)
        found.tell()
        if as_json:
            rows = [_json(place, words) for place in places]
            console.json(
                {
                    "schema_version": SCHEMA_VERSION,
                    "words": words,
                    "policy": policy_of(found.collection),
                    "documents": len(found.collection.members),
                    "places": rows,
                }
            )
        for place in () if as_json else places:
            if jsonl:
                console.json({"schema_version": SCHEMA_VERSION} | _json(place, words))
            else:
                row = _json(place, words)
                console.line(f"{row['document']}, {shown_lines(row)}, score {row['score']:.2f}")
                console.line(f"    {row['snippet']}")
        if not places and not as_json:
            raise CommandError(f"none of these words is in {_of(len(found.collection.members))}", code=NOT_FOUND)
        found.failures.end()


def _json(place: Place, words: str) -> dict[str, Any]:
    """One place; JSON Schema: docs/schemas/search.json."""
    from gfcli.support.collection import snippet

    return {
        "document": place.member.name,
        "cache": str(place.member.path),
        "first_line": place.found.first_line,
        "last_line": place.found.last_line,
        "score": round(place.found.score, 4),
        "snippet": snippet(place, words),
    }


def _of(documents: int) -> str:
    return "the one document searched" if documents == 1 else f"the {documents:,} documents searched"
