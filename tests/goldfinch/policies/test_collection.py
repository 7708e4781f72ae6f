"""Finding among many documents: equal to BM25 over their blocks, whatever else is kept; what is kept is small and checked."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
import zstandard

from goldfinch.policies import collection
from goldfinch.policies.collection import DOCUMENT_SHARE, BlockWords, CollectionIndex, compared, word_hash
from goldfinch.policies.lexical import K1, B, WordIndex
from goldfinch.policies.vectors import vectors_at_hand
from goldfinch.policies.words import words_of

PLACES = ("Aberdeen", "Bristol", "Cardiff", "Dundee", "Exeter", "Falmouth")
WORDS = [
    *PLACES,
    *[
        "the",
        "a",
        "lies",
        "by",
        "sea",
        "and",
        "has",
        "many",
        "streets",
        "full",
        "of",
        "people",
        "harbour",
        "trade",
        "rope",
        "ships",
        "coal",
        "tin",
    ],
]


def made_up(documents: int, seed: int = 1) -> list[list[str]]:
    rng = Random(seed)
    return [
        [" ".join(rng.choice(WORDS) for _ in range(rng.randrange(5, 60))) for _ in range(rng.randrange(1, 6))]
        for _ in range(documents)
    ]


def words_in(texts: list[str]) -> BlockWords:
    return BlockWords.of(WordIndex.of([[text] for text in texts]))


def bm25(texts: list[str], question: str) -> np.ndarray:
    """BM25 of each text, word by word as its formula stands."""
    words = [words_of(text) for text in texts]
    mean = sum(map(len, words)) / len(words)
    scores = np.zeros(len(texts))
    for word in sorted(set(words_of(question))):
        holding = sum(word in found for found in words)
        idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
        for n, found in enumerate(words):
            f = found.count(word)
            scores[n] += idf * f * (K1 + 1) / (f + K1 * (1 - B + B * len(found) / mean))
    return scores


def test_scores_are_those_of_bm25() -> None:
    texts, question = made_up(40), "What trade has Bristol by the sea?"
    index = CollectionIndex([words_in(blocks) for blocks in texts])
    blocks, documents, most = index.scores(question)
    np.testing.assert_allclose(blocks, bm25([text for of_document in texts for text in of_document], question))
    np.testing.assert_allclose(documents, bm25(["\n".join(of_document) for of_document in texts], question))
    assert (blocks + DOCUMENT_SHARE * documents[index._owner]).max() < most


def test_the_best_blocks_come_first() -> None:
    texts = [[f"{place} lies by the sea. " * 9, f"The trade of {place} is {place[::-1]}."] for place in PLACES]
    index = CollectionIndex([words_in(blocks) for blocks in texts])
    for n, place in enumerate(PLACES):
        first = index.best(f"What is the trade of {place}?", 3)[0]
        assert (first.document, first.block) == (n, 1)
    blocks, documents, most = index.scores("trade of Bristol")
    best = index.best("trade of Bristol", 1)[0]
    assert best.score == pytest.approx((blocks[3] + DOCUMENT_SHARE * documents[1]) / most)
    assert 0 < best.score < 1


def test_equals_keep_their_order_and_strangers_have_none() -> None:
    index = CollectionIndex([words_in(["one rope", "one rope"]), words_in(["one rope"])])
    assert [(c.document, c.block) for c in index.best("rope", 9)] == [(0, 0), (0, 1), (1, 0)]
    assert index.best("zyzzyva", 9) == []
    assert index.best("", 9) == []
    assert CollectionIndex([]).best("rope", 9) == []


def test_bytes_and_back() -> None:
    for blocks in (*made_up(20, seed=2), [], [""], ["λόγος 語 naïve"], ["rope " * 70_000]):
        kept = words_in(blocks)
        again = BlockWords.unpack(kept.pack())
        for name in ("hashes", "counts", "blocks", "frequencies", "lengths"):
            assert np.array_equal(getattr(again, name), getattr(kept, name)), name
        assert kept.pack() == words_in(blocks).pack()


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "no frame", "too large", "counts", "blocks", "sums", "no words twice"]
)
def test_bytes_of_others_are_refused(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = words_in(made_up(1, seed=3)[0])
    data = kept.pack()
    raw = zstandard.ZstdDecompressor().decompress(data)
    if damage == "empty":
        data = b""
    elif damage == "cut":
        data = data[:-3]
    elif damage == "no frame":
        data = bytes(100)
    elif damage == "too large":
        monkeypatch.setattr(collection, "MOST_BYTES", 50)
    elif damage == "counts":
        data = zstandard.compress(raw[:4] + b"\xff" * 4 + raw[8:])
    elif damage == "blocks":
        data = BlockWords(kept.hashes, kept.counts, kept.blocks + 100, kept.frequencies, kept.lengths).pack()
    elif damage == "sums":
        data = BlockWords(kept.hashes, kept.counts + 1, kept.blocks, kept.frequencies, kept.lengths).pack()
    else:
        data = BlockWords(kept.hashes * 0, kept.counts, kept.blocks, kept.frequencies, kept.lengths).pack()
    with pytest.raises(ValueError):  # noqa: PT011  damage has many words
        BlockWords.unpack(data)


def test_random_bytes_never_do_more_than_fail() -> None:
    data, random = words_in(made_up(1, seed=4)[0]).pack(), Random(5)
    raw = zstandard.ZstdDecompressor().decompress(data)
    refused = 0
    for _ in range(300):
        altered = bytearray(raw)
        for _ in range(random.randrange(1, 4)):
            altered[random.randrange(len(raw))] ^= 1 << random.randrange(8)
        try:
            found = BlockWords.unpack(zstandard.compress(bytes(altered)))
        except ValueError:
            refused += 1
            continue
        CollectionIndex([found]).best("trade of Bristol by the sea", 5)
    assert refused


def test_hashes_are_the_same_everywhere() -> None:
    assert word_hash("rope") == 0x762F0
    assert len({word_hash(f"word{n}") for n in range(5000)}) > 4990


@pytest.mark.skipif(not vectors_at_hand(), reason="the extra find is not installed")
def test_likeness_decides_between_equal_words() -> None:
    texts = ["The bank lends money to people who buy a house.", "The bank of the river is steep and muddy."]
    found = compared("Which bank has wet earth beside the stream?", texts, [1.0, 1.0])
    assert found[1] > found[0]
