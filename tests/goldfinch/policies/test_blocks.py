"""Blocks: they cover the text, keep to their sizes, keep tables readable; tokens map to characters and lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goldfinch.policies.blocks import LEAST, MOST, Block, Pieces, map_tokens, sentences_of, split_blocks, text_of
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.weights.directory import ASSETS, DEFAULT_MODEL

ROOT = Path(__file__).parents[3]
TOKENIZER = read_tokenizer(ASSETS / DEFAULT_MODEL / "tokenizer.json")
SAMPLES = sorted(path for path in (ROOT / "docs" / "samples").iterdir() if path.suffix != ".jsonl")


def check_cover(text: str, blocks: list[Block]) -> None:
    assert "".join(text[block.start : block.end] for block in blocks) == (text if blocks else "")
    assert all(block.end > block.start for block in blocks)


@given(st.text(alphabet=st.sampled_from("ab. \n\t|,;-。!é\r"), max_size=4000))
def test_blocks_cover_any_text(text: str) -> None:
    blocks = split_blocks(text)
    check_cover(text, blocks)
    assert bool(blocks) == bool(text.strip())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_blocks_of_real_documents_have_their_sizes(path: Path) -> None:
    text = path.read_text()
    blocks = split_blocks(text)
    check_cover(text, blocks)
    assert max(len(text[b.start : b.end].strip()) for b in blocks) <= MOST
    small = [b for b in blocks if b.end - b.start < LEAST]
    assert len(small) <= max(1, len(blocks) // 4)
    assert blocks == split_blocks(text)


def test_a_paragraph_of_usual_length_is_a_block() -> None:
    paragraphs = [f"Paragraph {n}. " + "Some words that say something. " * 20 for n in range(5)]
    text = "\n\n".join(paragraphs)
    assert [text[b.start : b.end].strip() for b in split_blocks(text)] == [p.strip() for p in paragraphs]


def test_a_title_goes_with_what_follows() -> None:
    body = "Some words that say something. " * 25
    text = f"{body}\n\n## Opening hours\n\n{body}"
    assert [text[b.start : b.end].startswith("## Opening") for b in split_blocks(text)] == [False, True]


@pytest.mark.parametrize(
    ("heading", "row"),
    [
        ("| item | price | place |\n|---|---|---|\n", "| item {n} | {n}.50 | shelf {n} |\n"),
        ("item,price,place\n", "item {n},{n}.50,shelf {n}\n"),
        ("item\tprice\tplace\n", "item {n}\t{n}.50\tshelf {n}\n"),
        ("item        price     place\n----------  --------  ------\n", "item {n:<5}  {n:<8}  shelf {n}\n"),
    ],
)
def test_parts_of_a_table_have_its_heading(heading: str, row: str) -> None:
    text = heading + "".join(row.format(n=n) for n in range(120))
    blocks = split_blocks(text)
    check_cover(text, blocks)
    assert len(blocks) > 2
    for block in blocks:
        assert block.text(text).startswith(heading)
        assert text[block.start : block.end].endswith("\n")
    assert all(block.heading == (0, len(heading)) for block in blocks[1:])


def test_a_title_of_a_table_is_part_of_its_heading() -> None:
    text = "Prices of 2024\n\n" + "item,price,place\n" + "".join(f"item {n},{n},shelf {n}\n" for n in range(120))
    assert all(block.text(text).startswith("Prices of 2024") for block in split_blocks(text))


def test_prose_with_commas_is_no_table() -> None:
    sentence = "Then, after a while, they went home, slept, and rose again, all of them, without a word.\n"
    assert all(block.heading is None for block in split_blocks(sentence * 60))


def test_one_line_without_sentences_is_cut_at_blanks() -> None:
    text = "word " * 2000
    blocks = split_blocks(text)
    check_cover(text, blocks)
    assert len(blocks) >= len(text) // MOST
    assert all(text[b.start : b.end].startswith("word") for b in blocks)
    assert len(split_blocks("x" * 5000)) == 5


def test_east_asian_sentences_are_ends_too() -> None:
    text = "東京は日本の首都です。" * 300
    assert all(text[b.start : b.end].endswith("。") for b in split_blocks(text))
    assert sentences_of("東京です。大阪です。") == ["東京です。", "大阪です。"]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_tokens_lie_where_they_are_in_the_text(path: Path) -> None:
    text = path.read_text()
    ids = TOKENIZER.encode(text)
    tokens = map_tokens(TOKENIZER, ids)
    assert tokens.text == TOKENIZER.decode(ids)
    assert len(tokens.starts) == len(ids)
    assert tokens.starts == sorted(tokens.starts)
    for block in split_blocks(tokens.text):
        first, last = tokens.tokens(block.start, block.end)
        assert TOKENIZER.decode(ids[first:last]).strip("\ufffd\n ") in tokens.text
    for n in range(0, len(ids), 97):
        assert tokens.line(tokens.starts[n]) == tokens.text[: tokens.starts[n]].count("\n") + 1


@given(st.text(max_size=300))
def test_any_text_maps(text: str) -> None:
    ids = TOKENIZER.encode(text)
    tokens = map_tokens(TOKENIZER, ids)
    assert tokens.text == TOKENIZER.decode(ids)
    assert tokens.tokens(0, len(tokens.text) + 1) == (0, len(ids))


def test_blanks_stay_where_a_decoder_drops_the_first(tmp_path: Path) -> None:
    """Llama 2's drops the blank before the first word of what it decodes, a single token included."""
    pieces = {f"<0x{b:02X}>": b for b in range(256)} | {
        "\u2581": 256,
        "a": 257,
        "b": 258,
        "\u2581a": 259,
        "\u2581b": 260,
    }
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    first = [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    ]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    values = {
        "added_tokens": [], "normalizer": {"type": "Sequence", "normalizers": first}, "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]},
        "model": {"type": "BPE", "vocab": pieces, "merges": ["\u2581 a", "\u2581 b"], "byte_fallback": True},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    tokenizer = read_tokenizer(tmp_path / "tokenizer.json")
    text = "a b  a\nab é b"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == map_tokens(tokenizer, ids).text == text
    assert map_tokens(tokenizer, ids[1:], begins=False).text == text[1:]
    assert [text_of(tokenizer, ids[n:], not n, Pieces(tokenizer, ids)) for n in range(2)] == [text, text[1:]]


@given(st.text(max_size=100), st.integers(0, 20), st.integers(0, 100))
def test_a_part_of_any_text_is_the_text_of_its_tokens_one_by_one(text: str, start: int, length: int) -> None:
    """Parts that begin or end inside a character included."""
    ids = TOKENIZER.encode(text)
    pieces, part = Pieces(TOKENIZER, ids), ids[start : start + length]
    assert text_of(TOKENIZER, part, not start, pieces) == map_tokens(TOKENIZER, part, begins=not start).text
