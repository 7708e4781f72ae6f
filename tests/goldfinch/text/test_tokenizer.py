"""Tokenizers give back what they were given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyrwkv_tokenizer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goldfinch.errors import TokenizerError
from goldfinch.text.tokenizer import Tokenizer, read_tokenizer
from tests.conftest import SAMPLES

HARD = "naïve 😀👨‍👩‍👧 \x00\x07 עברית العربية हिन्दी ไทย 한국어\r\n\t  日本語 a\u0301 <|endoftext|> <|end|> 12345"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary file in the published form: every byte, some words, tokens that are no valid UTF-8."""
    words = ["the", " the", "then", "Привет", "你好", "12", "  ", "\n\n", "it's"]
    lines = [f"{1 + b} {bytes([b])!r} 1" if b > 127 else f"{1 + b} {chr(b)!r} 1" for b in range(256)]
    lines += [f"{257 + i} {word!r} {len(word.encode())}" for i, word in enumerate(words)]
    lines.append(f"{257 + len(words)} {bytes([0xE4, 0xBD])!r} 2")
    path = tmp_path_factory.mktemp("world") / "rwkv_vocab.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_samples_round_trip(world: Path, tiny_tokenizer: Path) -> None:
    for file in (world, tiny_tokenizer):
        tokenizer = read_tokenizer(file)
        for sample in SAMPLES.iterdir():
            text = sample.read_text()
            assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.decode(tokenizer.encode(HARD)) == HARD
        assert max(tokenizer.encode(HARD)) < tokenizer.vocab_size


@settings(deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_text_round_trips(text: str, world: Path, tiny_tokenizer: Path) -> None:
    for file in (world, tiny_tokenizer):
        tokenizer = read_tokenizer(file)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_world_takes_the_longest_match(world: Path) -> None:
    tokenizer = read_tokenizer(world)
    ids = tokenizer.encode("then the")
    assert ids == [259, 258]
    assert tokenizer.encode("你") == [266, 1 + 0xA0]  # 你 = E4 BD A0


def test_text_cannot_forge_a_special_token(tiny_tokenizer: Path) -> None:
    assert not {0, 1} & set(read_tokenizer(tiny_tokenizer).encode("a <|endoftext|> b <|end|>"))


def test_the_fingerprint_is_that_of_the_file(tiny_tokenizer: Path) -> None:
    import hashlib

    assert read_tokenizer(tiny_tokenizer).fingerprint == hashlib.sha256(tiny_tokenizer.read_bytes()).hexdigest()


@pytest.mark.parametrize("content", ["", "1 'a' 2\n", "x\n", "1 __import__('os') 1\n", "1 'a' 1\n"])
def test_bad_vocabulary(content: str, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text(content)
    with pytest.raises(TokenizerError):
        read_tokenizer(path)


def test_bad_tokenizer_json(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(TokenizerError):
        read_tokenizer(path)
    with pytest.raises(FileNotFoundError):
        read_tokenizer(tmp_path / "no.json")


def test_a_vocabulary_with_gaps_needs_rows_for_its_highest_id(tiny_model: Path, tmp_path: Path) -> None:
    values = json.loads((tiny_model / "tokenizer.json").read_text())
    last = max(values["model"]["vocab"], key=values["model"]["vocab"].get)
    values["model"]["vocab"][last] = 900
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert read_tokenizer(tmp_path / "tokenizer.json").vocab_size == 901


@pytest.fixture(scope="module")
def published() -> tuple[Any, Tokenizer]:
    """The tokenizer that others wrote for the RWKV World vocabulary, and ours for the file that it brings."""
    theirs = pyrwkv_tokenizer.RWKVTokenizer()
    return theirs, read_tokenizer(Path(theirs.vocab_filepath))


def test_world_agrees_with_another_implementation(published: tuple[Any, Tokenizer]) -> None:
    theirs, ours = published
    for sample in SAMPLES.iterdir():
        text = sample.read_text()
        assert ours.encode(text) == theirs.encode(text)
    assert ours.encode(HARD) == theirs.encode(HARD)


@given(text=st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60))
def test_world_agrees_on_any_text(text: str, published: tuple[Any, Tokenizer]) -> None:
    theirs, ours = published
    assert ours.encode(text) == theirs.encode(text)
