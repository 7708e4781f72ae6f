"""Blocks of different documents in a library: equal ones are computed once and kept once, and none goes that is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import pytest
from gfcache import Store, layout
from gfcache.format.compare import compare_caches

from goldfinch.foreign.importing import import_foreign
from goldfinch.library import making
from goldfinch.library.library import HIT, Kept, Library
from goldfinch.library.opening import Model, engine_of, load
from goldfinch.weights.directory import read_card
from tests.cache_format.craft import sections_of
from tests.goldfinch.foreign.folders import write_folder

BIRDS = ("crane", "heron", "stork", "swift", "raven", "eagle", "goose", "finch")
PARTS = [f"Chapter {n}: the {bird}. " + f"The {bird} of the lake is grey. " * 16 for n, bird in enumerate(BIRDS)]
FIRST, SECOND = PARTS[:4], [PARTS[4], *PARTS[1:3], PARTS[5]]


@pytest.fixture(scope="module", params=["llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("models")
    hub = write_folder(folder / "hub", request.param, max_position_embeddings=2048)
    import_foreign(hub, folder / request.param, prompt="plain")
    return load(read_card(folder / request.param), dtype="f32", layout="blocks")


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(Store(tmp_path / "cache")) as library:
        yield library


def written(path: Path, parts: list[str]) -> Path:
    path.write_text("\n\n".join(parts) + "\n")
    return path


def kept(library: Library, model: Model, path: Path) -> Kept:
    found = library.get(model, path)
    assert found.obstacle is None
    return found


def header_at(path: Path | None) -> gfcache.Header:
    assert path is not None
    return gfcache.verify_cache(path, complete=True)


def table_of(path: Path) -> list[tuple[str, str]]:
    with gfcache.read_cache(path) as file:
        return [(section.name, section.sha256) for section in file.header.sections]


def answer(model: Model, cache: Any) -> list[int]:
    return list(engine_of(model).session(cache).ask("Who is the heron?", max_tokens=8).token_ids)


@pytest.mark.parametrize("model", ["llama", "falcon_h1"], indirect=True)
def test_a_block_that_another_document_has_is_neither_computed_nor_kept_again(
    library: Library, model: Model, tmp_path: Path
) -> None:
    first, second = written(tmp_path / "a.txt", FIRST), written(tmp_path / "b.txt", SECOND)
    one, other = kept(library, model, first), kept(library, model, second)
    assert one.tokens_computed == one.cache.length
    shared = sum(len(part) for part in SECOND[1:3])
    assert other.cache.length - shared - 40 < other.tokens_computed < other.cache.length - shared + 40
    header = header_at(other.path)
    assert [lender["digest"] for lender in header.lenders] == [header_at(one.path).digest]
    assert 0 < sum(header.model["lent"]) < len(header.model["lent"])
    assert not header_at(one.path).lenders

    with Library(Store(tmp_path / "alone")) as alone:
        cold = kept(alone, model, second)
    assert other.path is not None
    assert cold.path is not None
    assert other.path.stat().st_size < 0.65 * cold.path.stat().st_size
    gfcache.flatten_cache(other.path, tmp_path / "whole.gfc")
    assert table_of(tmp_path / "whole.gfc") == table_of(cold.path)
    assert "lent" not in header_at(tmp_path / "whole.gfc").model
    with gfcache.read_cache(other.path) as lent, gfcache.read_cache(cold.path) as whole:
        assert compare_caches(lent, whole)["equal"]
    gfcache.export_safetensors(other.path, tmp_path / "lent.safetensors")
    gfcache.export_safetensors(tmp_path / "whole.gfc", tmp_path / "whole.safetensors")
    assert (tmp_path / "lent.safetensors").stat().st_size == (tmp_path / "whole.safetensors").stat().st_size

    again = kept(library, model, second)
    assert (again.state, again.tokens_computed) == (HIT, 0)
    assert answer(model, again.cache) == answer(model, other.cache) == answer(model, cold.cache)
    assert engine_of(model).replay(again.cache).difference is None


def test_a_cache_that_lends_stays_until_nothing_rests_on_it(library: Library, model: Model, tmp_path: Path) -> None:
    first, second = written(tmp_path / "a.txt", FIRST), written(tmp_path / "b.txt", SECOND)
    one, other = kept(library, model, first).path, kept(library, model, second).path
    assert one is not None
    assert other is not None
    store = library.store
    by_path = {store.path(entry): entry for entry in store.entries()}
    assert [why for _, why in store.remove([by_path[one]]).skipped] == ["in use as a base"]
    store.pin([by_path[other]], True)
    assert not store.prune([], 0, dry_run=False).removed
    store.pin([by_path[other]], False)
    assert [store.path(entry) for entry in store.prune([], 0, dry_run=False).removed] == [other, one]


def test_a_lender_that_is_replaced_is_set_aside(library: Library, model: Model, tmp_path: Path) -> None:
    first, second = written(tmp_path / "a.txt", FIRST), written(tmp_path / "b.txt", SECOND)
    one, other = kept(library, model, first), kept(library, model, second)
    cold, digest = answer(model, other.cache), header_at(one.path).digest
    written(first, [PARTS[6], FIRST[0], PARTS[7]])
    assert kept(library, model, first).path == one.path
    aside = [entry for entry in library.store.entries() if entry.is_set_aside]
    assert [entry.digest for entry in aside] == [digest]
    # The new text of the first document has a block of the old one, which is kept anyway.
    assert [lender["digest"] for lender in header_at(one.path).lenders] == [digest]
    again = kept(library, model, second)
    assert (again.state, again.tokens_computed) == (HIT, 0)
    assert answer(model, again.cache) == cold
    entries = {library.store.path(entry): entry for entry in library.store.entries()}
    assert again.path is not None
    assert one.path is not None
    assert len(library.store.remove([entries[again.path]]).removed) == 1
    assert len(library.store.remove([entries[one.path]]).removed) == 2
    assert not library.store.entries()


def test_a_lender_that_has_gone_meanwhile_is_not_named(
    library: Library, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = kept(library, model, written(tmp_path / "a.txt", FIRST)).path
    make_cache = making.make_cache

    def made_while_another_removes(*args: Any, **how: Any) -> Any:
        made = make_cache(*args, **how)
        with Store(tmp_path / "cache") as other:
            assert len(other.remove(other.entries()).removed) == 1
        return made

    monkeypatch.setattr(making, "make_cache", made_while_another_removes)
    other = kept(library, model, written(tmp_path / "b.txt", SECOND))
    assert one is not None
    assert not one.exists()
    assert not header_at(other.path).lenders
    assert other.tokens_computed < other.cache.length


def test_a_lender_that_was_deleted_by_hand_is_made_up_for(library: Library, model: Model, tmp_path: Path) -> None:
    one = kept(library, model, written(tmp_path / "a.txt", FIRST)).path
    second = written(tmp_path / "b.txt", SECOND)
    other = kept(library, model, second)
    assert one is not None
    one.unlink()
    with pytest.raises(gfcache.ParentMissing):
        header_at(other.path)
    again = kept(library, model, second)
    assert again.tokens_computed == again.cache.length
    assert not header_at(again.path).lenders
    assert answer(model, again.cache) == answer(model, other.cache)


def test_files_of_which_nothing_is_known_lend_nothing(
    library: Library, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(library, model, written(tmp_path / "a.txt", FIRST))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another user's"))
    other = kept(library, model, written(tmp_path / "b.txt", SECOND))
    assert other.tokens_computed == other.cache.length
    assert not header_at(other.path).lenders


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda model, lenders: lenders.clear(), "R13"),
        (lambda model, lenders: lenders.append(dict(lenders[0])), "R7"),
        (lambda model, lenders: lenders.append(lenders[0] | {"digest": "0" * 64}), "R13"),
        (lambda model, lenders: lenders[0].update(digest="x"), "R7"),
        (lambda model, lenders: lenders[0].pop("path"), "R7"),
        (lambda model, lenders: lenders.extend([lenders[0] | {"digest": f"{n:064x}"} for n in range(17)]), "R7"),
        (lambda model, lenders: model.pop("lent"), "R13"),
        (lambda model, lenders: model.update(lent=[0, *model["lent"]]), "R7"),
        (lambda model, lenders: model.update(lent=[layout.MAX_LENDERS + 1] * len(model["lent"])), "R7"),
        (lambda model, lenders: model.update(lent=[1] * len(model["lent"])), "R13"),
        (lambda model, lenders: model["lent"].insert(0, model["lent"].pop()), "R13"),
        (lambda model, lenders: model.pop("blocks"), "R7"),
    ],
)
def test_lenders_that_do_not_fit_are_damage(
    change: Any, rule: str, library: Library, model: Model, tmp_path: Path
) -> None:
    kept(library, model, written(tmp_path / "a.txt", FIRST))
    other = kept(library, model, written(tmp_path / "b.txt", SECOND)).path
    assert other is not None
    header, rows = sections_of(other)
    lenders = [dict(lender) for lender in header.lenders]
    change(header.model, lenders)

    def write_and_read() -> None:
        gfcache.write_cache(other, replace(header, lenders=tuple(lenders)), rows)
        gfcache.verify_cache(other)

    with pytest.raises((gfcache.UnwritableCache, gfcache.DamagedCache), match=rule):
        write_and_read()


def test_a_lender_without_the_block_is_damage(library: Library, model: Model, tmp_path: Path) -> None:
    kept(library, model, written(tmp_path / "a.txt", FIRST))
    other = kept(library, model, written(tmp_path / "b.txt", SECOND)).path
    assert other is not None
    header, rows = sections_of(other)
    n = next(n for n, row in enumerate(rows) if row.kind == layout.BLOCK_TOKEN_IDS)
    at = sum(header.model["blocks"][: header.model["lent"].index(1)])
    ids = rows[n].array.copy()
    ids[at] += 1
    rows[n] = replace(rows[n], array=ids)
    gfcache.write_cache(other, header, rows)
    with pytest.raises(gfcache.DamagedCache, match="without the block"):
        gfcache.verify_cache(other)
