"""What this user's own runs know of cache files, under the digest of each: so that a file is believed by what was done
with it here, not by what it says of itself.

The digest stands for all bytes of a file, so what is known holds wherever it is moved. Nothing in the record is needed:
a file that nobody knows is checked once more. No torch.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection
from pathlib import Path

import gfcache
from gfcache import Header, layout
from gfcache.files.places import user_folder
from gfcache.store.words import WordFile

from goldfinch.text.documents import Document
from goldfinch.text.tokenizer import Tokenizer
from goldfinch.weights.directory import ModelCard, read_card

from .opening import prompt_of, tokenizer_of

# What is known of a file, from the most to the least: made from its document by a run of this user; recomputed from
# it (gf verify --replay 100%) with the same result; the token ids are those of its document.
MADE, REPLAYED, COMPARED = "made", "replayed", "compared"
_RANKS = {COMPARED: 0, REPLAYED: 1, MADE: 2}
_RULES = "caches that a user's runs know, 1"


def _record() -> WordFile:
    return WordFile(user_folder("data", "gf") / "known.sqlite3", _RULES)


def how_known(digest: str | None) -> str | None:
    """MADE, REPLAYED or COMPARED; None for a file that nothing is known of."""
    return None if digest is None else known_of([digest]).get(digest)


def known_of(digests: Collection[str]) -> dict[str, str]:
    """What is known of several files; those that nothing is known of are left out."""
    with contextlib.suppress(OSError), _record() as record:
        found = {digest: data.decode(errors="replace") for digest, data in record.of(digests).items()}
        return {digest: how for digest, how in found.items() if how in _RANKS}
    return {}


def is_verified(digest: str | None) -> bool:
    """Whether all of a file is known to be what its model computes: made here, or replayed."""
    return how_known(digest) in (MADE, REPLAYED)


def note(digest: str | None, how: str) -> None:
    """Note what was done with a file; that more is known of it already stays. A record that takes nothing is none."""
    if digest is None or _RANKS[how] <= _RANKS.get(how_known(digest) or "", -1):
        return
    with contextlib.suppress(OSError), _record() as record:
        record.put({digest: how.encode()}, kept=False)


def note_same(digest: str | None, original: str | None) -> None:
    """Note of a file that it was made of nothing but another one: what is known of that holds of it."""
    how = how_known(original)
    if how is not None:
        note(digest, how)


def forget(digest: str | None) -> None:
    """Drop what is known of a file."""
    if digest is not None:
        with contextlib.suppress(OSError), _record() as record:
            record.forget([digest])


def holds_text(path: Path, header: Header, document: Document, card: ModelCard | None, *, end: bool = False) -> bool:
    """Whether a cache file is of this document: known, or by its token ids, which is noted then.

    Args:
        path, header: the file, its checksums verified.
        document: its source, as read now.
        card: of its model; without it, or without a tokenizer, nothing can be compared, and the file is believed.
        end: the text may be the end of a longer one, as in a file that was merged with its base.
    """
    believed = how_known(header.digest) is not None and not is_read_otherwise(header, document)
    if believed or card is None or card.tokenizer_file is None:
        return True
    same = has_token_ids_of(document.text, path, header, card, end=end)
    if same:
        note(header.digest, COMPARED)
    return same


def is_read_otherwise(header: Header, document: Document) -> bool:
    """Whether the bytes of a document were read otherwise when its cache was made: its text may differ."""
    noted = header.source or {}
    return any(noted.get(name) != document.source.get(name) for name in ("encoding", "prepared"))


def has_token_ids_of(text: str, path: Path, header: Header, card: ModelCard, *, end: bool = False) -> bool:
    """Whether the token ids of a file are those of a text; arguments as of `holds_text`."""
    try:
        tokenizer = _tokenizer(card.path, card.tokenizer_fingerprint)
        with gfcache.read_cache(path) as file:
            if file.header.digest != header.digest:  # it was replaced meanwhile
                return False
            ids = gfcache.whole_array(file, layout.TOKEN_IDS)[0].tolist()
        prompt, (start, _) = prompt_of(card, tokenizer, text)
        if ids == prompt:
            return True
        own = ids[header.template["document_start"] : header.template["document_end"]]
        return (end or header.parent is not None) and tokenizer.decode(own).endswith(tokenizer.decode(prompt[start:]))
    except Exception:  # ids of another vocabulary, a base that is gone: nothing that this text gave
        return False


@functools.lru_cache(maxsize=4)
def _tokenizer(directory: Path, fingerprint: str | None) -> Tokenizer:
    return tokenizer_of(read_card(directory))
