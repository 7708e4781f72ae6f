"""The store of the settings, and what is said of it."""

from __future__ import annotations

from gfcache import CacheLocked, CacheWriteError, Removal, Store

from . import settings
from .console import console
from .values import parse_bytes, show_bytes


def open_store(*, keep_cap: bool = False) -> Store:
    """The store of the settings.

    Args:
        keep_cap: remove what is over the cap at once; for commands that add caches, those that look remove nothing.
    """
    cap = settings.value("cache.max_size")
    store = Store(max_bytes=None if cap is None else parse_bytes(cap))
    if keep_cap:
        try:
            say_removed(store, store.keep_cap())
        except (CacheLocked, CacheWriteError) as error:
            console.warn(f"the library is not brought below its cap: {error}")
    return store


def say_removed(store: Store, removal: Removal) -> None:
    """What made room, and what could not, on stderr."""
    if removal.removed or removal.remnants:
        count = len(removal.removed) + len(removal.remnants)
        console.say(f"library: {count} removed to keep the cap, {show_bytes(removal.freed_bytes)}")
    if store.max_bytes is not None and removal.skipped and store.used_bytes() > store.max_bytes:
        console.warn(
            f"the library takes {show_bytes(store.used_bytes())}, more than its cap of {show_bytes(store.max_bytes)}: "
            f"{len(removal.skipped)} entries stay ({', '.join(sorted({why for _, why in removal.skipped}))})"
        )


def say_index(store: Store) -> None:
    """What became of the index, on stderr."""
    if not store.is_ours:
        console.warn(f"{store.folder} was not made by gf: nothing is written or removed there")
        return
    if store.set_aside is not None:
        console.warn(
            "the index of the library was damaged, or held what gf does not make, and is rebuilt: pins, tags and uses "
            f"are gone; what was there is {store.set_aside}"
        )
    elif store.rebuilt:
        console.warn("the index of the library was lost or damaged and is rebuilt: pins, tags and uses are gone")
    if store.obstacle is not None:
        index = store.folder / "index.sqlite3"
        console.warn(f"{index} cannot be used ({store.obstacle}): pins and tags are not seen, nothing is removed")
