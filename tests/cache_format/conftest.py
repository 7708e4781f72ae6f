"""Fixtures of the format's tests."""

from __future__ import annotations

from tests.cache_format.small_cache import path as path
from tests.cache_format.small_store import store as store
