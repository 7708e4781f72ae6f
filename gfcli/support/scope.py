"""Options that name many documents at once: a folder, the library, or cache files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from goldfinch.jobs.selection import Selection
from goldfinch.text.documents import USUAL, Reading

from .exits import CommandError
from .filters import FILTER_HELP

MOST_RESULTS = 50

RecursiveOption = Annotated[
    bool, typer.Option("-r", "--recursive", help="The first argument is a folder, whose text files are meant.")
]
LibraryOption = Annotated[bool, typer.Option("--library", help="Find the answer in the documents of the library.")]
FilterOption = Annotated[
    list[str] | None,
    typer.Option("-f", "--filter", metavar="CONDITION", help=f"With --library: only caches with {FILTER_HELP}."),
]


@dataclass(frozen=True)
class Scope:
    """Which documents are searched.

    Attributes:
        folder: a folder or pattern whose text files are meant, or None.
        library: those of the library.
        filters: conditions on them.
        caches: cache files, and patterns of them.
        reading: how text files of the folder become text.
        only: which files of the folder are meant; None for all.
    """

    folder: str | None = None
    library: bool = False
    filters: Sequence[str] = ()
    caches: Sequence[str] = ()
    reading: Reading = USUAL
    only: Selection | None = None

    def check(self) -> None:
        """Refuse what cannot be given together.

        Raises:
            CommandError: exit 2.
        """
        given = [bool(self.folder), self.library, bool(self.caches)]
        if sum(given) > 1:
            raise CommandError("-r, --library and --cache do not go together", hint="choose one of them")
        if self.filters and not self.library:
            raise CommandError("--filter belongs to --library", hint="add --library")
