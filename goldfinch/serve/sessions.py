"""Sessions that are kept open, the least recently used closed first; used by one thread."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import gfcache

from goldfinch.engine.base import Engine
from goldfinch.library.freshness import check_unknown
from goldfinch.library.opening import Load, engine_of, open_session

from .refused import Refused
from .shelf import Shelved

# What an open document takes besides the values of its file: token ids as integers, text, blocks and words, a token.
BYTES_PER_TOKEN = 96


@dataclass
class Open:
    """A session that is open.

    Attributes:
        engine: of its model.
        session: on the document.
        cache_bytes: that the cache takes, estimated.
        load_s: seconds that opening took.
        users: questions under way.
    """

    engine: Engine[Any]
    session: Any
    cache_bytes: int
    load_s: float
    users: int = 0

    @property
    def bytes(self) -> int:
        """That it takes, its questions under way included, estimated."""
        return self.cache_bytes + int(self.session.expanded_bytes) + self.users * int(self.session.question_bytes)


class AllInUse(Exception):
    """There is no room until one of the open documents has answered."""


class Sessions:
    """Open documents under a cap.

    Args:
        load: gives models.
        model: directory or name, or None for the one that wrote each cache.
        most_bytes: that open documents may take together.
        read, read_blocks: as of `Session`.
    """

    def __init__(
        self,
        load: Load,
        model: str | None,
        most_bytes: int,
        *,
        read: str | None = None,
        read_blocks: int | None = None,
    ) -> None:
        self.most_bytes = most_bytes
        self._load, self._model = load, model
        self._read, self._read_blocks = read, read_blocks
        self._open = OrderedDict[str, Open]()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def bytes(self) -> int:
        """That open documents take, estimated."""
        return sum(one.bytes for one in self._open.values())

    def open(self, document: Shelved) -> Open:
        """The session on a document.

        Raises:
            AllInUse: there is no room now.
            Refused: it takes more than may be held at all.
            the errors of `open_session`.
        """
        held = self._open.get(document.digest)
        if held is not None:
            self._open.move_to_end(document.digest)
            return held
        started = time.perf_counter()
        with gfcache.read_cache(document.path) as file:
            header = file.header
            size = sum(section.raw_bytes for section in header.sections if section.position in (None, header.tokens))
            size += BYTES_PER_TOKEN * header.tokens
            self._make_room(document, size)
            check_unknown(document.path, header)
            session = open_session(
                file, self._load, model=self._model, memory_bytes=max(self.most_bytes - size, 0),
                read=self._read, read_blocks=self._read_blocks, remark=_unsaid,
            )  # fmt: skip
        held = Open(engine_of(session.model), session, size, time.perf_counter() - started)
        self._open[document.digest] = held
        self.keep_cap(held)
        return held

    def room(self, held: Open) -> int:
        """How many questions to an open document have room beside those under way: one where there are none."""
        used = sum(one.bytes for one in self._open.values() if one.users)
        own = 0 if held.users else held.bytes
        free = (self.most_bytes - used - own) // max(int(held.session.question_bytes), 1)
        return max(free, 0 if any(one.users for one in self._open.values()) else 1)

    def close(self, document: Shelved) -> None:
        """Forget a document that nobody is asking."""
        self._open.pop(document.digest, None)

    def keep_cap(self, but: Open | None = None) -> None:
        """Close what is over the cap, but one: documents grow when all of one is read."""
        idle = [digest for digest, one in self._open.items() if not one.users and one is not but]
        while idle and self.bytes > self.most_bytes:
            del self._open[idle.pop(0)]

    def _make_room(self, document: Shelved, size: int) -> None:
        if size > self.most_bytes:
            needed, most = f"{size / 1e6:,.1f} MB", f"{self.most_bytes / 1e6:,.1f} MB"
            raise Refused(
                503, f"{document.name} takes {needed}, and open documents may take {most}", code="no_memory",
                hint="start gf serve with a larger --memory",
            )  # fmt: skip
        idle = [digest for digest, one in self._open.items() if not one.users]
        while idle and self.bytes + size > self.most_bytes:
            del self._open[idle.pop(0)]
        if self.bytes + size > self.most_bytes:
            raise AllInUse


def _unsaid(_: str) -> None:
    """Remarks on other numerics: each request would repeat them."""
