"""The self-check of a model, made once for every version of the library and kept in the user's private cache."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from gfcache import CacheFormatError
from gfcache.files.locks import sweep
from gfcache.files.regular import read_regular
from gfcache.files.replace import replacing_output

from goldfinch.text.json_files import parse_json
from goldfinch.weights.directory import ModelCard
from goldfinch.weights.foreign_config import SCHEDULES
from goldfinch.weights.noted import place_of

from . import library
from .directories import foreign_config
from .importing import tried_network
from .selfcheck import Check

_MOST_BYTES = 1 << 16


def known_check(card: ModelCard, library_config: Mapping[str, Any], tensors: Mapping[str, Any]) -> Check:
    """What the self-check saw with the library as it is installed: when the model was taken in, noted since, or now.

    Raises:
        ModelRefused: see `selfcheck.check_network`.
    """
    config, version = foreign_config(card), library.library_version()
    if config.library_version == version:
        return Check(config.schedule, dict(config.check))
    place = place_of(card.model_fingerprint)
    file = None if place is None else place / f"self-check-transformers-{version}.json"
    if file is not None:
        sweep(file)
        with contextlib.suppress(OSError, ValueError):
            found = parse_json(read_regular(file, _MOST_BYTES))
            if isinstance(found, dict) and found.get("schedule") in SCHEDULES:
                return Check(found["schedule"], found.get("figures", {}))
    check = tried_network(library.network_of(library_config, tensors), library_config, tensors)
    if file is not None:
        with contextlib.suppress(OSError, CacheFormatError), replacing_output(file, follow=False) as stream:
            stream.write(json.dumps({"schedule": check.schedule, "figures": check.figures}).encode())
    return check
