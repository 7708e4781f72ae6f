"""Quoting: an answer that can only be words which stand in what was read, or "Not stated.".

Tokens are compared by their text, so that a quote may be cut into other tokens than the document was. A character that
takes several tokens is followed through the document's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from goldfinch.datasets.facts import NOT_STATED
from goldfinch.policies.blocks import TokenMap, map_tokens
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.places import Found
from goldfinch.text.tokenizer import Tokenizer

# Characters of a token beyond which a quote does not use it.
LONGEST = 48
# Between the parts that are read: no token holds it.
_GAP = "\0"
_WORD_START = re.compile(r"(?<!\w)\w|(?<![\w\s])(?=[^\w\s])|(?<=\s)(?=[^\w\s])")


@dataclass(frozen=True)
class Quote:
    """Where the words of an answer stand.

    Attributes:
        text: of the quote.
        line: from 1; a quote does not go beyond its line.
        first_character, last_character: of the line, from 1, inclusive.
    """

    text: str
    line: int
    first_character: int
    last_character: int


def passages(index: DocumentIndex, found: Sequence[Found]) -> list[tuple[int, TokenMap, list[int]]]:
    """What may be quoted: number of the first token, tokens mapped, and their ids, of each stretch that was read.

    Args:
        found: the blocks, best first; none for the whole document.
    """
    ids = index.token_ids.tolist()
    # The heading rows of a block stand before it; an answer stands rather in the block itself.
    ranges = [rows for block in found for rows in reversed(block.rows)] or [(0, len(ids))]
    return [(a, map_tokens(index.tokenizer, ids[a:b], begins=a == 0), ids[a:b]) for a, b in ranges if a < b]


class Quotable:
    """Text that answers may quote, and how tokens go through it.

    Args:
        index: of the document.
        found: the blocks that were read; none for all of it.
    """

    def __init__(self, index: DocumentIndex, found: Sequence[Found]) -> None:
        self._index = index
        # Of each passage: its first token, and its first character in the text.
        self._passages: list[tuple[int, int]] = []
        self.characters: dict[int, tuple[str, tuple[int, ...]]] = {}
        parts, at = [], 0
        for first, tokens, ids in passages(index, found):
            self._passages.append((first, at))
            self._note_characters(tokens, ids, at)
            parts.append(tokens.text)
            at += len(tokens.text) + len(_GAP)
        self._refusal = at
        self.text = _GAP.join([*parts, NOT_STATED])
        self.pieces = _pieces(index.tokenizer)

    def _note_characters(self, tokens: TokenMap, ids: Sequence[int], shift: int) -> None:
        """Where characters begin that take several tokens, with their text and tokens."""
        starts, n = tokens.starts, 0
        while n < len(starts):
            last = n + 1
            while last < len(starts) and starts[last] == starts[n]:
                last += 1
            text = tokens.text[starts[n] : starts[last] if last < len(starts) else None]
            if last - n > 1 and text and "\ufffd" not in text:
                self.characters[starts[n] + shift] = text, tuple(ids[n:last])
            n = last

    def starts(self) -> Iterator[int]:
        """Where a quote may begin: at words and signs."""
        for match in _WORD_START.finditer(self.text):
            if match.start() <= self._refusal:
                yield match.start()

    def may_end(self, at: int) -> bool:
        """Whether a quote may end before a character: between words, and of a refusal at its end."""
        if at >= self._refusal:
            return at == len(self.text)
        before, behind = self.text[at - 1], self.text[at : at + 1]
        return not (before.isalnum() and behind.isalnum())

    def place(self, text: str) -> Quote | None:
        """Where words stand: first in the best block, then in the others; None for a refusal, or nothing."""
        at = self.text.find(text) if text else -1
        if at < 0 or at >= self._refusal:
            return None
        first, start = next(passage for passage in reversed(self._passages) if passage[1] <= at)
        before = map_tokens(self._index.tokenizer, self._index.token_ids[:first].tolist()).text + self.text[start:at]
        column = len(before) - (before.rfind("\n") + 1)
        return Quote(text, before.count("\n") + 1, column + 1, column + len(text))


class Quoting:
    """One quote under way. What it may be so far is where it may stand; each token leaves fewer places.

    Args:
        quotable: the text.
        end_token_ids: of tokens that end an answer.
        vocab_size: V of the logits.
    """

    def __init__(self, quotable: Quotable, end_token_ids: Sequence[int], vocab_size: int) -> None:
        self._quotable, self._ends = quotable, sorted(end_token_ids)
        self._vocab_size = vocab_size
        self._begun = False
        # Places behind what was chosen; and, within characters of several tokens, (where it begins, tokens so far).
        self._at: set[int] = set(quotable.starts())
        self._within: set[tuple[int, int]] = set()
        self._next: dict[int, tuple[set[int], set[tuple[int, int]]]] = {}

    def allowed(self) -> list[int]:
        """The tokens that may follow, ascending; none when nothing may, and no token ends an answer."""
        self._next = {}
        text, pieces = self._quotable.text, self._quotable.pieces
        beginnings: dict[str, set[int]] = {}
        for at in self._at:
            beginnings.setdefault(text[at : at + LONGEST].split(_GAP)[0], set()).add(at)
        for beginning, places in beginnings.items():
            for length in range(1, len(beginning) + 1):
                piece = beginning[:length]
                for token in pieces.get(piece, ()):
                    self._follow(token)[0].update(at + length for at in places)
                if not self._begun:  # the blank before an answer belongs to none
                    for token in pieces.get(f" {piece}", ()):
                        self._follow(token)[0].update(at + length for at in places)
        for at in self._at & self._quotable.characters.keys():
            self._enter(at, 0)
        for at, n in self._within:
            self._enter(at, n)
        ends = self._ends if self._begun and any(map(self._quotable.may_end, self._at)) else []
        return sorted({token for token in (*self._next, *ends) if token < self._vocab_size})

    def _follow(self, token: int) -> tuple[set[int], set[tuple[int, int]]]:
        return self._next.setdefault(token, (set(), set()))

    def _enter(self, at: int, n: int) -> None:
        """The next token of a character that takes several."""
        text, tokens = self._quotable.characters[at]
        places, within = self._follow(tokens[n])
        if n + 1 == len(tokens):
            places.add(at + len(text))
        else:
            within.add((at, n + 1))

    def take(self, token: int) -> None:
        """A token of `allowed` was chosen."""
        self._at, self._within = self._next[token]
        self._begun = True

    def place(self, text: str) -> Quote | None:
        """Where the finished quote stands."""
        return self._quotable.place(text)


_KEPT: WeakKeyDictionary[Tokenizer, dict[str, list[int]]] = WeakKeyDictionary()


def _pieces(tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Tokens by their text inside a longer one; those that are part of a character are left out."""
    if tokenizer not in _KEPT:
        pieces: dict[str, list[int]] = {}
        behind = "a"
        before = tokenizer.encode(behind)
        for token in range(tokenizer.vocab_size):
            text = tokenizer.decode([*before, token])[len(behind) :]
            if 0 < len(text) <= LONGEST + 1 and "\ufffd" not in text:
                pieces.setdefault(text, []).append(token)
        _KEPT[tokenizer] = pieces
    return _KEPT[tokenizer]
