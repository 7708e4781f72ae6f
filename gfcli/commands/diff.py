"""gf diff: where two cache files differ. No torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfcli.support.console import printable
from gfcli.support.exits import CONDITION_NOT_MET, SCHEMA_VERSION

if TYPE_CHECKING:
    from gfcache import CacheFile

IDENTITY = (
    ("model", "prefill_fingerprint"),
    ("model", "model_fingerprint"),
    ("tokenizer", "fingerprint"),
    ("template", "prefix_fingerprint"),
)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="Cache file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Cache file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show where two cache files differ.

    Compares identity, tokens (and names the first that differs) and sections; time stamps and provenance do not count.
    Both files are verified first, bases included. Exit code 0 when they are equal, 10 when they differ, 6 when one is
    damaged.

    Examples:
      gf diff a.gfc b.gfc
      gf diff --json old.gfc new.gfc
    """
    import gfcache

    for path in (a, b):
        gfcache.verify_cache(path)
    with gfcache.read_cache(a) as one, gfcache.read_cache(b) as other:
        result = compare(one, other)
    print(json.dumps(result) if as_json else printable(_text(result), "\n"))
    if not result["equal"]:
        raise typer.Exit(CONDITION_NOT_MET)


def compare(a: CacheFile, b: CacheFile) -> dict[str, Any]:
    """What differs, in the words of docs/schemas/diff.json."""
    identity = [f"{part}.{name}" for part, name in IDENTITY if _value(a, part, name) != _value(b, part, name)]
    numerics = sorted(
        name
        for name in {*a.header.numerics, *b.header.numerics}
        if a.header.numerics.get(name) != b.header.numerics.get(name)
    )
    mine, theirs = ({s.name: s for s in file.header.sections} for file in (a, b))
    sections = sorted(set(mine) ^ set(theirs))
    for name in sorted(set(mine) & set(theirs)):
        one, other = mine[name], theirs[name]
        same_stored = one.sha256 == other.sha256 and one.codec == other.codec
        if (one.dtype, one.shape) != (other.dtype, other.shape) or not same_stored:
            sections.append(name)
    bases = [(file.header.parent or {}).get("digest") for file in (a, b)]
    if None not in bases and bases[0] != bases[1] and not _same_compressed_k(a, b):
        sections.append("compressed_k of the base")
    first = _first_divergent_token(a, b)
    return {
        "schema_version": SCHEMA_VERSION,
        "equal": not (identity or sections) and first is None,
        "tokens": [a.header.tokens, b.header.tokens],
        "first_divergent_token": first,
        "identity": identity,
        "numerics": numerics,
        "sections": sections,
    }


def _value(file: CacheFile, part: str, name: str) -> Any:
    return getattr(file.header, part).get(name)


def _same_compressed_k(a: CacheFile, b: CacheFile) -> bool:
    """Whether two caches with a base each hold the same compressed keys, the bases' part included."""
    import gfcache

    if not (a.header.of_kind("compressed_k") and b.header.of_kind("compressed_k")):
        return True  # the table says whether one of them has some
    (one, one_dtype), (other, other_dtype) = (gfcache.whole_array(file, "compressed_k") for file in (a, b))
    return one_dtype == other_dtype and one.tobytes() == other.tobytes()


def _first_divergent_token(a: CacheFile, b: CacheFile) -> int | None:
    """Position of the first token that differs or that only one has; None when the tokens are equal."""
    import gfcache

    one, other = (gfcache.whole_array(file, "token_ids")[0] for file in (a, b))
    n = min(len(one), len(other))
    differs = (one[:n] != other[:n]).nonzero()[0]
    if len(differs):
        return int(differs[0])
    return None if len(one) == len(other) else n


def _text(result: dict[str, Any]) -> str:
    if result["equal"]:
        return f"equal: {result['tokens'][0]:,} tokens" + (
            f"; computed with different {', '.join(result['numerics'])}" if result["numerics"] else ""
        )
    lines = [f"different: {name}" for name in result["identity"]]
    if result["first_divergent_token"] is not None:
        tokens = " and ".join(f"{n:,}" for n in result["tokens"])
        lines.append(f"tokens ({tokens}) differ from token {result['first_divergent_token']:,} on")
    lines += [f"numerics differ: {name}" for name in result["numerics"]]
    lines += [f"section differs: {name}" for name in result["sections"]]
    return "\n".join(lines)
