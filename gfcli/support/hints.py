"""What to do next at the command line about an error of the library, which knows no commands."""

from __future__ import annotations

import shlex

from gfcache import errors as cache
from gfcache import layout

from goldfinch import errors

_ROOM = "raise the cap (GF_CACHE_MAX_SIZE, cache.max_size), or unpin entries: gf cache ls --filter pinned=yes"
# Fields of the error stand in braces.
HINTS: dict[type[Exception], str] = {
    errors.FolderNamed: "its files: gf prefill -r {path}",
    errors.NothingFound: "gf prefill doc.txt, gf prefill -r docs/, or --files-from FILE",
    errors.OutputNeeded: "add -o NAME.gfc",
    errors.OutputTaken: "documents of one name in different folders: gf prefill -r FOLDER -o DIR/",
    errors.NoSuchFolder: "mkdir -p {folder}",
    errors.NotReplaced: "choose another output with -o, or replace it with --force",
    errors.NotACache: "choose another output with -o",
    errors.BaseWithoutPosition: (
        "pre-fill the base with checkpoints: gf prefill BASE --checkpoints {block_tokens} --force"
    ),
    errors.BaseTooShort: "put both texts into one document",
    errors.BaseTooDeep: "gf flatten makes a base that stands alone",
    errors.BaseUnverified: (
        "gf verify --replay 100% {path}, beside its document; or gf prefill --base {path} DOCUMENT, if you trust it"
    ),
    errors.BaseNotRecurrent: "gf model show",
    errors.SourceLost: "pre-fill the document again",
    errors.MadeRoom: _ROOM,
    errors.ModelChanged: "gf model set {path} adopts the change if it is yours; else import the model again",
    errors.NotItsDocument: "the cache is of another text than it says; pre-fill the document again",
    errors.NotVerified: "gf verify --replay 100% {path}, beside its document",
    cache.NotACacheFile: "gf prefill makes a cache from a text document",
    cache.UnsupportedVersion: "update gf, or pre-fill the document again with this version",
    cache.UnsupportedSection: "update gf, or pre-fill the document again with this version",
    cache.LenderMissing: "gf ask DOCUMENT makes it anew; gf cache export makes files that stand alone",
    cache.ParentMissing: "put the base cache back, or pre-fill the whole document without --base",
    cache.ParentChanged: "pre-fill this document again with --base, for the base cache was replaced",
    cache.NoRoom: _ROOM,
}
# By the rule of the format that a new cache would break.
_UNWRITABLE = {
    "R4": "keep fewer checkpoints, for instance --checkpoints auto",
    "R7": "give the document a name in UTF-8",
    "R9": "keep fewer checkpoints, for instance --checkpoints auto",
    "R16": "compute in another dtype (--dtype float32), or check the weights with gf model verify",
}


def hint_of(error: BaseException) -> str | None:
    """The error's own hint, else that of its class, else None."""
    own: str | None = getattr(error, "hint", None)
    if own is not None:
        return own
    if isinstance(error, cache.UnwritableCache):
        return _UNWRITABLE.get(error.rule)
    if isinstance(error, cache.NotACacheFile) and error.is_text:
        name = shlex.quote(error.path)
        if error.path.endswith(layout.SUFFIX):  # which names a cache, whatever the file holds
            return f'to ask it, pipe it: cat {name} | gf ask - "QUESTION"'
        return f'to ask it: gf ask {name} "QUESTION"'
    found = next((HINTS[kind] for kind in type(error).__mro__ if kind in HINTS), None)
    return None if found is None else found.format(**vars(error))
