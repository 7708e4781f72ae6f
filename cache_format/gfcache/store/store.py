"""A store of caches: files in fanned-out folders, an index beside them, a cap on their bytes.

    ROOT/library/CACHEDIR.TAG       made with the folder: without it nothing is removed there
    ROOT/library/index.sqlite3
    ROOT/library/words.sqlite3
    ROOT/library/blocks.sqlite3
    ROOT/library/ab/ab12....gfc

Each file is written, read and locked like any other .gfc. One lock of the store is held while room is made and a
file is written, so that the cap holds at every moment, whoever writes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from gfcache.errors import CacheFormatError, NoRoom
from gfcache.format.reader import CacheFile

from .entries import entry_of, is_as_listed, is_damaged
from .folder import BLOCKS_FILE, INDEX_FILE, REMNANT_AGE_S, WORDS_FILE, StoreFolder, is_cache
from .index import Entry, Index, IndexDamaged
from .removal import CHANGED, FOREIGN, PARENT, PERHAPS_PINNED, PINNED, Removal
from .words import WordFile

T = TypeVar("T")


class Store:
    """A store of caches.

    Args:
        root: its folder; `default_root()` by default. Made when first written to.
        max_bytes: the cap on cache files, unfinished ones included; None for none.

    Attributes:
        max_bytes: that cap.
        rebuilt: the index was lost or damaged and made again from the files.
        set_aside: where the index is that was damaged, or held what gf does not make; None for none.
    """

    def __init__(self, root: Path | None = None, max_bytes: int | None = None) -> None:
        self._files = StoreFolder(root)
        self.max_bytes = max_bytes
        self._index: Index | None = None
        self.rebuilt = False
        self.set_aside: Path | None = None

    def __repr__(self) -> str:
        return f"<Store in {str(self.folder)!r}>"

    @property
    def is_ours(self) -> bool:
        """Whether its folder was made by gf, or is not there yet; in another one nothing is written or removed."""
        return not os.path.lexists(self.folder) or self._files.is_ours()

    @property
    def root(self) -> Path:
        """Its folder."""
        return self._files.root

    @property
    def folder(self) -> Path:
        """Where the caches are: ROOT/library."""
        return self._files.folder

    @property
    def obstacle(self) -> str | None:
        """Why the index that is there cannot be used, or None; nothing is removed then, for it may be pinned."""
        return None if self._index is None else self._index.obstacle

    def close(self) -> None:
        """Close the index."""
        if self._index is not None:
            self._index.close()
            self._index = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path(self, entry: Entry) -> Path:
        """The file of an entry."""
        return self.folder / entry.name

    def path_of(self, *key: str) -> Path:
        """The file of a key (any texts that name the cache)."""
        return self._files.path_of(*key)

    def make_folders(self, path: Path) -> None:
        """Make the folders that a file needs; CacheWriteError where they cannot be made."""
        self._files.make_folders(path)

    def used_bytes(self) -> int:
        """Bytes of all cache files, unfinished ones included; the index is not counted."""
        return self._files.used_bytes()

    def remnants(self, older_than_s: float = REMNANT_AGE_S) -> list[tuple[str, int]]:
        """(name, bytes) of files that runs cut short have left, oldest first: journals, temporary files, locks."""
        return self._files.remnants(older_than_s)

    def _with_index(self, action: Callable[[Index], T]) -> T:
        if self._index is None or (self._index.homeless and self.folder.exists()):
            self.close()
            self._index = Index(self.folder / INDEX_FILE, is_ours=self._files.is_ours())
        try:
            if self._index.made:
                self._scan(self._index)
            return action(self._index)
        except IndexDamaged:
            self._scan(self._index)
            return action(self._index)
        finally:
            self.set_aside = self.set_aside or self._index.set_aside

    def entries(self) -> list[Entry]:
        """Every cache of the store, the index brought up to date with the files first."""
        return self._with_index(self._scan)

    def _scan(self, index: Index) -> list[Entry]:
        files = {name: stat for name, stat in self._files.files() if is_cache(name)}
        listed = index.names()
        known = {entry.name: entry for entry in index.rows(files)}
        self.rebuilt = self.rebuilt or bool(files and not listed and not index.in_memory)
        index.made = False
        new = []
        for name, stat in files.items():
            old = known.get(name)
            # What could not be read may be readable now: rights were missing, a disk failed, gf was older.
            if old is None or old.error or (old.bytes, old.modified_ns) != (stat.st_size, stat.st_mtime_ns):
                entry = self._read(name, stat)
                if old is None or entry.error is None or entry.error != old.error:
                    new.append(entry)
        gone = [name for name in listed if name not in files]
        if new or gone:
            with contextlib.suppress(OSError):  # a full disk does not hinder reading
                index.put(new, gone)
                return index.rows(files)
            known |= {entry.name: entry for entry in new}
        return list(known.values())

    def _read(self, name: str, stat: os.stat_result) -> Entry:
        """The entry of a file; one with an `error` when it cannot be read, whatever the reason."""
        try:
            with CacheFile(self.folder / name) as file:
                return entry_of(name, stat, file.header)
        except (OSError, CacheFormatError, ValueError) as error:
            why = str(error).encode(errors="replace").decode()
            nothing = (None,) * 6
            modified = stat.st_mtime
            return Entry(name, stat.st_size, stat.st_mtime_ns, "", "", *nothing, modified, None, why, modified)

    def words(self, rules: str | None) -> WordFile:
        """What is known of the words of caches, those outside the store included; see `WordFile`."""
        path = self.folder / WORDS_FILE
        return WordFile(path, rules, lambda: self._files.make_folders(path))

    def block_keys(self, rules: str | None) -> WordFile:
        """What identifies the blocks that caches hold, by digest, as `words` keeps words."""
        path = self.folder / BLOCKS_FILE
        return WordFile(path, rules, lambda: self._files.make_folders(path))

    def of_content(self, sha256: str, identity: str) -> list[Path]:
        """Caches of a text by its SHA-256, last used first; the index may not yet know files put there by hand.

        An index that cannot be read finds none: the text is recomputed, and answered.
        """
        with contextlib.suppress(OSError, CacheFormatError):
            names = self._with_index(lambda index: index.of_content(sha256, identity))
            return [self.folder / name for name in names]
        return []

    def used(self, path: Path, *, hit: bool) -> None:
        """Note that a cache was used; a store that cannot be written to is no obstacle."""
        with contextlib.suppress(OSError, CacheFormatError):
            self._with_index(lambda index: index.use(self._files.name(path), time.time(), hit))

    def added(self, path: Path) -> Entry:
        """Note a file that was written; an index that cannot be written now learns of it later, from the file."""
        entry = self._read(self._files.name(path), os.stat(path))
        with contextlib.suppress(OSError, CacheFormatError):
            self._with_index(lambda index: index.put([entry]))
            self._with_index(lambda index: index.use(entry.name, time.time(), False))
        return entry

    def pin(self, entries: Sequence[Entry], pinned: bool) -> None:
        """Pin or unpin entries; what removes some meanwhile is waited for, or sees it."""
        with self._locked_if_there():
            self._with_index(lambda index: index.pin([e.name for e in entries], pinned))

    def tag(self, entries: Sequence[Entry], add: Sequence[str], remove: Sequence[str]) -> None:
        """Add and remove tags of entries; as `pin`."""
        with self._locked_if_there():
            self._with_index(lambda index: index.tag([e.name for e in entries], add, remove))

    def _locked_if_there(self) -> contextlib.AbstractContextManager[None]:
        return self._files.locked() if self.folder.exists() and self.is_ours else contextlib.nullcontext()

    @contextlib.contextmanager
    def writing(self, path: Path, at_most_bytes: int) -> Iterator[Removal]:
        """Hold the store with room for a file of at most so many bytes beside what is there.

        The file that is replaced and its replacement exist together for a moment, so both count.

        Raises:
            NoRoom: even without everything that may be removed; nothing is removed then.
        """
        with self._files.locked():
            self.make_folders(path)
            with contextlib.suppress(OSError, CacheFormatError):  # made after its first file it would seem lost
                self._with_index(lambda index: None)
            self._check_room(path, at_most_bytes)
            room = self._make_room(at_most_bytes, keep=path)
            if self.max_bytes is not None and self.used_bytes() + at_most_bytes > self.max_bytes:
                raise NoRoom(path, at_most_bytes, self.max_bytes)
            replaces = os.path.lexists(path)
            aside = self._set_aside(path) if replaces else None
            try:
                yield room
            finally:
                self._files.forgo(aside, path)
            with contextlib.suppress(OSError, CacheFormatError):
                if replaces:
                    room.add(self._remove(self._idle(), None, dry_run=False))
            if self.max_bytes is not None and self.used_bytes() > self.max_bytes:  # it took more than was announced
                room.add(self._make_room(0, keep=path))

    def _set_aside(self, path: Path) -> Path | None:
        """Keep a file that is about to be replaced under the name of its digest, where others rest on it.

        Where an index cannot tell, those others will lack it, which costs no more than computing them again.
        """
        with contextlib.suppress(OSError, CacheFormatError):
            entries, name = self.entries(), self._files.name(path)
            old = next((e for e in entries if e.name == name), None)
            if old is not None and any(old.digest in e.rests_on for e in entries if e.name != name):
                return self._files.set_aside(path, old.digest)
        return None

    def _idle(self) -> list[Entry]:
        """Caches that are set aside, and that nothing rests on any more."""
        entries = self.entries()
        needed = {digest for entry in entries for digest in entry.rests_on}
        return [entry for entry in entries if entry.is_set_aside and entry.digest not in needed]

    def keep_cap(self) -> Removal:
        """Remove what is over the cap: that of an earlier call may have been higher."""
        if self.max_bytes is None or self.used_bytes() <= self.max_bytes:
            return Removal()
        with self._files.locked():
            return self._make_room(0)

    def _check_room(self, path: Path, wanted_bytes: int) -> None:
        """Refuse a file that has no room even without everything that may be removed, before anything is."""
        if self.max_bytes is None:
            return
        excess = self.used_bytes() + wanted_bytes - self.max_bytes
        outputs = [(self._files.output_of(name), size) for name, size in self.remnants(older_than_s=0) if size]
        if excess > 0:
            excess -= sum(size for output, size in outputs if output != path and not self._files.is_locked(output))
        staying = {self._files.name(path)}
        while excess > 0:
            candidates = [e for e in self._by_use() if e.name not in staying]
            planned = self._remove(candidates, excess, dry_run=True)
            if planned.freed_bytes < excess:
                raise NoRoom(path, wanted_bytes, self.max_bytes)
            locked = {e.name for e in planned.removed if self._files.is_locked(self.path(e))}
            if not locked:
                return
            staying |= locked

    def _by_use(self) -> list[Entry]:
        """All entries, the longest unused first."""
        return sorted(self.entries(), key=lambda e: e.last_used)

    def _make_room(self, wanted_bytes: int, keep: Path | None = None) -> Removal:
        if self.max_bytes is None:
            return Removal()
        excess = self.used_bytes() + wanted_bytes - self.max_bytes
        if excess <= 0:
            return Removal()
        done = Removal()
        for name, size in self.remnants(older_than_s=0):
            output = self._files.output_of(name)
            if size and done.freed_bytes < excess and output != keep and not self._files.unlink(output, [name]):
                done.remnants.append(name)
                done.freed_bytes += size
        if done.freed_bytes < excess:
            kept = None if keep is None else self._files.name(keep)
            candidates = [e for e in self._by_use() if e.name != kept]
            done.add(self._remove(candidates, excess - done.freed_bytes, dry_run=False))
        return done

    def remove(self, entries: Sequence[Entry], *, dry_run: bool = False, pinned_too: bool = False) -> Removal:
        """Remove entries, but not pinned or locked ones or bases of entries that stay.

        Args:
            entries: as they were listed: what was pinned, tagged or replaced since then stays.
        """
        if dry_run:
            return self._remove(entries, None, dry_run=True, pinned_too=pinned_too)
        if not self.is_ours:
            return Removal(skipped=[(entry, FOREIGN) for entry in entries])
        with self._files.locked():
            now = {entry.name: entry for entry in self.entries()}
            there = [(entry, now[entry.name]) for entry in entries if entry.name in now]
            same = [new for old, new in there if is_as_listed(old, new)]
            done = self._remove(same, None, dry_run=False, pinned_too=pinned_too)
            done.skipped += [(new, CHANGED) for old, new in there if not is_as_listed(old, new)]
            return done

    def prune(self, wanted: Sequence[Entry], max_bytes: int | None, *, dry_run: bool) -> Removal:
        """Remove remnants, damaged files, the entries `wanted`, then the longest unused ones down to `max_bytes`."""
        with contextlib.nullcontext() if dry_run else self._files.locked():
            done, entries = Removal(), self.entries()
            for name, size in self.remnants():
                if self.is_ours if dry_run else not self._files.unlink(self._files.output_of(name), [name]):
                    done.remnants.append(name)
                    done.freed_bytes += size
            unwanted = [e for e in entries if e in wanted or (e.error is not None and is_damaged(self.path(e)))]
            done.add(self._remove(unwanted, None, dry_run=dry_run))
            excess = 0 if max_bytes is None else self.used_bytes() - max_bytes
            excess -= done.freed_bytes if dry_run else 0
            if excess > 0:
                seen = {e.name for e in done.removed} | {e.name for e, _ in done.skipped}
                rest = sorted((e for e in entries if e.name not in seen), key=lambda e: e.last_used)
                done.add(self._remove(rest, excess, dry_run=dry_run, gone=done.removed))
            return done

    def _remove(
        self,
        entries: Sequence[Entry],
        enough_bytes: int | None,
        *,
        dry_run: bool,
        pinned_too: bool = False,
        gone: Sequence[Entry] = (),
    ) -> Removal:
        """Remove entries in order until enough is free. A base goes once nothing that stays continues it."""
        done, left, skipped = Removal(), list(entries), dict[str, tuple[Entry, str]]()
        staying = {e.name: e.rests_on for e in self.entries()}
        for entry in gone:
            staying.pop(entry.name, None)
        needed = Counter(digest for digests in staying.values() for digest in digests)
        again = True
        while again:
            again = False
            for entry in list(left):
                if enough_bytes is not None and done.freed_bytes >= enough_bytes:
                    break
                reason = None
                if not pinned_too:
                    reason = PINNED if entry.pinned else PERHAPS_PINNED if self.obstacle else None
                if reason is None and needed[entry.digest]:
                    reason = PARENT
                if reason is None and not self.is_ours:
                    reason = FOREIGN
                if reason is None and not dry_run:
                    reason = self._files.unlink(self.path(entry), self._all_files(entry))
                if reason is not None:
                    skipped[entry.name] = (entry, reason)
                    continue
                again = True
                left.remove(entry)
                skipped.pop(entry.name, None)
                needed.subtract(staying.pop(entry.name, []))
                done.removed.append(entry)
                done.freed_bytes += entry.bytes
        if done.removed and not dry_run:
            self._with_index(lambda index: index.put([], [e.name for e in done.removed]))
            for known in (self.words(None), self.block_keys(None)):
                with known:
                    known.forget([e.digest for e in done.removed])
            done.add(self._remove(self._idle(), None, dry_run=False))
        done.skipped += skipped.values()
        return done

    def _all_files(self, entry: Entry) -> list[str]:
        folder, _, name = entry.name.partition("/")
        return [entry.name, f"{folder}/.{name}.journal"]
