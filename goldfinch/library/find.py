"""Many cached documents, searched as one: which blocks of which of them fit a question. No model is loaded.

What the words of each cache are is kept in the user's store (`gfcache.store.words`) under the digest of the cache, for
those of the library and for any others: it is added when it is missing, and only orders what is read from the caches
afterwards. The text of a block is decoded from the token ids of its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gfcache
from gfcache import Entry, Store, layout
from gfcache.store.words import WordFile

from goldfinch.errors import TokenizerError
from goldfinch.policies.base import DocumentIndex, Found
from goldfinch.policies.blocks import map_tokens
from goldfinch.policies.collection import CANDIDATES, BlockWords, Candidate, CollectionIndex, compared, rules
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.text.tokenizer import Tokenizer
from goldfinch.weights.directory import ModelCard, find_tokenizer

from .known import known_of

# Rows are written so many at a time: an interrupted run begins again behind them.
_AT_ONCE = 64
# Called with (documents done, of how many) while words are found.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Member:
    """A cached document among those that are searched.

    Attributes:
        path: its cache file.
        name: of the document, for people.
        digest: of the cache file.
    """

    path: Path
    name: str
    digest: str


@dataclass(frozen=True)
class Obstacle:
    """A document that cannot be searched: its name, and why."""

    name: str
    error: Exception


@dataclass(frozen=True)
class Place:
    """A block that fits a question.

    Attributes:
        member: the document.
        found: the block; its score is comparable within one question.
        text: of the block, its heading rows first.
    """

    member: Member
    found: Found
    text: str


def members_of_library(store: Store, entries: Iterable[Entry]) -> tuple[list[Member], list[Obstacle]]:
    """The documents of a library: each text once, from the cache that was used last."""
    members, obstacles, seen = list[Member](), list[Obstacle](), set[str]()
    for entry in sorted(entries, key=lambda e: (-e.last_used, e.name)):
        name = entry.source_path or entry.source_name or entry.id
        if entry.error is not None:
            obstacles.append(Obstacle(name, gfcache.CacheFormatError(store.path(entry), entry.error)))
        elif (entry.source_sha256 or entry.digest) not in seen:
            seen.add(entry.source_sha256 or entry.digest)
            members.append(Member(store.path(entry), name, entry.digest))
    return sorted(members, key=_order), obstacles


def members_of_files(paths: Iterable[Path]) -> tuple[list[Member], list[Obstacle]]:
    """The documents of cache files, each once."""
    members, obstacles = dict[str, Member](), list[Obstacle]()
    for path in paths:
        try:
            with gfcache.read_cache(path) as file:
                source, digest = file.header.source or {}, file.header.digest
        except (OSError, gfcache.CacheFormatError) as error:
            obstacles.append(Obstacle(str(path), error))
            continue
        members.setdefault(digest, Member(path, source.get("path") or source.get("name") or str(path), digest))
    return sorted(members.values(), key=_order), obstacles


def members_of_texts(
    store: Store, entries: Sequence[Entry], texts: Mapping[str, str], identity: str | None = None
) -> tuple[list[Member], list[str]]:
    """The documents of a library that hold given texts, each under the name given, and the names of those it lacks.

    A cache that no run of this user knows may hold any text, whatever it says of its source: it counts as lacking.

    Args:
        texts: SHA-256 of each text, by name.
        identity: of the caches wanted (`gfcache.identity_key`); None takes those of any model.
    """
    known, held = known_of([entry.digest for entry in entries if entry.digest]), dict[str, Entry]()
    for entry in sorted(entries, key=lambda e: (e.last_used, e.name)):
        if entry.digest in known and entry.source_sha256 and identity in (None, entry.identity):
            held[entry.source_sha256] = entry
    found = [
        Member(store.path(held[sha256]), name, held[sha256].digest) for name, sha256 in texts.items() if sha256 in held
    ]
    return unique(found), [name for name, sha256 in texts.items() if sha256 not in held]


def unique(members: Iterable[Member]) -> list[Member]:
    """Each cache once, under the first of its names, in the order that decides between equals."""
    first = {member.digest: member for member in sorted(members, key=_order, reverse=True)}
    return sorted(first.values(), key=_order)


def _order(member: Member) -> tuple[str, str]:
    return member.name, str(member.path)


class Texts:
    """The texts of cached documents, and the tokenizers that decode them.

    Args:
        card: of a model to look at before those that have a name here; None for none.
    """

    def __init__(self, card: ModelCard | None = None) -> None:
        self._card = card
        self._tokenizers: dict[str | None, Tokenizer] = {}

    def index(self, member: Member) -> DocumentIndex:
        """A document cut into blocks.

        Raises:
            OSError, gfcache.CacheFormatError: its cache cannot be read, or is another one now.
            TokenizerError: no model here has its tokenizer.
        """
        with gfcache.read_cache(member.path) as file:
            header = file.header
            if header.digest != member.digest:
                raise gfcache.CacheFormatError(member.path, "this cache was replaced meanwhile: ask again")
            start, end = header.template["document_start"], header.template["document_end"]
            ids, _ = gfcache.whole_array(file, layout.TOKEN_IDS)
        tokenizer = self._tokenizer(header.tokenizer.get("fingerprint"))
        return DocumentIndex(map_tokens(tokenizer, ids[start:end].tolist()))

    def _tokenizer(self, fingerprint: str | None) -> Tokenizer:
        if fingerprint not in self._tokenizers:
            if fingerprint is None:
                raise TokenizerError("this cache was made of token ids alone: it has no text to search")
            self._tokenizers[fingerprint] = find_tokenizer(fingerprint, self._card)
        return self._tokenizers[fingerprint]


class Collection:
    """Cached documents that are searched as one.

    Args:
        members: the documents, in an order that decides between equals.
        words: what is known of their words; what is missing is added.
        texts: where they come from.
        in_store: the members are in the store; what is kept of their words goes with them.
        by_likeness: compare the best blocks by word vectors, too; by default where these are installed.
        progress: called while words are found.

    Attributes:
        members: those that can be searched.
        obstacles: the others.
        by_likeness: as it was asked for.
    """

    def __init__(
        self,
        members: Sequence[Member],
        words: WordFile,
        texts: Texts,
        *,
        in_store: bool = False,
        by_likeness: bool | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.obstacles: list[Obstacle] = []
        self.by_likeness = vectors_at_hand() if by_likeness is None else by_likeness
        self._words, self._texts = words, texts
        self._indexes: dict[str, DocumentIndex] = {}
        known = self._known(members)
        missing = [member for member in members if member.digest not in known]
        known |= self._learn(missing, in_store, progress)
        self.members = [member for member in members if member.digest in known]
        self._index = CollectionIndex([known[member.digest] for member in self.members])

    def _known(self, members: Sequence[Member]) -> dict[str, BlockWords]:
        found: dict[str, BlockWords] = {}
        for digest, data in self._words.of([member.digest for member in members]).items():
            try:
                found[digest] = BlockWords.unpack(data)
            except ValueError:  # damaged, or put there by somebody: found again
                continue
        return found

    def _learn(self, members: Sequence[Member], in_store: bool, progress: Progress | None) -> dict[str, BlockWords]:
        learned, rows = dict[str, BlockWords](), dict[str, bytes]()
        try:
            for n, member in enumerate(members):
                if progress is not None:
                    progress(n, len(members))
                try:
                    found = BlockWords.of(self._texts.index(member).texts)
                except Exception as error:  # of one document: the others are searched
                    self.obstacles.append(Obstacle(member.name, error))
                    continue
                learned[member.digest] = found
                rows[member.digest] = found.pack()
                if len(rows) == _AT_ONCE:
                    self._words.put(rows, kept=in_store)
                    rows = {}
        finally:
            self._words.put(rows, kept=in_store)
        if progress is not None and members:
            progress(len(members), len(members))
        return learned

    def search(self, question: str, most: int) -> list[Place]:
        """The best blocks of all documents, best first; none where no word of the question occurs.

        A document that cannot be read any more is added to `obstacles`, and has no place.
        """
        places = list[Place]()
        for candidate in self._index.best(question, max(most, CANDIDATES)):
            place = self._place(candidate)
            if place is not None:
                places.append(place)
                if len(places) >= most and not self.by_likeness:
                    break
        if self.by_likeness and places:
            scores = compared(question, [p.text for p in places], [p.found.score for p in places])
            order = (-scores).argsort(kind="stable")
            places = [_scored(places[n], float(scores[n])) for n in order]
        return places[:most]

    def documents(self, question: str, most: int) -> list[list[Place]]:
        """The best documents, best first, each by its best blocks, best first."""
        found: dict[str, list[Place]] = {}
        for place in self.search(question, max(CANDIDATES, most)):
            found.setdefault(place.member.digest, []).append(place)
        return list(found.values())[:most]

    def _place(self, candidate: Candidate) -> Place | None:
        member = self.members[candidate.document]
        if any(obstacle.name == member.name for obstacle in self.obstacles):
            return None
        try:
            if member.digest not in self._indexes:
                self._indexes[member.digest] = self._texts.index(member)
            index = self._indexes[member.digest]
        except Exception as error:
            self.obstacles.append(Obstacle(member.name, error))
            return None
        if candidate.block >= len(index.blocks):  # what was kept of it is not of this text
            self._words.forget([member.digest])
            return None
        return Place(member, index.found(candidate.block, candidate.score), index.texts[candidate.block])


def _scored(place: Place, score: float) -> Place:
    found = place.found
    changed = Found(found.block, score, found.first_line, found.last_line, found.rows)
    return Place(place.member, changed, place.text)


def keep_words(words: WordFile, tokenizer: Tokenizer, token_ids: Sequence[int], digest: str) -> None:
    """Note the words of a cache that was put into the store.

    Args:
        token_ids: the document's own.
        digest: of its cache file.
    """
    texts = DocumentIndex(map_tokens(tokenizer, token_ids)).texts
    words.put({digest: BlockWords.of(texts).pack()}, kept=True)


def open_words(store: Store, entries: Iterable[Entry] | None = None) -> WordFile:
    """What is known of the words of caches, by the rules of this version.

    Args:
        entries: all caches that the store has now: what is kept of others that it had is dropped.
    """
    words = store.words(rules())
    if entries is not None:
        words.keep_only([entry.digest for entry in entries])
    return words
