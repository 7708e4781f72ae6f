"""Errors: the tree at the top of the file is the tree there is; a library names no option of a program."""

from __future__ import annotations

import inspect
import re

from gfcache import errors

CLASSES = {
    name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__
}


def test_the_tree_lists_every_error() -> None:
    assert errors.__doc__ is not None
    listed = re.findall(r"^(?:[│ ]*[├└]── )?([A-Z]\w+)", errors.__doc__, re.MULTILINE)
    assert sorted(set(listed) - {"Errors"}) == sorted(CLASSES)
    assert all(issubclass(kind, errors.CacheFormatError) for kind in CLASSES.values())


def test_no_hint_names_a_program() -> None:
    for kind in CLASSES.values():
        assert not re.search(r"--|\bgf\b|GF_", kind.hint or ""), kind
