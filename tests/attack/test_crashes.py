"""Whatever stops a command that writes, or fails in it: nothing is half-written or lost, and the next run mends all.

A few calls of each command in the usual run of the tests, more with the slow ones, all with GF_ATTACK=all (make attack).
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gfcache
import pytest

from tests.attack.commands import COUNT, FAIL, KILL, SIGNAL, TEAR, Commands, Done, Fault, built
from tests.attack.scenarios import SCENARIOS, Scenario, prepared

# How, number of the error or signal, and whether all later calls fail, too.
MODES = {
    "kill": (KILL, 0, False),
    "tear": (TEAR, 0, False),
    "enospc": (FAIL, errno.ENOSPC, True),
    "edquot": (FAIL, errno.EDQUOT, True),
    "eio": (FAIL, errno.EIO, False),
    "hang up": (SIGNAL, signal.SIGHUP, False),
}
# Exit codes that a failing system may have, or a terminal that is closed: none of it is a bug of ours.
EXPECTED_CODES = {FAIL: {0, 3, 8}, SIGNAL: {0, 3, 129}}


@pytest.fixture(scope="module")
def gf(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_tokenizer: Path) -> Iterator[Commands]:
    library = built(tmp_path_factory.mktemp("faults"))
    if library is None:
        pytest.skip("needs Linux and a C compiler")
    environment = {
        "GF_MODELS_DIR": str(tiny_model.parent), "GF_MODEL": tiny_model.name, "GF_JOURNAL_SECONDS": "0", "OMP_NUM_THREADS": "1",
        "XDG_DATA_HOME": str(tmp_path_factory.mktemp("data")), "XDG_CONFIG_HOME": str(tmp_path_factory.mktemp("config")),
    }  # fmt: skip
    commands = Commands(library, environment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GF_TEST_TOKENIZER", str(tiny_tokenizer))
        yield commands
    commands.close()


def content(path: Path) -> str:
    """What a cache says and holds, but for when it was made."""
    values = json.loads(gfcache.verify_cache(path, complete=True).to_json())
    values.pop("created_at")
    (values.get("parent") or {}).pop("digest", None)
    return json.dumps(values, sort_keys=True)


def caches(folder: Path) -> dict[str, Path]:
    found = (p for p in folder.rglob("*.gfc") if not p.name.startswith("."))
    return {str(path.relative_to(folder)): path for path in sorted(found)}


def models(folder: Path) -> dict[str, str]:
    """Fingerprints of models and their templates."""
    cards = {path: json.loads(path.read_text()) for path in folder.glob("*/**/config.json") if "from" not in path.parts}
    names = ("model_fingerprint", "tokenizer_fingerprint", "template_fingerprint")
    return {str(path.relative_to(folder)): str([card[name] for name in names]) for path, card in cards.items()}


def facts(folder: Path) -> set[tuple[Any, ...]]:
    """Pins and tags."""
    index = folder / "cache" / "library" / "index.sqlite3"
    if not index.exists():
        return set()
    connection = sqlite3.connect(index)
    try:
        pins = connection.execute("SELECT name, 'pinned' FROM entries WHERE pinned").fetchall()
        return {*pins, *connection.execute("SELECT name, tag FROM tags").fetchall()}
    finally:
        connection.close()


def remnants(folder: Path) -> list[str]:
    """What no command may leave; the lock of a library stays."""
    names = [str(path.relative_to(folder)) for path in folder.rglob(".*") if path.name != ".lock"]
    return [name for name in names if name.endswith((".tmp", ".lock", ".journal", ".old"))]


class World:
    """A scenario that is made once, and begun anew for every call."""

    def __init__(self, scenario: Scenario, gf: Commands, folder: Path) -> None:
        self.scenario, self._gf, self.folder, self._before = scenario, gf, folder / "world", folder / "before"
        self._tried = set[tuple[str, int]]()
        self.folder.mkdir()  # paths are noted in caches and the index: the world is always in one place
        if scenario.loaded:
            gf.load(scenario.loaded)
        prepared(scenario, self.folder, gf)
        shutil.copytree(self.folder, self._before, symlinks=True)
        self.old = {name: path.read_bytes() for name, path in caches(self.folder).items()}
        self.facts = facts(self.folder)
        whole = self.run(scenario.command, Fault(str(self.folder), COUNT))
        assert whole.code in (0, 3), whole
        self.calls = whole.calls
        self.whole = {name: content(path) for name, path in caches(self.folder).items()}
        self.models, self.files = models(self.folder), self.same()

    def run(self, command: tuple[str, ...], fault: Fault | None = None) -> Done:
        return self._gf(*command, cwd=self.folder, fault=fault, GF_CACHE_DIR=str(self.folder / "cache"))

    def same(self) -> dict[str, bytes]:
        """Content of the files that are to be those of a whole run."""
        found = sorted(path for path in self.folder.glob(self.scenario.same) if not path.name.startswith("."))
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found if path.is_file()}

    def begin(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self._before, self.folder, symlinks=True)

    def try_at(self, mode: str, call: int) -> list[str]:
        """Problems after a fault at one call; none of one that was tried before."""
        if (mode, call) in self._tried:
            return []
        self._tried.add((mode, call))
        self.begin()
        how, number, onwards = MODES[mode]
        done = self.run(self.scenario.command, Fault(str(self.folder), how, call, number, onwards))
        found = []
        if "Traceback" in done.err or "unexpected" in done.err:
            found.append(f"exit {done.code}: {done.err[-300:]}")
        if done.code not in EXPECTED_CODES.get(how, {done.code}):
            found.append(f"exit {done.code}: {done.err[-300:]}")
        if how == SIGNAL and (left := [name for name in remnants(self.folder) if not name.endswith(".journal")]):
            found.append(f"left behind: {left}")
        found += self._lost() + self._after_again()
        return [
            f"{self.scenario.name}, {mode} at {call} of {len(self.calls)}, {self.calls[call - 1]}: {problem}"
            for problem in found
        ]

    def _lost(self) -> list[str]:
        found = []
        for name, path in caches(self.folder).items():
            if self.old.get(name) == path.read_bytes():
                continue
            try:
                if content(path) != self.whole.get(name):
                    found.append(f"{name} is neither the old nor the new one")
            except gfcache.CacheFormatError as error:
                found.append(str(error))
        found += [f"{name} has gone" for name in self.old if name in self.whole and not (self.folder / name).exists()]
        found += [
            f"{name} is not that of a whole run" for name, data in self.same().items() if self.files.get(name) != data
        ]
        here = {name for name in caches(self.folder / "cache" / "library")}
        lost = {fact for fact in self.facts - facts(self.folder) if fact[0] in here}
        return found + ([f"pins or tags are lost: {lost}"] if lost else [])

    def _after_again(self) -> list[str]:
        done = self.run(self.scenario.again or self.scenario.command)
        was_done = self.scenario.already and self.scenario.already in done.err
        found = []
        if done.code not in (0, 3) and not was_done:
            found.append(f"again: exit {done.code}: {done.err[-300:]}")
        if "rebuilt" in done.err or "cannot be used" in done.err:
            found.append(f"again: {done.err[-300:]}")
        if remnants(self.folder):
            found.append(f"again: left behind: {remnants(self.folder)}")
        if self.scenario.is_whole and {n: content(p) for n, p in caches(self.folder).items()} != self.whole:
            found.append("again: other caches than those of a whole run")
        if self.same() != self.files:
            found.append("again: other files than those of a whole run")
        if models(self.folder) != self.models:
            found.append("again: other models than those of a whole run")
        for config in self.folder.glob("*/**/config.json"):
            if "from" not in config.parts and self.run(("model", "verify", str(config.parent))).code:
                found.append(f"again: {config.parent} does not verify")
        return found


def places_of(calls: tuple[str, ...], is_long: bool) -> list[int]:
    """Numbers of the calls to try, from 1: all, or of a long command the first, middle and last of each name and path."""
    if not is_long:
        return list(range(1, len(calls) + 1))
    same: dict[str, list[int]] = {}
    for number, call in enumerate(calls, 1):
        same.setdefault(call, []).append(number)
    return sorted({found[place] for found in same.values() for place in (0, len(found) // 2, -1)})


def problems(world: World, modes: list[str], most: int | None) -> list[str]:
    found = []
    for mode in modes:
        places = places_of(world.calls, world.scenario.is_long)
        if mode == "tear":  # any other call is a "kill"
            places = [call for call in places if world.calls[call - 1].startswith(("write", "pwrite"))]
        if most is not None and most < len(places):
            places = sorted(random.Random(f"{world.scenario.name} {mode}").sample(places, most))
        for call in places:
            found += world.try_at(mode, call)
    return found


def test_the_faults_reach_the_commands(gf: Commands, tmp_path: Path) -> None:
    """Otherwise all the rest would hold without a fault."""
    world = World(SCENARIOS[0], gf, tmp_path)
    assert len(world.calls) > 5
    world.begin()
    assert world.run(world.scenario.command, Fault(str(world.folder), KILL, 3)).code == -9
    world.begin()
    done = world.run(world.scenario.command, Fault(str(world.folder), FAIL, 1, errno.ENOSPC, True))
    assert done.code in (3, 8)
    assert os.strerror(errno.ENOSPC).lower() in done.err.lower()


@pytest.fixture(scope="module", params=SCENARIOS, ids=lambda s: s.name)
def world(request: pytest.FixtureRequest, gf: Commands, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(request.param, gf, tmp_path_factory.mktemp("attack"))


def test_a_few_calls(world: World) -> None:
    every = os.environ.get("GF_ATTACK") == "all"
    assert not problems(world, list(MODES) if every else ["kill", "enospc", "eio", "hang up"], None if every else 2)


@pytest.mark.slow
def test_more_calls(world: World) -> None:
    if os.environ.get("GF_ATTACK") == "all":
        pytest.skip("all calls are tried above")
    assert not problems(world, list(MODES), 2 if world.scenario.is_long else 6)
