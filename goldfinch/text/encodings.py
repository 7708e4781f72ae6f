"""Characters of a file's bytes: what the bytes say, what the user says, else the best guess, and a word about it.

The same bytes and arguments give the same characters on every machine: nothing depends on a locale.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from goldfinch.errors import NotText

from .kinds import BINARY, Kind, kind_of, kind_of_text

# What stdin is called in messages and caches.
STDIN_LABEL = "stdin"
# Where nothing fits better: a character for nearly every byte.
FALLBACK = "cp1252"
# Marks at the beginning of a file. Those of UTF-32 come first: one of them begins with one of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# In texts of Latin letters bytes above 127 stand alone, or among others in a word. Elsewhere they come in runs, on
# average this long or longer, and are at least this share of their words.
LONG_RUN, MOST_ABOVE = 1.5, 0.5
_LATIN = ("cp1252", "cp1250", "cp1254")
_OTHERS = (
    "gb18030", "cp932", "euc_jp", "cp949", "big5", "cp1251", "koi8_r", "cp866", "cp1253", "cp1255", "cp1256", "cp874",
)  # fmt: skip
# How much more orderly (the chaos of charset-normalizer, 0 to 1) a text must be to be taken for another than FALLBACK.
MORE_ORDERLY = 0.05
# What is looked at to guess: lines with bytes above 127.
GUESSED_FROM_BYTES = 1 << 16

# Bytes that no text has, of those below 32 and 127: what is left are ends of lines and pages, tabs, the end of a DOS
# file (26), separators (28 to 31), those of terminals (7, 8, 27) and of colours in chats (2, 3, 15, 22, 29, 31).
_NOT_OF_TEXT = bytes((0, 1, 4, 5, 6, 14, *range(16, 22), 23, 24, 25, 127))
_NOT_CHARACTERS = re.compile(f"[{re.escape(_NOT_OF_TEXT.decode())}]")
# Share of them above which a file is not text.
MOST_NOT_OF_TEXT = 0.01
# UTF-8 with bad bytes: the least share of bytes above 127 that are part of characters.
LEAST_UTF8 = 0.6
# UTF-16 without a mark: what a text has at least one of in so many characters, which pairs of other bytes rarely are.
BLANKS, MOST_WITHOUT_BLANK = " \n\u3000", 500
_JAPANESE = re.compile(rb"\x1b\$[@B]")
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
# Dots, quotes, dashes and a space of Windows-1252, which stand anywhere.
_MARKS_OF_1252 = b"\x85\x91\x92\x93\x94\x95\x96\x97\xa0\xab\xbb"
_HIGH_WORD = re.compile(rb"[A-Za-z]*[\x80-\xff][A-Za-z\x80-\xff]*")
_HIGH_LINE = re.compile(rb"[^\n]*[\x80-\xff][^\n]*\n?")
_BAD = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Decoded:
    """The characters of a file.

    Attributes:
        text: they.
        encoding: how they were read, where the bytes do not say that by themselves; None where they do.
        remark: what a reader of messages should know, or None.
    """

    text: str
    encoding: str | None = None
    remark: str | None = None


def checked_encoding(name: str) -> str | None:
    """The name of an encoding of text as Python has it; None for "auto".

    Raises:
        ValueError: it is none.
    """
    if name.lower() == "auto":
        return None
    try:
        found = codecs.lookup(name)
        with contextlib.suppress(UnicodeDecodeError):
            b"    ".decode(name)  # those that turn bytes into bytes are refused here
    except (LookupError, ValueError, AssertionError, UnicodeError) as error:
        raise ValueError(
            "auto, or an encoding of text that Python knows, such as utf-8, cp1251 or shift_jis"
        ) from error
    if found.name in ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"):
        raise ValueError("auto, or an encoding of text: this one is for single names or for program code")
    return found.name


def allowed_encoding(noted: str | None) -> str | None:
    """The encoding that a cache file notes, which anybody may have written; None for one that there is not."""
    try:
        return None if noted is None else checked_encoding(noted)
    except ValueError:
        return None


def decode(data: bytes, label: str, encoding: str | None = None, noted: str | None = None) -> Decoded:
    """Characters of a text file.

    UTF-8, UTF-16 and UTF-32 with a mark, UTF-16 without one, ISO-2022-JP say themselves what they are; so does UTF-8
    with some bad bytes, which are replaced. What else there is, is guessed.

    Args:
        label: what to call it in messages.
        encoding: what the user says, as of `checked_encoding`; it holds whatever the bytes say.
        noted: what was guessed of an earlier state of the file: it holds where the bytes do not say it.

    Raises:
        NotText: it is something else.
    """
    kind = kind_of(data)
    if kind is not None:
        raise not_text(label, kind)
    found = _of_bytes(data, label)
    if encoding is not None:
        given = _given(data, label, encoding)
        if found is None or found.remark or given.text != found.text:
            found = given
    elif found is None:
        found = _guessed(data, label, noted)
    kind = kind_of_text(found.text)
    if kind is not None:
        raise not_text(label, kind)
    strange = len(_NOT_CHARACTERS.findall(found.text))
    if strange > MOST_NOT_OF_TEXT * len(found.text):
        raise not_text(label, BINARY)
    name, remark = found.encoding, found.remark
    nuls = found.text.count("\0")
    if nuls:
        stay = f"{label} holds {_counted(nuls, 'NUL character')}, kept in the text"
        remark = f"{remark}; {stay}" if remark else stay
    return Decoded(found.text, None if name is None else codecs.lookup(name).name, remark)


def looks_like_text(start: bytes) -> bool:
    """Whether a file that begins so may be text, and holds any: what `decode` refuses by its beginning is not."""
    if not start.strip(b" \t\r\n\f\v\0\xef\xbb\xbf\xfe\xff") or kind_of(start) is not None:
        return False
    for part in (start, start[:-2]):  # the end of it may be half a character of UTF-16
        try:
            return bool(decode(part, STDIN_LABEL).text.strip())
        except NotText:
            continue
    return False


def not_text(label: str, kind: Kind) -> NotText:
    """The error of a file that is something else."""
    return NotText(f"{label} is {kind.name}, expected plain text", hint=kind.hint(label, STDIN_LABEL))


def _of_bytes(data: bytes, label: str) -> Decoded | None:
    """The characters of bytes that say themselves what they are; None for others.

    Raises:
        NotText: no bytes of a text.
    """
    mark = next((name for start, name in MARKS.items() if data.startswith(start)), None)
    if mark is not None:
        return _replacing(data, label, mark, mark.upper())
    strange = len(data) - len(data.translate(None, _NOT_OF_TEXT))
    if strange > MOST_NOT_OF_TEXT * len(data):
        without_mark = _utf_16(data)
        if without_mark is not None:
            return without_mark
        if strange == data.count(0) < len(data):
            raise not_text(label, Kind("text with NUL bytes in it", "tr -d '\\000' < {file} > {text}"))
        raise not_text(label, BINARY)
    if _JAPANESE.search(data) and data.isascii():
        try:
            return Decoded(data.decode("iso2022_jp_ext"), "iso2022_jp_ext")
        except UnicodeDecodeError:
            pass
    try:
        return Decoded(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return _mostly_utf_8(data, label)


def _utf_16(data: bytes) -> Decoded | None:
    """UTF-16 without a mark, in the order of bytes that gives more spaces and ends of lines; None for anything else."""
    found: list[tuple[int, str, str]] = []
    for name in ("utf_16_le", "utf_16_be"):
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        blanks, strange = sum(map(text.count, BLANKS)), len(_NOT_CHARACTERS.findall(text))
        is_text = blanks * MOST_WITHOUT_BLANK >= len(text) and strange <= MOST_NOT_OF_TEXT * len(text)
        if is_text and _is_orderly(data, name):
            found.append((blanks, name, text))
    if not found:
        return None
    _, name, text = max(found)
    return Decoded(text, name)


def _is_orderly(data: bytes, name: str) -> bool:
    from charset_normalizer import from_bytes

    start = data[:GUESSED_FROM_BYTES]
    return from_bytes(start, cp_isolation=[name], enable_fallback=False).best() is not None


def _mostly_utf_8(data: bytes, label: str) -> Decoded | None:
    """UTF-8 with bad bytes; None where most bytes above 127 are no part of its characters."""
    marked = data.decode("utf-8-sig", "surrogateescape")
    bad = len(_BAD.findall(marked))
    above = len(data) - len(data.translate(None, bytes(range(128, 256))))
    if above - bad < LEAST_UTF8 * above:
        return None
    return _replacing(data, label, "utf-8-sig", "UTF-8", "utf_8", bad)


def _replacing(
    data: bytes, label: str, name: str, shown: str, noted: str | None = None, bad: int | None = None
) -> Decoded:
    """Characters of an encoding, bad bytes replaced and counted.

    Args:
        name: of the encoding.
        shown: in words.
        noted: its name where the bytes alone would not give it.
        bad: how many bytes are, where that is known.
    """
    try:
        return Decoded(data.decode(name).removeprefix("\ufeff"), noted)
    except UnicodeDecodeError as error:
        text, first = data.decode(name, "replace").removeprefix("\ufeff"), error.start
    if bad is None and name.startswith("utf-8"):
        bad = len(_BAD.findall(data.decode(name, "surrogateescape")))
    count = _counted(text.count("\ufffd"), "place") if bad is None else _counted(bad, "byte")
    if name in MARKS.values() and text.count("\ufffd") > MOST_NOT_OF_TEXT * len(text):
        raise not_text(label, BINARY)
    remark = f"{label}: {count} not {shown}, replaced by \ufffd (the first is byte {first:,})"
    return Decoded(text, noted or name, remark)


def _given(data: bytes, label: str, encoding: str) -> Decoded:
    """Characters in the encoding that the user names."""
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    return _replacing(data, label, name, encoding, codecs.lookup(encoding).name)


def _guessed(data: bytes, label: str, noted: str | None) -> Decoded:
    """Characters of bytes that do not say what they are."""
    before = allowed_encoding(noted)
    for name in dict.fromkeys([before, *_likely(data)] if before else _likely(data)):
        try:
            text = data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        return Decoded(text, name, _guess_words(label, name))
    return Decoded(data.decode(FALLBACK, "replace"), FALLBACK, _guess_words(label, FALLBACK) + ", bad bytes replaced")


def _guess_words(label: str, name: str) -> str:
    return f"{label} is not UTF-8: read as {name}, a guess (--encoding NAME says another)"


def _likely(data: bytes) -> Iterable[str]:
    """Encodings that bytes may be in, the likeliest first."""
    from charset_normalizer import from_bytes

    sample = b""
    for line in _HIGH_LINE.finditer(data):
        sample += line[0][: GUESSED_FROM_BYTES - len(sample)]
        if len(sample) >= GUESSED_FROM_BYTES:
            break
    letters = sample.translate(None, _MARKS_OF_1252)
    runs, words = _HIGH_RUN.findall(letters), b"".join(_HIGH_WORD.findall(letters))
    above = sum(map(len, runs))
    is_latin = above < LONG_RUN * len(runs) or above < MOST_ABOVE * len(words)
    names = _LATIN if is_latin else _OTHERS
    found = from_bytes(sample, cp_isolation=list(names), threshold=0.6, enable_fallback=False)
    # Encodings that give the same characters come as one match.
    of = {name: match for match in found for name in match.could_be_from_charset}
    # Of those as orderly as each other, encodings with several bytes for a character first: chance rarely fits them.
    ordered = sorted(filter(of.get, names), key=lambda n: (of[n].chaos, not of[n].multi_byte_usage, -of[n].coherence))
    if is_latin:
        chaos = of[FALLBACK].chaos if FALLBACK in of else 1.0
        return ordered if ordered and chaos > of[ordered[0]].chaos + MORE_ORDERLY else (FALLBACK,)
    shares = {name: _shares(sample, name) for name in ordered}
    kana = [name for name in ordered if name in ("cp932", "euc_jp") and shares[name][0] > 0.3]
    korean = [name for name in ordered if name == "cp949" and shares[name][1] > 0.9]
    rest = [name for name in ordered if name != "cp949"]
    return [*kana, *korean, *rest]


def _shares(sample: bytes, name: str) -> tuple[float, float]:
    """Of the characters above 127: those that are Japanese kana, and those that are Korean syllables."""
    characters = [c for c in sample.decode(name, "ignore") if c > "\x7f"]
    kana, hangul = (
        sum("\u3040" <= c <= "\u30ff" for c in characters),
        sum("\uac00" <= c <= "\ud7a3" for c in characters),
    )
    return kana / max(len(characters), 1), hangul / max(len(characters), 1)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
