"""Tokenizers: byte-pair encoding (Hugging Face `tokenizers`) and the RWKV World vocabulary.

A tokenizer here is any object with `encode(text) -> list[int]`, `decode(ids) -> str`, `vocab_size` and
`fingerprint` (SHA-256 of the file it was read from).
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gfcache.files.regular import read_regular

from goldfinch.errors import TokenizerDamaged
from goldfinch.models.config import MOST

from . import bpe_file

T = TypeVar("T")
# Limits of a World vocabulary; the published one has 65,529 lines of up to 500 characters, and 128 bytes to a token.
_WORLD_BYTES, _WORLD_LINE_CHARACTERS, _WORLD_TOKEN_BYTES = 64 << 20, 1200, 256
MOST_TOKENIZER_BYTES = max(bpe_file.MOST_BYTES, _WORLD_BYTES)
_WORLD_LINE = re.compile(r"""(\d{1,9}) +(b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*") +(\d{1,4})""")


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer."""

    vocab_size: int
    fingerprint: str

    def encode(self, text: str) -> list[int]: ...

    def decode(self, token_ids: list[int]) -> str: ...


class BytePairTokenizer:
    """A `tokenizer.json` of the `tokenizers` library, of the parts that `bpe_file` accepts.

    Args:
        every_byte: see `bpe_file.accepted`.
        control: added texts that no document may spell, beside those that the file calls special.

    Raises:
        TokenizerDamaged: it holds others, or the library cannot read it.
    """

    def __init__(self, path: Path, *, every_byte: bool = True, control: Collection[str] = ()) -> None:
        from tokenizers import Tokenizer as Backend

        self._path = path
        try:
            data = read_regular(path, bpe_file.MOST_BYTES)
            file = bpe_file.accepted(data, every_byte=every_byte)
            self._text = _with_control(file.text, file.added_tokens, control)
            self._backend = self._ask(lambda: Backend.from_str(self._text))
            # The library gives an added text that the vocabulary lacks an id of its own choice.
            for text, token_id in file.added_tokens.items():
                if self._ask(partial(self._backend.token_to_id, text)) != token_id:
                    raise ValueError(f"the added token {text!r} does not have the id {token_id} that it states")
        except (OSError, ValueError) as error:
            raise TokenizerDamaged(f"cannot read the tokenizer {path}: {error}") from error
        # Text that spells a special token is text: a document must not be able to forge one.
        self._backend.encode_special_tokens = True
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self.vocab_size: int = file.highest_id + 1  # ids may have gaps
        self.added_tokens = file.added_tokens  # ids by text

    def encode(self, text: str) -> list[int]:
        # The call for many texts that leaves out offsets: a third less time than `encode`, and the same ids.
        return self._ask(lambda: self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def encode_template(self, text: str) -> list[int]:
        """Ids of a string of a prompt template, whose control tokens are meant as such."""
        return self._ask(lambda: self._speaking.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: list[int]) -> str:
        return self._ask(lambda: self._backend.decode(token_ids, skip_special_tokens=True))

    @cached_property
    def _speaking(self) -> Any:
        """The same again, which takes control tokens for what they are. Threads share the first: no switch is set."""
        from tokenizers import Tokenizer as Backend

        return self._ask(lambda: Backend.from_str(self._text))

    def _ask(self, call: Callable[[], T]) -> T:
        """The one place where the library is called: it raises plain Exceptions, and its panics are none at all."""
        try:
            return call()
        except (MemoryError, OverflowError, TypeError, UnicodeError):
            raise
        except Exception as error:
            raise TokenizerDamaged(f"the tokenizer {self._path} cannot be used: {error}") from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise TokenizerDamaged(f"the tokenizer {self._path} makes its library fail: {error}") from error


def _with_control(text: str, added: Mapping[str, int], control: Collection[str]) -> str:
    """A tokenizer.json in which the added texts among `control` are special, too."""
    if not set(control) & set(added):
        return text
    values = json.loads(text)
    for token in values["added_tokens"]:
        token["special"] = token["special"] or token["content"] in control
    return json.dumps(values)


class RWKVWorldTokenizer:
    """Greedy longest match over the published RWKV vocabulary file (`rwkv_vocab_v20230424.txt`).

    Each line of that file is `index literal length`, the literal being a Python string or bytes constant.
    Token 0 is the end of a document and has no bytes.

    Raises:
        TokenizerDamaged: lines of another form, ids or texts twice, or a byte without a token.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = read_regular(path, _WORLD_BYTES)
            self._token_bytes = _read_world_vocabulary(data.decode("utf-8"))
        except (OSError, UnicodeDecodeError, ValueError, SyntaxError) as error:
            raise TokenizerDamaged(f"cannot read the RWKV vocabulary {path}: {error}") from error
        self._ids = {token: i for i, token in self._token_bytes.items()}
        # Lengths that occur after a two-byte beginning, longest first: a short list to try at each place.
        lengths: dict[bytes, set[int]] = {}
        for token in self._ids:
            lengths.setdefault(token[:2], set()).add(len(token))
        self._lengths = {start: sorted(found, reverse=True) for start, found in lengths.items()}
        missing = [b for b in range(256) if bytes([b]) not in self._ids]
        if missing:
            raise TokenizerDamaged(f"the vocabulary {path} has no token for byte {missing[0]}")
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self.vocab_size = max(self._token_bytes) + 1

    def encode(self, text: str) -> list[int]:
        data, ids, at, out = text.encode("utf-8"), self._ids, 0, []
        while at < len(data):
            for length in (*self._lengths.get(data[at : at + 2], ()), 1):
                token = ids.get(data[at : at + length])
                if token is not None and at + length <= len(data):
                    out.append(token)
                    at += length
                    break
        return out

    def decode(self, token_ids: list[int]) -> str:
        return b"".join(self._token_bytes.get(i, b"") for i in token_ids).decode("utf-8", errors="replace")


def _read_world_vocabulary(text: str) -> dict[int, bytes]:
    tokens: dict[int, bytes] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        found = _WORLD_LINE.fullmatch(line.strip()) if len(line) <= _WORLD_LINE_CHARACTERS else None
        if found is None:
            raise ValueError(f"line {line[:40]!r}: expected an id, a text in quotes, and its length")
        literal = ast.literal_eval(found[2])
        token = literal.encode("utf-8") if isinstance(literal, str) else literal
        if len(token) != int(found[3]):
            raise ValueError(f"line {line[:40]!r}: length does not match the literal")
        if not 0 < len(token) <= _WORLD_TOKEN_BYTES:
            raise ValueError(f"line {line[:40]!r}: {len(token)} bytes, allowed: 1 to {_WORLD_TOKEN_BYTES}")
        if not 0 < int(found[1]) < MOST["vocab_size"] or int(found[1]) in tokens:
            raise ValueError(f"line {line[:40]!r}: the id is there twice or not from 1 to {MOST['vocab_size'] - 1}")
        tokens[int(found[1])] = token
    if len(set(tokens.values())) != len(tokens) or not tokens:
        raise ValueError("two tokens have one text" if tokens else "no tokens in the file")
    return tokens


def read_tokenizer(path: Path, *, every_byte: bool = True) -> Tokenizer:
    """Read a tokenizer file: `.json` is a byte-pair tokenizer, `.txt` the RWKV World vocabulary.

    Args:
        every_byte: see `bpe_file.accepted`.

    Raises:
        FileNotFoundError: no such file.
        TokenizerDamaged: the file is not of its kind.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "tokenizer file does not exist", str(path))
    if path.suffix == ".txt":
        return RWKVWorldTokenizer(path)
    return BytePairTokenizer(path, every_byte=every_byte)
