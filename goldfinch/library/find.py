"""Many cached documents, searched as one: which blocks of which of them fit a question. No model is loaded.

What the words of each cache are is kept in the user's store (`gfcache.store.words`) under the digest of the cache, for
those of the library and for any others: it is added when it is missing, and only orders what is read from the caches
afterwards. The text of a block is decoded from the token ids of its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import gfcache
from gfcache import Entry, Store, layout
from gfcache.store.words import WordFile

from goldfinch.errors import GoldFinchError, ModelNotFound, NotVerified, TokenizerError
from goldfinch.policies.collection import CANDIDATES, BlockWords, Candidate, CollectionIndex, compared, rules
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.places import Found
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.text.tokenizer import Tokenizer
from goldfinch.weights.directory import ModelCard, find_tokenizer

from .freshness import check_unknown
from .known import MADE, REPLAYED, known_of
from .reach import Reach

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
    """The documents of a library: each text once, from the cache that was used last.

    A cache that no run of this user knows says what it likes of its text: it never stands in for one that is known.
    """
    entries = list(entries)
    members, obstacles, seen = list[Member](), list[Obstacle](), set[str]()
    known = known_of([entry.digest for entry in entries if entry.digest])
    for entry in sorted(entries, key=lambda e: (e.digest not in known, -e.last_used, e.name)):
        name = entry.source_path or entry.source_name or entry.id
        if entry.is_set_aside:
            continue  # of an earlier text: it is there for the blocks that it lends
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


def checked(
    members: Iterable[Member], *, verified: bool = False, reach: Reach | None = None
) -> tuple[list[Member], list[Obstacle]]:
    """The members that are the documents that they are named after, as far as that can be told, and the others.

    Args:
        verified: only those that runs of this user made, or recomputed with the same result.
        reach: where their sources may be read, to compare those that nothing is known of.
    """
    members, obstacles, kept = list(members), list[Obstacle](), list[Member]()
    known = known_of([member.digest for member in members])
    for member in members:
        how = known.get(member.digest)
        try:
            if verified and how not in (MADE, REPLAYED):
                raise NotVerified(member.path)
            if how is None:
                with gfcache.read_cache(member.path) as file:
                    header = file.header
                check_unknown(member.path, header, reach)
        except (OSError, gfcache.CacheFormatError, GoldFinchError) as error:
            obstacles.append(Obstacle(member.name, error))
        else:
            kept.append(member)
    return kept, obstacles


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
        """A document's blocks and words, as its file holds them where it does.

        Raises:
            OSError, gfcache.CacheFormatError: its cache cannot be read, or is another one now.
            ModelNotFound: no model here has its tokenizer.
            TokenizerError: it was made without one.
        """
        with gfcache.read_cache(member.path) as file:
            header = file.header
            if header.digest != member.digest:
                raise gfcache.CacheFormatError(member.path, "this cache was replaced meanwhile: ask again")
            own = slice(header.template["document_start"], header.template["document_end"])
            ids, _ = gfcache.whole_array(file, layout.TOKEN_IDS)
            kept = header.of_kind(layout.DOCUMENT_INDEX)
            packed = file.array(kept[0]).reshape(-1) if kept else None
        return DocumentIndex(self._tokenizer(header.tokenizer.get("fingerprint")), ids[own], packed)

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
        self._indexes: dict[int, DocumentIndex | None] = {}
        known = self._known(members)
        missing = [member for member in members if member.digest not in known]
        known |= self._learn(missing, in_store, progress)
        self.members = [member for member in members if member.digest in known]
        self._together = CollectionIndex([known[member.digest] for member in self.members])

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
                    found = BlockWords.of(self._texts.index(member).words)
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
        places = (self._place(candidate) for candidate in self._ranked(question, max(most, CANDIDATES)))
        return list(islice((place for place in places if place is not None), most))

    def documents(self, question: str) -> Iterator[list[Place]]:
        """The documents of the best blocks, best first, each by its best blocks, best first."""
        found: dict[int, list[Candidate]] = {}
        for candidate in self._ranked(question, CANDIDATES):
            found.setdefault(candidate.document, []).append(candidate)
        for candidates in found.values():
            places = [self._place(candidate) for candidate in candidates]
            readable = [place for place in places if place is not None]
            if readable:
                yield readable

    def _ranked(self, question: str, most: int) -> list[Candidate]:
        """The best blocks: by words, and where that is asked for by likeness, too."""
        candidates = self._together.best(question, most)
        if not self.by_likeness:
            return candidates
        texts: list[str] = []
        kept: list[Candidate] = []
        for candidate in candidates:
            index = self._index_of(candidate.document)
            if index is not None and self._is_there(candidate, len(index)):
                kept.append(candidate)
                texts.append(index.text(candidate.block))
        if not kept:
            return []
        scores = compared(question, texts, [candidate.score for candidate in kept])
        order = (-scores).argsort(kind="stable")
        return [replace(kept[n], score=float(scores[n])) for n in order]

    def _place(self, candidate: Candidate) -> Place | None:
        index = self._index_of(candidate.document)
        if index is None or not self._is_there(candidate, len(index)):
            return None
        return Place(
            self.members[candidate.document],
            index.found(candidate.block, candidate.score),
            index.text(candidate.block),
        )

    def _is_there(self, candidate: Candidate, blocks: int) -> bool:
        """Whether a document of so many blocks has that one; else what was kept of it is of another text, and goes."""
        if candidate.block >= blocks:
            self._words.forget([self.members[candidate.document].digest])
        return candidate.block < blocks

    def _index_of(self, document: int) -> DocumentIndex | None:
        """The index of a document, read once; None where it cannot be, which is noted."""
        if document not in self._indexes:
            member, self._indexes[document] = self.members[document], None
            try:
                self._indexes[document] = self._texts.index(member)
            except Exception as error:
                if all(obstacle.name != member.name for obstacle in self.obstacles):
                    self.obstacles.append(Obstacle(member.name, error))
        return self._indexes[document]


def index_fits(path: Path) -> bool | None:
    """Whether the index in a cache file is that of its token ids; None without one, or where none here can tell.

    Raises:
        OSError, gfcache.CacheFormatError: the cache cannot be read.
    """
    with gfcache.read_cache(path) as file:
        kept, fingerprint = file.header.of_kind(layout.DOCUMENT_INDEX), file.header.tokenizer.get("fingerprint")
        if not kept or fingerprint is None:
            return None
        own = slice(file.header.template["document_start"], file.header.template["document_end"])
        ids, packed = gfcache.whole_array(file, layout.TOKEN_IDS)[0][own], file.array(kept[0]).reshape(-1)
    try:
        index = DocumentIndex(find_tokenizer(fingerprint), ids)
    except (ModelNotFound, TokenizerError):
        return None
    return index.is_same(packed)


def keep_words(words: WordFile, index: DocumentIndex, digest: str) -> None:
    """Note the words of a cache that was put into the store.

    Args:
        index: of the document.
        digest: of its cache file.
    """
    words.put({digest: BlockWords.of(index.words).pack()}, kept=True)


def open_words(store: Store, entries: Iterable[Entry] | None = None) -> WordFile:
    """What is known of the words of caches, by the rules of this version.

    Args:
        entries: all caches that the store has now: what is kept of others that it had is dropped.
    """
    words = store.words(rules())
    if entries is not None:
        words.keep_only([entry.digest for entry in entries])
    return words
