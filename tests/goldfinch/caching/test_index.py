"""A document's blocks and words in its file: questions find them there, read few rows, and answer as without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
import torch
from gfcache import layout
from gfcache.format.reader import CacheFile

import goldfinch
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.policies.index import DocumentIndex
from goldfinch.text.prompt import document_token_ids

PLACES = [f"Town {n}" for n in range(40)]
FILLER = "It lies by the sea and has many streets, full of people on most days. " * 9
TEXT = "\n\n".join(f"{place} is known for its number {n} trade. {FILLER}" for n, place in enumerate(PLACES))
QUESTION = "What trade is Town 17 known for?"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture(scope="module")
def made(model: goldfinch.LanguageModel) -> DocumentCache:
    ids, span = document_token_ids(model, TEXT)
    return goldfinch.prefill(model, ids, document_range=span)


@pytest.fixture
def path(made: DocumentCache, tmp_path: Path) -> Path:
    replace(made).save(tmp_path / "doc.gfc")
    return tmp_path / "doc.gfc"


def sections(path: Path) -> list[str]:
    with gfcache.read_cache(path) as file:
        return [section.kind for section in file.header.sections]


def test_the_index_in_the_file_is_the_documents(path: Path, made: DocumentCache, model) -> None:
    opened = goldfinch.open_cache(path, model, asking=True)
    index = opened.document_index()
    assert index is not None
    assert index.from_packed
    assert index.texts == DocumentIndex(model.tokenizer, made.own_token_ids).texts
    with gfcache.read_cache(path) as file:
        (section,) = file.header.of_kind(layout.DOCUMENT_INDEX)
        assert not section.required
        assert section.stored_bytes < 4 * made.length
    assert gfcache.verify_cache(path, complete=True).tokens == made.length


def test_equal_documents_have_equal_files(made: DocumentCache, tmp_path: Path) -> None:
    at = "2026-01-01T00:00:00+00:00"
    for name in ("one.gfc", "two.gfc"):
        replace(made).save(tmp_path / name, created_at=at)
    assert (tmp_path / "one.gfc").read_bytes() == (tmp_path / "two.gfc").read_bytes()


@pytest.mark.parametrize("read", ["lexical", "all"])
def test_asked_with_and_without_it(read: str, made: DocumentCache, model, tmp_path: Path) -> None:
    """From the file, from a file as earlier versions wrote it, and without ever saving: the same bits."""
    replace(made).save(tmp_path / "with.gfc")
    replace(made).save(tmp_path / "without.gfc", index=False)
    assert layout.DOCUMENT_INDEX not in sections(tmp_path / "without.gfc")
    caches = [replace(made), *(goldfinch.open_cache(tmp_path / f"{n}.gfc", model) for n in ("with", "without"))]
    caches += [goldfinch.open_cache(tmp_path / f"{n}.gfc", model, asking=True) for n in ("with", "without")]
    sessions = [goldfinch.Session(model, cache, read=read) for cache in caches]
    ids = sessions[0].question_token_ids(QUESTION)
    readings = [session.reader.read(QUESTION) for session in sessions]
    logits = [
        session.start(ids, session.state_for(reading))[0] for session, reading in zip(sessions, readings, strict=True)
    ]
    assert all(reading == readings[0] for reading in readings)
    assert all(torch.equal(found, logits[0]) for found in logits)


def test_a_question_reads_its_rows_alone(path: Path, made: DocumentCache, model, monkeypatch: Any) -> None:
    read: list[int] = []
    rows, decode, decoded = CacheFile.rows, model.tokenizer.decode, 0
    monkeypatch.setattr(
        CacheFile, "rows", lambda self, section, a, b: (read.append(b - a), rows(self, section, a, b))[1]
    )

    def counted(ids: list[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return decode(ids)

    monkeypatch.setattr(model.tokenizer, "decode", counted)
    before = path.read_bytes()
    cache = goldfinch.open_cache(path, model, asking=True)
    session = goldfinch.Session(model, cache, read="lexical")
    reading = session.reader.read(QUESTION)
    session.start(session.question_token_ids(QUESTION), session.state_for(reading))
    assert 0 < sum(read) < made.length / 4
    assert decoded == 0
    assert cache.compressed_k is None
    assert path.read_bytes() == before
    session = goldfinch.Session(model, cache, read="all")
    assert torch.equal(cache.compressed_k, made.compressed_k)


def test_one_that_is_of_another_document_is_not_used(made: DocumentCache, model, tmp_path: Path) -> None:
    ids, span = document_token_ids(model, "Another text. " * 40)
    other = goldfinch.prefill(model, ids, document_range=span)
    other.save(tmp_path / "other.gfc")
    with gfcache.read_cache(tmp_path / "other.gfc") as file:
        foreign = file.array(file.header.of_kind(layout.DOCUMENT_INDEX)[0])
    index = replace(made, index=np.array(foreign)).document_index()
    assert index is not None
    assert not index.from_packed
    assert index.texts == DocumentIndex(model.tokenizer, made.own_token_ids).texts


def test_one_that_is_of_another_document_is_not_saved(made: DocumentCache, model, tmp_path: Path) -> None:
    replace(made, index=np.zeros(40, np.uint8)).save(tmp_path / "doc.gfc")
    index = goldfinch.open_cache(tmp_path / "doc.gfc", model).document_index()
    assert index is not None
    assert index.from_packed


def test_models_without_a_tokenizer_write_none(made: DocumentCache, tmp_path: Path) -> None:
    replace(made, tokenizer=None).save(tmp_path / "doc.gfc")
    assert layout.DOCUMENT_INDEX not in sections(tmp_path / "doc.gfc")
    assert layout.ROW_DIGESTS in sections(tmp_path / "doc.gfc")


def test_what_was_opened_to_be_asked_can_be_saved(path: Path, made: DocumentCache, model, tmp_path: Path) -> None:
    goldfinch.open_cache(path, model, asking=True).save(tmp_path / "again.gfc")
    again = goldfinch.open_cache(tmp_path / "again.gfc", model)
    assert torch.equal(again.compressed_k, made.compressed_k)
    assert sections(tmp_path / "again.gfc") == sections(path)
