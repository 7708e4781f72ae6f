"""Rich Text Format (1.9.1) as Markdown. No torch.

The libraries for it search a file with expressions whose time grows with the square or the cube of a hostile line;
this reads every byte once.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace

from .archives import MOST_DEPTH
from .blocks import PAGE_END, Blocks

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9a-fA-F]{2})|\\(.)|([{}])|[\r\n\0]+|([^\\{}\r\n\0]+)|\\",
    re.DOTALL,
)
_PAGE_COUNT = re.compile(rb"\\nofpages([0-9]{1,9})(?![0-9])")
# Groups that hold no text of the document, though no `\*` says so; of those that have one, only these do.
_HIDDEN = frozenset((
    "fonttbl", "colortbl", "stylesheet", "info", "pict", "header", "headerl", "headerr", "headerf", "footer",
    "footerl", "footerr", "footerf", "ftnsep", "ftnsepc", "ftncn", "aftnsep", "aftnsepc", "aftncn", "filetbl", "xe",
    "tc", "rxe", "txe", "sp", "nonesttables",
))  # fmt: skip
_SHOWN = frozenset((b"shpinst", b"shptxt"))
_CHARACTERS = {
    "tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "emspace": " ", "enspace": " ", "qmspace": " ",
    "bullet": "•", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "nestcell": " ", "nestrow": " ",
    "footnote": " ",
}  # fmt: skip
_SYMBOLS = {b"~": "\xa0", b"_": "\u2011", b"-": "\xad", b"{": "{", b"}": "}", b"\\": "\\"}
# By the character set of a font, as Windows numbers them.
_CHARSETS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk", 136: "cp950", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip
_FAMILIES = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}


def text_of(data: bytes) -> str:
    """The text of an RTF file. Its pages end in a form feed if it notes where all of them end.

    Raises:
        ValueError: groups in more than a thousand others.
    """
    reader = _Reader()
    reader.read(data)
    text = reader.blocks.text()
    noted = _PAGE_COUNT.search(data)
    if noted and text.count(PAGE_END) + 1 == int(noted[1]):
        return text
    return text.replace(f"\n{PAGE_END}", "").replace(PAGE_END, "")


@dataclass(frozen=True)
class _State:
    """What ends with its group: the font, how many characters stand for one of Unicode, where text goes."""

    is_hidden: bool = False  # of a group that holds no text
    is_invisible: bool = False  # deleted, or not to be seen
    is_font_table: bool = False
    font: int = -1
    fallback: int = 1
    is_cell: bool = False
    heading: int = 0


class _Reader:
    def __init__(self) -> None:
        self.blocks = Blocks()
        self._state = _State()
        self._outer: list[_State] = []
        self._encoding, self._encodings = "cp1252", dict[int, str]()
        self._default_font = -1
        self._bytes = bytearray()  # of an encoding, not yet decoded
        self._units: list[int] = []  # of UTF-16
        self._left_out = 0  # characters that follow one of Unicode in its place

    def read(self, data: bytes) -> None:
        """All groups of a file, up to the end of the first."""
        at = 0
        while at < len(data):
            found = _TOKEN.match(data, at)
            assert found is not None  # every byte is one of these
            at = found.end()
            word, number, byte, symbol, brace, run = found.groups()
            if run is not None:
                self._take(run)
            elif byte is not None:
                self._take(bytes((int(byte, 16),)))
            elif word == b"bin":
                at += max(int(number or 0), 0)
            elif word is not None:
                self._word(word.decode().lower(), None if number is None else int(number))
            elif symbol == b"*":
                after = _TOKEN.match(data, at)
                self._hide(after is None or after[1] not in _SHOWN)
            elif symbol is not None:
                self._symbol(symbol)
            elif brace is not None and not self._brace(brace):
                break
        self._flush()

    def _brace(self, brace: bytes) -> bool:
        """A group begins or ends; whether there is more to read."""
        self._flush()
        self._left_out = 0
        if brace == b"{":
            if len(self._outer) >= MOST_DEPTH:
                raise ValueError(f"groups in more than {MOST_DEPTH} others")
            self._outer.append(self._state)
            return True
        if self._outer:
            self._state = self._outer.pop()
        return bool(self._outer)

    def _hide(self, hidden: bool = True) -> None:
        if hidden:
            self._state = replace(self._state, is_hidden=True)

    def _is_text(self) -> bool:
        return not (self._state.is_hidden or self._state.is_invisible)

    def _take(self, run: bytes) -> None:
        left_out = min(self._left_out, len(run))
        self._left_out -= left_out
        if self._is_text() and left_out < len(run):
            self._flush_units()
            self._bytes += run[left_out:]

    def _symbol(self, symbol: bytes) -> None:
        self._flush()
        self._left_out = 0
        if symbol in b"\r\n":
            self._end_paragraph()
        elif self._is_text():
            self.blocks.add(_SYMBOLS.get(symbol, ""))

    def _word(self, word: str, number: int | None) -> None:
        if word == "u":
            if self._is_text():
                self._flush_bytes()
                self._units.append((number or 0) & 0xFFFF)
            self._left_out = self._state.fallback
            return
        self._flush()
        self._left_out = 0
        if word in _HIDDEN:
            self._state = replace(self._state, is_hidden=True, is_font_table=word == "fonttbl")
        elif not self._set(word, number) and not self._state.is_hidden:
            self._structure(word)

    def _set(self, word: str, number: int | None) -> bool:
        """A property of what follows; whether the word is one."""
        value = number or 0
        if self._state.is_font_table and word in ("fcharset", "cpg"):
            known = _CHARSETS.get(value) if word == "fcharset" else _known(f"cp{value}")
            if known is not None and len(self._encodings) < 1 << 16:
                self._encodings[self._state.font] = known
        elif word == "ansicpg":
            self._encoding = _known("utf-8" if value == 65001 else f"cp{value}") or self._encoding
        elif word in _FAMILIES:
            self._encoding = _FAMILIES[word]
        elif word == "deff":
            self._default_font = value
        elif word == "f":
            self._state = replace(self._state, font=value)
        elif word == "plain":
            self._state = replace(self._state, font=self._default_font, is_invisible=False)
        elif word in ("v", "deleted"):
            self._state = replace(self._state, is_invisible=number != 0)
        elif word == "uc":
            self._state = replace(self._state, fallback=max(value, 0))
        elif word == "pard":
            self._state = replace(self._state, is_cell=False, heading=0)
        elif word == "intbl":
            self._state = replace(self._state, is_cell=True)
        elif word == "outlinelevel":
            self._state = replace(self._state, heading=value + 1 if 0 <= value < 9 else 0)
        else:
            return False
        return True

    def _structure(self, word: str) -> None:
        if word in ("par", "sect"):
            self._end_paragraph()
        elif word == "page":
            self._end_paragraph()
            self.blocks.end_page()
        elif word == "cell":
            self.blocks.end_cell()
        elif word == "row":
            self.blocks.end_row()
        elif word in _CHARACTERS:
            self.blocks.add(_CHARACTERS[word])

    def _end_paragraph(self) -> None:
        if self._state.is_hidden:
            return
        if self._state.is_cell:
            self.blocks.add(" ")
        else:
            self.blocks.end_paragraph(self._state.heading)

    def _flush(self) -> None:
        self._flush_bytes()
        self._flush_units()

    def _flush_bytes(self) -> None:
        if self._bytes:
            encoding = self._encodings.get(self._state.font, self._encoding)
            self.blocks.add(self._bytes.decode(encoding, "replace"))
            self._bytes = bytearray()

    def _flush_units(self) -> None:
        if self._units:
            units = b"".join(unit.to_bytes(2, "little") for unit in self._units)
            self.blocks.add(units.decode("utf-16-le", "replace"))
            self._units = []


def _known(name: str) -> str | None:
    try:
        return codecs.lookup(name).name
    except LookupError:
        return None
