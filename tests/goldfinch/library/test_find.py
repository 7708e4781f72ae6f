"""Many documents searched as one: the right block first, the index kept up with the caches and never trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gfcache
import pytest
from gfcache import Store

import goldfinch
from goldfinch.errors import ModelNotFound
from goldfinch.library import find, known
from goldfinch.library.find import Collection, Texts, members_of_files, members_of_library, members_of_texts, open_words
from goldfinch.library.library import Library
from goldfinch.policies.collection import BlockWords
from goldfinch.policies.lexical import WordIndex
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.text.documents import document_of_bytes
from goldfinch.text.prompt import document_token_ids
from goldfinch.weights.directory import read_card

TRADES = {"Aberdeen": "granite", "Bristol": "tobacco", "Cardiff": "coal", "Dundee": "jute", "Exeter": "wool"}
FILLER = "It lies by the sea and has many streets, full of people on most days. " * 9


def text_of(place: str) -> str:
    return f"# {place}\n\n{place} is a town. {FILLER}\n\nIts people trade in {TRADES[place]}, on Mondays. {FILLER}\n"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture
def library(model: goldfinch.LanguageModel, tmp_path: Path) -> Library:
    """A library of five documents, and nothing known of their words yet."""
    found = Library(Store(tmp_path / "store"))
    for place in TRADES:
        found.get(model, document_of_bytes(text_of(place).encode(), f"{place}.txt", Path("/kb") / f"{place}.txt"))
    return found


@pytest.fixture
def files(model: goldfinch.LanguageModel, tmp_path: Path) -> list[Path]:
    (tmp_path / "kb").mkdir()
    paths = []
    for place in TRADES:
        ids, span = document_token_ids(model, text_of(place))
        source = {"name": f"{place}.txt", "path": None, "sha256": None, "bytes": None, "modified_at": None}
        goldfinch.prefill(model, ids, document_range=span, source=source).save(tmp_path / "kb" / f"{place}.gfc")
        paths.append(tmp_path / "kb" / f"{place}.gfc")
    return paths


def searched(
    library: Library, tiny_model: Path, progress: find.Progress | None = None, likeness: bool | None = None
) -> Collection:
    entries = library.store.entries()
    members, obstacles = members_of_library(library.store, entries)
    assert not obstacles
    words, texts = open_words(library.store, entries), Texts(read_card(tiny_model))
    return Collection(members, words, texts, in_store=True, by_likeness=likeness, progress=progress)


def first_names(collection: Collection) -> list[str]:
    questions = [f"Who trades in {trade}?" for trade in TRADES.values()]
    return [Path(collection.search(question, 1)[0].member.name).stem for question in questions]


@pytest.mark.parametrize("likeness", [False, *([True] if vectors_at_hand() else [])])
def test_the_right_block_is_found(likeness: bool, library: Library, tiny_model: Path) -> None:
    collection = searched(library, tiny_model, likeness=likeness)
    assert first_names(collection) == list(TRADES)
    place = collection.search("Who trades in jute?", 1)[0]
    assert place.member.name == "/kb/Dundee.txt"
    assert place.text.startswith("Its people trade in jute")
    assert (place.found.first_line, place.found.last_line) == (5, 5)
    assert collection.search("zyzzyva", 5) == []
    documents = list(collection.documents("Which town lies by the sea?"))
    assert len({places[0].member.name for places in documents}) == len(documents) == len(TRADES)
    assert all(len({place.member for place in places}) == 1 for places in documents)
    assert next(collection.documents("Which town lies by the sea?")) == documents[0]


def test_prefill_keeps_the_words(library: Library, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockWords, "of", lambda texts: pytest.fail("found again"))
    assert len(searched(library, tiny_model).members) == len(TRADES)


def test_the_index_is_made_again_when_it_is_lost(library: Library, tiny_model: Path) -> None:
    expected = [p.found for p in searched(library, tiny_model).search("people of the town by the sea", 9)]
    library.store.words(None).path.unlink()
    steps: list[tuple[int, int]] = []
    again = searched(library, tiny_model, lambda *step: steps.append(step))
    assert [p.found for p in again.search("people of the town by the sea", 9)] == expected
    assert steps == [(n, 5) for n in range(6)]
    steps.clear()
    searched(library, tiny_model, lambda *step: steps.append(step))
    assert steps == []


def test_it_follows_what_changes(library: Library, model: goldfinch.LanguageModel, tiny_model: Path) -> None:
    changed = text_of("Cardiff").replace("coal", "slate")
    library.get(model, document_of_bytes(changed.encode(), "Cardiff.txt", Path("/kb/Cardiff.txt")))
    collection = searched(library, tiny_model)
    assert len(collection.members) == len(TRADES)
    assert "slate" in collection.search("Who trades in slate?", 1)[0].text
    assert all("coal" not in place.text for place in collection.search("Who trades in coal?", 9))
    entries = library.store.entries()
    library.store.remove([entry for entry in entries if entry.source_name == "Dundee.txt"])
    library.store.path(next(e for e in entries if e.source_name == "Exeter.txt")).unlink()
    names = {Path(member.name).stem for member in searched(library, tiny_model).members}
    assert names == {"Aberdeen", "Bristol", "Cardiff"}
    with open_words(library.store) as words:
        assert len(words.of([entry.digest for entry in entries])) == 3


def test_a_text_that_is_cached_twice_is_found_once(library: Library, other_model: Path, tiny_model: Path) -> None:
    document = document_of_bytes(text_of("Dundee").encode(), "Dundee.txt", Path("/elsewhere/Dundee.txt"))
    library.get(goldfinch.load_model(other_model), document)
    collection = searched(library, tiny_model)
    assert len(collection.members) == len(TRADES)
    assert collection.search("Who trades in jute?", 1)[0].member.name == "/elsewhere/Dundee.txt"


def test_cache_files_anywhere(files: Sequence[Path], tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gfc"
    broken.write_bytes(b"no cache")
    members, obstacles = members_of_files([*files, files[0], broken, tmp_path / "none.gfc"])
    assert [o.name for o in obstacles] == [str(broken), str(tmp_path / "none.gfc")]
    before = sorted(path.name for path in files[0].parent.iterdir())
    store = Store(tmp_path / "store")
    for _ in range(2):
        collection = Collection(members, open_words(store), Texts(read_card(tiny_model)))
        assert first_names(collection) == list(TRADES)
        assert not collection.obstacles
    assert sorted(path.name for path in files[0].parent.iterdir()) == before
    assert store.words(None).path.exists()
    assert store.entries() == []


def test_what_cannot_be_read_is_named_and_the_others_are_found(
    files: Sequence[Path], tiny_model: Path, tmp_path: Path
) -> None:
    store, texts = Store(tmp_path / "store"), Texts(read_card(tiny_model))
    members, _ = members_of_files(files)
    collection = Collection(members, open_words(store), texts)
    files[3].unlink()
    files[4].write_bytes(files[0].read_bytes())
    assert {Path(p[0].member.name).stem for p in collection.documents("town trade sea people")} == set(list(TRADES)[:3])
    assert sorted(o.name for o in collection.obstacles) == ["Dundee.txt", "Exeter.txt"]
    assert {type(o.error) for o in collection.obstacles} == {FileNotFoundError, gfcache.CacheFormatError}


def test_a_cache_whose_tokenizer_is_not_here(files: Sequence[Path], tmp_path: Path) -> None:
    members, _ = members_of_files(files)
    collection = Collection(members, open_words(Store(tmp_path / "store")), Texts())
    assert collection.members == []
    assert collection.search("town", 3) == []
    assert all(isinstance(obstacle.error, ModelNotFound) for obstacle in collection.obstacles)
    assert len(collection.obstacles) == len(TRADES)


def test_words_that_somebody_planted_name_no_block_that_is_not_there(
    files: Sequence[Path], tiny_model: Path, tmp_path: Path
) -> None:
    store, texts = Store(tmp_path / "store"), Texts(read_card(tiny_model))
    members, _ = members_of_files(files)
    Collection(members, open_words(store), texts)
    planted = BlockWords.of(WordIndex.of([[""]] * 50 + [["jute"]])).pack()
    rows = {members[0].digest: planted, members[1].digest: b"never was any"}
    with open_words(store) as words:
        words.put(rows, kept=False)
    collection = Collection(members, open_words(store), texts)
    assert [Path(p[0].member.name).stem for p in collection.documents("jute")] == ["Dundee"]
    with open_words(store) as words:
        assert words.of(rows)[members[1].digest] != b"never was any"
        assert members[0].digest not in words.of(rows)


def test_texts_of_a_folder(library: Library) -> None:
    entries = library.store.entries()
    texts = {f"kb/{e.source_name}": str(e.source_sha256) for e in entries} | {"kb/new.txt": "0" * 64}
    texts["kb/A-copy.txt"] = texts["kb/Bristol.txt"]
    members, missing = members_of_texts(library.store, entries, texts)
    assert missing == ["kb/new.txt"]
    assert [m.name for m in members] == sorted(["kb/A-copy.txt", *(f"kb/{p}.txt" for p in TRADES if p != "Bristol")])
    assert members_of_texts(library.store, entries, texts, entries[0].identity)[0] == members
    assert members_of_texts(library.store, entries, texts, "of another model")[0] == []


def test_a_cache_that_nobody_knows_is_of_no_text(library: Library) -> None:
    entries = library.store.entries()
    texts = {str(e.source_name): str(e.source_sha256) for e in entries}
    assert members_of_texts(library.store, entries, texts)[1] == []
    known.forget(next(e.digest for e in entries if e.source_name == "Cardiff.txt"))
    assert members_of_texts(library.store, entries, texts)[1] == ["Cardiff.txt"]
