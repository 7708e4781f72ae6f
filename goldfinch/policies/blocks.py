"""The blocks of a document: what a question is matched against, and what is read for it.

A block is a paragraph: text up to a blank line. Short paragraphs join what follows, long ones are split: a table at its
rows, prose at its sentences, anything else at line ends, then at white space. A part of a table takes its heading rows
along (`Block.heading`), which alone say what its columns mean. Boundaries depend on the text alone.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from goldfinch.text.tokenizer import Tokenizer

# Characters. A paragraph of an encyclopedia has some 700: most stay whole. Of shorter blocks the first is the right one
# less often (in six ordinary documents 27 of 48 times where these are 32), and several of them are no shorter to read.
LEAST = 500
MOST = 1200
# Tokens that one character can take: a byte each, and one more for what joins it at either end.
LONGEST_CHARACTER = 6
# Characters of the rows of a table, its heading included: among few rows a small model finds the right cell.
ROWS = 250
# Of a title, in characters, and rows that make a table.
TITLE = 200
LEAST_ROWS = 3

_PARAGRAPH = re.compile(r"(?:[^\n]*\S[^\n]*(?:\n|\Z))+(?:[^\S\n]*(?:\n|\Z))*")
# The end of a sentence: closing marks may follow; the scripts of East Asia put no space behind it.
_SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]*\s+|[。！？]["'”’」』）]*\s*""")
_RULE_ROW = re.compile(r"[\s|:+=-]*-{2,}[\s|:+=-]*")
_COLUMN_GAP = re.compile(r"\S(?: {2,}|\t+)(?=\S)")


@dataclass(frozen=True)
class Block:
    """A part of a document.

    Attributes:
        start, end: characters of the document's text.
        heading: characters of the heading rows that belong to it but stand before it, or None.
    """

    start: int
    end: int
    heading: tuple[int, int] | None = None

    def text(self, document: str) -> str:
        """Its words, heading rows first."""
        own = document[self.start : self.end]
        return own if self.heading is None else document[slice(*self.heading)] + own


def split_blocks(text: str) -> list[Block]:
    """The blocks of a text, in order; together they cover all of it. None when it is blank."""
    parts: list[Block] = []
    start: int | None = None
    for first, last in _paragraphs(text):
        if start is not None and last - start > MOST and first - start >= LEAST:
            parts += _split(text, start, first)
            start = None
        start = first if start is None else start
        if last - start >= LEAST and not _is_title(text[first:last]):
            parts += _split(text, start, last)
            start = None
    if start is not None:
        parts = _with_tail(parts, text, start)
    return _covering(parts, len(text)) if parts else []


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    for match in _PARAGRAPH.finditer(text):
        yield match.span()


def _is_title(paragraph: str) -> bool:
    """Whether a paragraph is the title of the next: one short line that ends no sentence, or a Markdown heading."""
    line = paragraph.strip()
    return "\n" not in line and (
        line.startswith("#") or (len(line) <= TITLE // 2 and not line.endswith((".", "!", "?", ";", ",")))
    )


def _with_tail(parts: list[Block], text: str, start: int) -> list[Block]:
    """The blocks and what is left at the end: too little of it joins the last one."""
    if parts and len(text[start:].strip()) < LEAST and len(text) - parts[-1].start <= MOST:
        return [*parts[:-1], Block(parts[-1].start, len(text), parts[-1].heading)]
    return [*parts, *_split(text, start, len(text))]


def _covering(parts: Sequence[Block], length: int) -> list[Block]:
    """The same blocks, the first from the beginning and each up to the next."""
    starts = [0, *(part.start for part in parts[1:])]
    ends = [*starts[1:], length]
    return [Block(start, end, part.heading) for part, start, end in zip(parts, starts, ends, strict=True)]


def _split(text: str, start: int, end: int) -> list[Block]:
    """Blocks of at most MOST characters of what belongs together; of a table, few rows."""
    if end - start <= MOST and not any(is_table for is_table, _, _ in _runs(text, start, end)):
        return [Block(start, end)]
    blocks: list[Block] = []
    title: int | None = None
    for is_table, first, last in _runs(text, start, end):
        if not is_table and last - first <= TITLE and last < end:
            title = first
            continue
        begin, title = first if title is None else title, None
        blocks += _split_table(text, begin, first, last) if is_table else _split_prose(text, begin, last)
    return blocks


def _runs(text: str, start: int, end: int) -> list[tuple[bool, int, int]]:
    """Tables and what stands between them: (is a table, start, end)."""
    lines = _lines(text, start, end)
    runs: list[tuple[bool, int, int]] = []
    at = 0
    for kind, group in groupby(_row_kind(text[a:b]) for a, b in lines):
        n = len(list(group))
        is_table = kind is not None and n >= LEAST_ROWS
        first, last = lines[at][0], lines[at + n - 1][1]
        if runs and not is_table and not runs[-1][0]:
            first = runs.pop()[1]
        runs.append((is_table, first, last))
        at += n
    return runs


def _lines(text: str, start: int, end: int) -> list[tuple[int, int]]:
    lines, at = [], start
    while at < end:
        stop = text.find("\n", at, end)
        stop = end if stop < 0 else stop + 1
        lines.append((at, stop))
        at = stop
    return lines


def _row_kind(line: str) -> object:
    """What rows of one table have in common, or None for a line that is no row: its separator and count of cells."""
    line = line.rstrip("\n")
    if line.count("|") >= 2:
        return "|"
    for separator in ("\t", ";", ","):
        cells = line.split(separator)
        # Prose has commas too; cells are short and carry no blank in front.
        if len(cells) >= 3 and max(map(len, cells)) <= 60 and not any(cell.startswith(" ") for cell in cells[1:]):
            return separator
    return "columns" if len(_COLUMN_GAP.findall(line)) >= 2 else None


def _split_table(text: str, title: int, start: int, end: int) -> list[Block]:
    """Parts of a table whose title begins at `title`; all but the first with the heading rows."""
    rows = _lines(text, start, end)
    headings = 1
    for n, (a, b) in enumerate(rows[1:4], 1):
        if _RULE_ROW.fullmatch(text[a:b].rstrip("\n")):
            headings = n + 1
    heading = (title, rows[headings - 1][1])
    if heading[1] - heading[0] > MOST // 2:  # as long as that it is a row like the others
        return _packed(text, [(title, rows[0][1]), *rows[1:]], end, MOST)
    room = max(ROWS - (heading[1] - heading[0]), ROWS // 2)
    first, *others = _packed(text, [(title, rows[0][1]), *rows[1:]], end, room)
    return [first, *(Block(block.start, block.end, heading) for block in others)]


def _split_prose(text: str, start: int, end: int) -> list[Block]:
    return _packed(text, list(_sentences(text, start, end)), end, MOST)


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    for match in _SENTENCE_END.finditer(text, start, end):
        yield at, match.end()
        at = match.end()
    if at < end:
        yield at, end


def sentences_of(text: str) -> list[str]:
    """The sentences of a block, each line end an end too; the text itself when there are none."""
    pieces = (text[a:b] for a, b in _sentences(text, 0, len(text)))
    return [line for piece in pieces for line in piece.split("\n") if line.strip()] or [text]


def _packed(text: str, pieces: Sequence[tuple[int, int]], end: int, most: int) -> list[Block]:
    """Pieces that follow each other, as few blocks of about equal size as they fit in."""
    small: list[tuple[int, int]] = []
    for piece in pieces:
        small += _windows(text, *piece, most)
    count = -(-(end - small[0][0]) // most)
    wanted = (end - small[0][0]) / count
    blocks, start = [], small[0][0]
    for a, b in small:
        if a > start and (b - start > most or a - start >= wanted):
            blocks.append(Block(start, a))
            start = a
    return [*blocks, Block(start, end)]


def _windows(text: str, start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """A piece cut at its line ends, else at white space, else anywhere, into at most `most` characters each."""
    while end - start > most:
        cut = text.rfind("\n", start, start + most) + 1
        if cut <= start:
            space = max(text.rfind(" ", start, start + most), text.rfind("\t", start, start + most))
            cut = space + 1 if space > start else start + most
        yield start, cut
        start = cut
    yield start, end


@dataclass(frozen=True)
class TokenMap:
    """Where the tokens of a document lie in its text.

    Attributes:
        text: what the token ids decode to.
        starts: first character of each token, ascending.
        line_ends: places of the line ends in the text.
    """

    text: str
    starts: list[int]
    line_ends: list[int]

    def tokens(self, start: int, end: int) -> tuple[int, int]:
        """(first, past the last) token of the characters from start to end; a token belongs where it begins."""
        return bisect_left(self.starts, start), bisect_left(self.starts, end)

    def line(self, character: int) -> int:
        """The line of a character, from 1."""
        return bisect_right(self.line_ends, character - 1) + 1


def map_tokens(
    tokenizer: Tokenizer, token_ids: Sequence[int], *, begins: bool = True, pieces: Pieces | None = None
) -> TokenMap:
    """Where tokens lie in the text that they decode to.

    A token alone may be part of a character; such tokens are decoded together, and all of them begin where it does.

    Args:
        begins: the text begins here: some decoders drop a blank there, and nowhere else.
        pieces: texts of tokens that are known, of the same tokenizer.
    """
    pieces = pieces or Pieces(tokenizer, token_ids)
    starts, texts, at, n = [], [], 0, 0
    while n < len(token_ids):
        alone, last = begins and n == 0, n + 1
        piece = None if alone else pieces.kept.get(token_ids[n])  # most tokens have been seen: no call for these
        if piece is None:
            piece = pieces.text(token_ids[n:last], alone)
        while "\ufffd" in piece and last < len(token_ids) and last - n < LONGEST_CHARACTER:
            last += 1
            piece = pieces.text(token_ids[n:last], alone)
        starts += [at] if last == n + 1 else [at] * (last - n)
        texts.append(piece)
        at += len(piece)
        n = last
    text = "".join(texts)
    return TokenMap(text, starts, [m.start() for m in re.finditer("\n", text)])


def text_of(tokenizer: Tokenizer, token_ids: Sequence[int], begins: bool, pieces: Pieces) -> str:
    """The text of `map_tokens`, where nobody asks which token a character is of.

    Args:
        begins, pieces: as of `map_tokens`.
    """
    if not token_ids:
        return ""
    text = pieces.text(token_ids, begins)
    # A character cut in the middle is left to what looks at single tokens: how many marks stand for it differs.
    return text if "\ufffd" not in text else map_tokens(tokenizer, token_ids, begins=begins, pieces=pieces).text


class Pieces:
    """The texts of a few tokens inside a longer text, those of single ones kept.

    They are decoded behind another one, for a decoder may treat the first of a text differently (that of Llama 2 drops
    its blank).

    Attributes:
        kept: texts of single tokens seen so far, by id, behind another token.
    """

    def __init__(self, tokenizer: Tokenizer, token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self.kept: dict[int, str] = {}
        self._before: list[int] = []
        self._text_before = ""
        for token in token_ids:
            text = tokenizer.decode([token])
            if text and "\ufffd" not in text:
                self._before, self._text_before = [token], text
                break

    def text(self, token_ids: Sequence[int], alone: bool) -> str:
        """Of one token, or of a few that make a character; `alone` where the text begins."""
        if alone:
            return self._tokenizer.decode(list(token_ids))
        if len(token_ids) > 1:
            return self._behind(token_ids)
        if token_ids[0] not in self.kept:
            self.kept[token_ids[0]] = self._behind(token_ids)
        return self.kept[token_ids[0]]

    def _behind(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode([*self._before, *token_ids])[len(self._text_before) :]
