"""What is done to a text before a model reads it: characters that nobody sees go, encoded blobs may. No torch.

Ends of lines stay where they are, so that lines are those of the file.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

# Characters without a width, which part words that look whole: zero-width spaces, word joiners, marks of direction,
# soft hyphens, marks of byte order. Joiners of Persian, of Indian scripts and of emoji (200C, 200D) stay.
_HIDDEN = (0xAD, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0x2066, 0x206A))
_SPACES = (0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F)
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_TABLE: dict[int, str | None] = {**dict.fromkeys((*_HIDDEN, 0xFEFF)), **dict.fromkeys(_SPACES, " "), **_LIGATURES}

# A word that goes on in the next line: its halves, and what follows the second one at once.
_WRAPPED = re.compile(
    r"(?<![\w-])([^\W\d_]{2,})([-\u2010\u00AD])[ \t]*(\r?\n)[ \t]*([^\W\d_]{2,})([,.;:!?)\]\"'»”’]*)(?!\S)[ \t]*"
)
# A line that was wrapped is no heading, option or item of a list.
_WRAPPED_FROM = 30
_PARTS_OF_COMPOUNDS = frozenset(("all", "ex", "half", "self", "well"))

# Base64: one long run, or several lines of runs as mail and certificates have them; hexadecimal digits, twice as long.
_ONE, _LINES = 200, 4
_RUN = r"[A-Za-z0-9+/_-]"
_LINE = rf"^[ \t>]*{_RUN}{{60,}}+={{0,2}}[ \t\r]*\n"
_LAST = rf"[ \t>]*{_RUN}{{4,}}+={{0,2}}[ \t\r]*$"
_BASE64 = re.compile(rf"(?<!{_RUN}){_RUN}{{{_ONE},}}+={{0,2}}|(?:{_LINE}){{{_LINES},}}+(?:{_LAST})?", re.MULTILINE)
_HEXADECIMAL = re.compile(rf"[0-9a-fA-F]{{{2 * _ONE},}}+")
# Characters of blobs in a document from which they are spoken of.
SAID_FROM = 1000
NORMALISED, WITHOUT_BLOBS = "normalised", "without blobs"


@dataclass(frozen=True)
class Prepared:
    """A text as a model reads it.

    Attributes:
        text: it.
        note: what was done to it, in words that a cache file notes; None where that changed nothing.
        blobs: characters of encoded blobs that were found.
    """

    text: str
    note: str | None
    blobs: int


def prepare(text: str, *, verbatim: bool = False, skip_blobs: bool = False) -> Prepared:
    """A text as a model is to read it.

    Args:
        verbatim: as it is; else characters without a width go, spaces of other widths become spaces, ligatures become
            their letters, letters with their marks one character each (NFC), and a word that is hyphenated at the end
            of a line stands whole in that line.
        skip_blobs: leave out base64 and long hexadecimal numbers.
    """
    found = text if verbatim else normalised(text)
    notes = [NORMALISED] if found != text else []
    spans = _blobs(found)
    if skip_blobs and spans:
        found, notes = _without(found, spans), [*notes, WITHOUT_BLOBS]
    return Prepared(found, ", ".join(notes) or None, sum(end - start for start, end in spans))


def normalised(text: str) -> str:
    """A text without what hides in it, its words whole; see `prepare`."""
    text = _with_whole_words(text)
    if text.isascii():
        return text
    text = text.translate(_TABLE) if any(chr(code) in text for code in _TABLE) else text
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def _with_whole_words(text: str) -> str:
    """A text in which no word goes on in the next line; there are as many lines as before."""
    if not any(hyphen in text for hyphen in ("-\n", "-\r\n", "- \n", "\u2010", "\u00ad")):
        return text
    counts: Counter[str] = Counter()

    def whole(match: re.Match[str]) -> str:
        first, hyphen, end, second, rest = match.groups()
        is_soft = hyphen == "\u00ad"
        begins = text.rfind("\n", 0, match.start()) + 1
        if not (is_soft or (second.islower() and match.start(2) - begins >= _WRAPPED_FROM)):
            return match[0]
        if not counts:
            counts.update(_WORD.findall(text.lower()))
        parts = first.lower(), second.lower()
        # Either half counts itself. What is written with a hyphen elsewhere, or joins two words, keeps it.
        are_words = all(counts[part] > 1 for part in parts) or parts[0] in _PARTS_OF_COMPOUNDS
        keeps = not is_soft and (counts["-".join(parts)] or (are_words and not counts["".join(parts)]))
        return f"{first}{'-' if keeps else ''}{second}{rest}{end}"

    return _WRAPPED.sub(whole, text)


_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def _blobs(text: str) -> list[tuple[int, int]]:
    """Where blobs begin and end."""
    return [m.span() for m in _BASE64.finditer(text) if _is_blob(m[0])]


def _is_blob(run: str) -> bool:
    """Whether a run has capitals, small letters and digits, or is hexadecimal: no word or path of its length is."""
    small, capital, digit = (any(map(kind, run)) for kind in (str.islower, str.isupper, str.isdigit))
    return digit and ((small and capital) or ((small or capital) and _HEXADECIMAL.fullmatch(run) is not None))


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], "\n" * text.count("\n", start, end)]
        at = end
    return "".join([*parts, text[at:]])
