"""What to do next at the command line about an error of the library, which knows no commands."""

from __future__ import annotations

from goldfinch import errors

# Fields of the error stand in braces.
HINTS: dict[type[errors.GoldFinchError], str] = {
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
    errors.BaseNotRecurrent: "gf model show",
}


def hint_of(error: BaseException) -> str | None:
    """The error's own hint, else that of its class, else None."""
    own: str | None = getattr(error, "hint", None)
    if own is not None:
        return own
    found = next((HINTS[kind] for kind in type(error).__mro__ if kind in HINTS), None)
    return None if found is None else found.format(**vars(error))
