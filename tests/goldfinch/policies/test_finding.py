"""Finding: words in any script, BM25 by its formula, likeness, the rows that are read."""

from __future__ import annotations

import math

import numpy as np
import pytest

import goldfinch
from goldfinch.policies.base import BY_WORDS, best_blocks, rows_to_read
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.lexical import K1, B, WordIndex
from goldfinch.policies.measured import WHOLE, record_of
from goldfinch.policies.places import Found
from goldfinch.policies.vectors import WordVectors, vectors_at_hand
from goldfinch.policies.words import words_of
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.weights.directory import ASSETS, DEFAULT_MODEL

TOKENIZER = read_tokenizer(ASSETS / DEFAULT_MODEL / "tokenizer.json")
POLICIES = [name for name in BY_WORDS if name != "hybrid" or vectors_at_hand()]
PLACES = {"Aberdeen": "granite", "Bristol": "chocolate", "Cardiff": "coal", "Dundee": "marmalade", "Exeter": "wool"}


def index_of(text: str) -> DocumentIndex:
    return DocumentIndex(TOKENIZER, TOKENIZER.encode(text))


def document() -> str:
    filler = "It lies by the sea and has many streets, which are full of people on most days. " * 9
    return "\n\n".join(f"{place} is known for {thing}. {filler}" for place, thing in PLACES.items())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The WALKERS walked", ["the", "walker", "walk"]),
        ("Straße STRASSE", ["strass", "strass"]),
        ("naïve Ångström", ["naïve", "ångström"]),
        ("A-113, B_7", ["a", "113", "b", "7"]),
        ("東京都 wa", ["東京", "京都", "wa"]),
        ("字", ["字"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_words_in_common_are_the_formula() -> None:
    blocks = [["Red apple.", "An apple."], ["green pear"], ["red wine", "red grapes", "blue sea"]]
    lengths = np.array([4, 2, 6])

    def idf(sentences: int) -> float:
        return math.log(1 + (6 - sentences + 0.5) / (sentences + 0.5))

    red, apple = idf(3), idf(2)
    counts_red, counts_apple = np.array([1, 0, 2]), np.array([2, 0, 0])
    norm = K1 * (1 - B + B * lengths / lengths.mean())
    bm25 = red * counts_red / (counts_red + norm) + apple * counts_apple / (counts_apple + norm)
    together = np.array([red + apple, 0, red])
    expected = (2 * bm25 + together) / (red + apple)
    np.testing.assert_allclose(WordIndex.of(blocks).scores("Red apples?"), expected, rtol=1e-12)
    assert not WordIndex.of(blocks).scores("zebra").any()
    assert not WordIndex.of(blocks).scores("").any()
    assert WordIndex.of([]).scores("red").shape == (0,)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("place", PLACES)
def test_the_right_block_is_found(policy: str, place: str) -> None:
    text = document()
    index = index_of(text)
    best = best_blocks(policy, index, f"What is {place} known for?", 2)
    assert len(best) == 2
    assert index.texts[best[0].block].startswith(place)
    assert best[0].score > best[1].score
    line = best[0].first_line
    assert best[0].last_line == line
    assert text.split("\n")[line - 1].startswith(place)


@pytest.mark.skipif(not vectors_at_hand(), reason="the extra `find` is not installed")
def test_likeness_finds_other_words() -> None:
    index = index_of(document())
    best = best_blocks("hybrid", index, "Where do they make sweets and candy from cocoa?", 1)
    assert index.texts[best[0].block].startswith("Bristol")
    assert best_blocks("lexical", index, "Where do they make sweets and candy from cocoa?", 1)[0].block == 0


def test_words_that_matched() -> None:
    index = index_of(document())
    best = best_blocks("lexical", index, "What is Dundee known for?", 1)[0]
    assert index.words.matched("What is Dundee known for?", best.block)[0] == "dunde"


def test_rows_of_a_table_part_have_its_heading() -> None:
    text = "item,price,place\n" + "".join(f"item {n},{n * 7},shelf {n}\n" for n in range(150))
    index = index_of(text)
    best = best_blocks("lexical", index, "Where is item 140?", 1)[0]
    ids = TOKENIZER.encode(text)
    read = "".join(TOKENIZER.decode(ids[first:last]) for first, last in best.rows)
    assert read.startswith("item,price,place")
    assert "item 140,980,shelf 140" in read


def test_rows_to_read_are_disjoint_and_hold_both_ends() -> None:
    found = [Found(0, 1.0, 1, 1, ((5, 9), (20, 30))), Found(1, 0.5, 2, 2, ((8, 12),))]
    assert rows_to_read(found, 2, 100, 7) == [(0, 1), (7, 14), (22, 32), (93, 100)]
    assert rows_to_read([], 0, 3, 7) == [(0, 3)]


@pytest.mark.skipif(not vectors_at_hand(), reason="the extra `find` is not installed")
def test_parts_of_a_table_are_told_apart_by_their_words() -> None:
    rows = [f"{name}{n},{n * 7 % 100},shelf {n}\n" for n in range(25) for name in ("lamp", "stool", "kettle")]
    index = index_of("item,price,place\n" + "".join(rows))
    assert len(index) > 1
    for row in rows[::7]:
        name = row.split(",")[0]
        best = best_blocks("hybrid", index, f"What is the price of {name}?", 1)[0]
        assert row in index.texts[best.block]


def test_the_embedded_model_has_a_measured_reading() -> None:
    card = next(card for card in goldfinch.list_models() if card.name == DEFAULT_MODEL)
    assert record_of(card.model_fingerprint, None).reading(4000) != WHOLE
    assert record_of("0" * 64, None).reading(4000) == WHOLE
    assert record_of(None, None).reading(4000) == WHOLE


def test_the_sum_of_a_text_is_that_of_its_weighted_pieces() -> None:
    vectors = WordVectors.__new__(WordVectors)
    vectors._vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    texts, weights = [[3, 7, 3, 49], [], [7, 0]], {3: 0.5, 7: 2.0}
    expected = [
        sum((weights.get(i, 1.5) * vectors._vectors[i].astype(float) for i in text), np.zeros(8)) for text in texts
    ]
    assert np.allclose(vectors.sums(texts, weights, 1.5), expected, rtol=1e-12, atol=0)
    assert vectors.sums([[]], weights, 1.5).tolist() == [[0.0] * 8]
