"""Tokenizers: byte-level BPE (Hugging Face `tokenizers`) and the RWKV World vocabulary.

A tokenizer here is any object with `encode(text) -> list[int]`, `decode(ids) -> str`, `vocab_size` and
`fingerprint` (SHA-256 of the file it was read from).
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import Protocol

from goldfinch.errors import TokenizerError


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer."""

    vocab_size: int
    fingerprint: str

    def encode(self, text: str) -> list[int]: ...

    def decode(self, token_ids: list[int]) -> str: ...


class ByteLevelBPE:
    """A `tokenizer.json` of the `tokenizers` library."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer as Backend

        try:
            data = path.read_bytes()
            self._backend = Backend.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises plain Exception for a bad file
            raise TokenizerError(f"cannot read the tokenizer {path}: {error}") from error
        # Text that spells a special token is text: a document must not be able to forge one.
        self._backend.encode_special_tokens = True
        self.fingerprint = hashlib.sha256(data).hexdigest()
        self.vocab_size: int = max(self._backend.get_vocab().values(), default=-1) + 1  # ids may have gaps

    def encode(self, text: str) -> list[int]:
        # The call for many texts that leaves out offsets: a third less time than `encode`, and the same ids.
        return self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def decode(self, token_ids: list[int]) -> str:
        return self._backend.decode(token_ids, skip_special_tokens=True)


class RWKVWorldTokenizer:
    """Greedy longest match over the published RWKV vocabulary file (`rwkv_vocab_v20230424.txt`).

    Each line of that file is `index literal length`, the literal being a Python string or bytes constant.
    Token 0 is the end of a document and has no bytes.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            self._token_bytes = _read_world_vocabulary(data.decode("utf-8"))
        except (OSError, UnicodeDecodeError, ValueError, SyntaxError) as error:
            raise TokenizerError(f"cannot read the RWKV vocabulary {path}: {error}") from error
        self._ids = {token: i for i, token in self._token_bytes.items()}
        # Lengths that occur after a two-byte beginning, longest first: a short list to try at each place.
        lengths: dict[bytes, set[int]] = {}
        for token in self._ids:
            lengths.setdefault(token[:2], set()).add(len(token))
        self._lengths = {start: sorted(found, reverse=True) for start, found in lengths.items()}
        missing = [b for b in range(256) if bytes([b]) not in self._ids]
        if missing:
            raise TokenizerError(f"the vocabulary {path} has no token for byte {missing[0]}")
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
        first, last = line.index(" "), line.rindex(" ")
        literal = ast.literal_eval(line[first:last].strip())
        token = literal.encode("utf-8") if isinstance(literal, str) else literal
        if not isinstance(token, bytes) or len(token) != int(line[last:]):
            raise ValueError(f"line {line[:40]!r}: length does not match the literal")
        tokens[int(line[:first])] = token
    if not tokens:
        raise ValueError("no tokens in the file")
    return tokens


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer file: `.json` is byte-level BPE, `.txt` the RWKV World vocabulary.

    Raises:
        FileNotFoundError: no such file.
        TokenizerError: the file is not of its kind.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "tokenizer file does not exist", str(path))
    return RWKVWorldTokenizer(path) if path.suffix == ".txt" else ByteLevelBPE(path)
