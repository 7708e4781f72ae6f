"""The index of a document: packed and taken up again it is the same, found anew where it does not belong."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldfinch.policies.base import BY_WORDS, MOST_COMPARED, best_blocks, hybrid
from goldfinch.policies.blocks import map_tokens, split_blocks
from goldfinch.policies.columns import pack_columns, unpack_columns
from goldfinch.policies.index import DocumentIndex, most_packed_bytes
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.weights.directory import ASSETS, DEFAULT_MODEL

ROOT = Path(__file__).parents[3]
TOKENIZER = read_tokenizer(ASSETS / DEFAULT_MODEL / "tokenizer.json")
SAMPLES = sorted(path for path in (ROOT / "docs" / "samples").iterdir() if path.suffix in (".txt", ".md", ".rst"))
POLICIES = [name for name in BY_WORDS if name != "hybrid" or vectors_at_hand()]
TABLE = "item,price,place\n" + "".join(f"item {n},{n * 7},shelf {n}\n" for n in range(150))


def of_text(text: str) -> tuple[DocumentIndex, DocumentIndex]:
    """The index of a text, found anew and from its packed form."""
    ids = TOKENIZER.encode(text)
    anew = DocumentIndex(TOKENIZER, ids)
    packed = anew.packed()
    assert packed is not None
    again = DocumentIndex(TOKENIZER, ids, packed)
    assert again.from_packed
    return anew, again


def assert_equal(anew: DocumentIndex, again: DocumentIndex) -> None:
    assert again.texts == anew.texts
    for one, other in ((anew.places.blocks, again.places.blocks), (anew.places.headings, again.places.headings)):
        assert all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    for name in ("counts", "sentences", "frequencies", "sentences_of", "lengths"):
        assert np.array_equal(getattr(anew.words, name), getattr(again.words, name)), name
    assert anew.words.text == again.words.text
    assert np.array_equal(again.packed(), anew.packed())


@pytest.mark.parametrize("text", [*SAMPLES, TABLE], ids=lambda text: getattr(text, "name", "table"))
def test_a_packed_index_is_the_one_found_anew(text: Path | str) -> None:
    anew, again = of_text(text if isinstance(text, str) else text.read_text())
    blocks = split_blocks(map_tokens(TOKENIZER, anew.token_ids.tolist()).text)
    assert len(anew) == len(blocks)
    assert_equal(anew, again)
    for policy in POLICIES:
        for question in ("Where is item 140?", "What does it say about power and the people?", "zyzzyva"):
            assert best_blocks(policy, again, question, 3) == best_blocks(policy, anew, question, 3)
    packed = anew.packed()
    assert packed is not None
    assert len(packed) < most_packed_bytes(len(anew.token_ids)) / 2


@settings(max_examples=60)
@given(st.text(max_size=300), st.integers(1, 4))
def test_any_text_has_an_index(text: str, times: int) -> None:
    assert_equal(*of_text((text + "\n\n") * times))


@settings(max_examples=60)
@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=60))
def test_any_token_ids_have_an_index(ids: list[int]) -> None:
    """Ids that no text gave, with halves of characters anywhere."""
    anew = DocumentIndex(TOKENIZER, ids)
    assert_equal(anew, DocumentIndex(TOKENIZER, ids, anew.packed()))


def test_a_block_is_decoded_from_its_own_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    _, again = of_text((ROOT / "docs" / "samples" / "us-constitution.txt").read_text())
    decoded = 0
    decode = TOKENIZER.decode

    def counted(ids: list[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return decode(ids)

    monkeypatch.setattr(TOKENIZER, "decode", counted)
    found = best_blocks("lexical", again, "Who shall be Commander in Chief of the Army?", 1)[0]
    assert decoded == 0
    assert "Commander in Chief" in again.text(found.block)
    assert decoded < len(again.token_ids) / 10


def test_what_does_not_belong_is_not_used() -> None:
    ids = TOKENIZER.encode(TABLE)
    packed = DocumentIndex(TOKENIZER, ids).packed()
    assert packed is not None
    assert DocumentIndex(TOKENIZER, ids, packed).from_packed
    other = DocumentIndex(TOKENIZER, ids[:-3], packed)
    assert not other.from_packed
    assert_equal(DocumentIndex(TOKENIZER, ids[:-3]), other)


def test_damaged_columns_are_not_used() -> None:
    """Whoever made the bytes: they are used whole or not at all, and questions work all the same."""
    ids, random = TOKENIZER.encode(TABLE), Random(1)
    packed = DocumentIndex(TOKENIZER, ids).packed()
    assert packed is not None
    refused = 0
    for _ in range(200):
        data = packed.copy()
        for _ in range(random.randrange(1, 4)):
            data[random.randrange(32, len(data))] = random.randrange(256)
        data = data[: random.choice((len(data), random.randrange(len(data))))]
        index = DocumentIndex(TOKENIZER, ids, data)
        refused += not index.from_packed
        found = best_blocks("lexical", index, "Where is item 140?", 2)
        assert all(0 <= first <= last <= len(ids) for f in found for first, last in f.rows)
        assert all(isinstance(index.text(f.block), str) for f in found)
    assert 0 < refused < 200


@pytest.mark.parametrize("what", ["billions of sentences", "other blocks", "no text"])
def test_an_index_that_somebody_made_up_takes_no_memory_and_leaves_nothing(what: str) -> None:
    """A few bytes of a stranger's cache stated sentences that take all memory; half of an index stayed in use."""
    ids = TOKENIZER.encode(TABLE)
    index = DocumentIndex(TOKENIZER, ids)
    packed = index.packed()
    assert packed is not None
    columns = [*index.places.columns(), *index.words.columns()]
    if what == "billions of sentences":
        columns[-2] = np.full(len(columns[-2]), (1 << 32) - 1)
    elif what == "other blocks":
        columns[-2], columns[-1] = np.append(columns[-2], 1), np.append(columns[-1], 1)
    else:
        columns[-6] = np.where(columns[-6] == ord("e"), 0xFF, columns[-6])
    forged = np.concatenate([packed[:32], np.frombuffer(pack_columns(columns), np.uint8)])
    found = DocumentIndex(TOKENIZER, ids, forged)
    assert not found.from_packed
    assert_equal(index, found)


def test_columns_and_back() -> None:
    columns = [np.array(values, np.int64) for values in ([], [0, 255], [256, 3], [1 << 16, 1 << 32 - 1])]
    data = pack_columns(columns)
    assert all(np.array_equal(one, other) for one, other in zip(columns, unpack_columns(data, 4), strict=True))
    for damaged in (b"", data[:-1], data + b"\0", b"\x03" + data[1:]):
        with pytest.raises(ValueError, match="bytes"):
            unpack_columns(damaged, 4)


def test_an_index_larger_than_it_is_worth_is_left_out() -> None:
    ids = TOKENIZER.encode("\ufdfa" * 3000)  # one character, eighteen when it is normalised
    index = DocumentIndex(TOKENIZER, ids)
    packed = index.packed()
    assert packed is None or len(packed) <= most_packed_bytes(len(ids))


@pytest.mark.skipif(not vectors_at_hand(), reason="the extra `find` is not installed")
def test_likeness_is_looked_at_in_the_best_blocks_by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    filler = "It lies by the sea and has many streets, which are full of people on most days. " * 9
    text = "\n\n".join(f"Town {n} is known for the trade of number {n}. {filler}" for n in range(MOST_COMPARED + 20))
    index, _ = of_text(text)
    assert len(index) > MOST_COMPARED
    compared: list[int] = []
    likeness = DocumentIndex.likeness
    monkeypatch.setattr(
        DocumentIndex, "likeness", lambda self, q, blocks: (compared.extend(blocks), likeness(self, q, blocks))[1]
    )
    scores = hybrid(index, "What is town 45 known for?")
    assert len(compared) == MOST_COMPARED
    assert 45 in compared
    assert int(scores.argmax()) == 45
    words = index.words.scores("What is town 45 known for?")
    left = sorted(set(range(len(index))) - set(compared))
    assert words[left].max() <= words[compared].min()
    assert np.ptp(scores[left] - words[left]) < 1e-12
