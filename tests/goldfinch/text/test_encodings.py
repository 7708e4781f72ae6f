"""Which characters the bytes of a file are, and which files are no text."""

from __future__ import annotations

import hashlib
import random
import zipfile
from io import BytesIO

import pytest

from goldfinch.errors import NotText
from goldfinch.text.encodings import checked_encoding, decode, looks_like_text

GERMAN = "Jürgen grüßt. Der Code des blauen Schranks ist 48213, und „länger“ ist nicht schöner.\n"
RUSSIAN = "Код синего шкафа 48213. Смотритель маяка живёт на острове уже двадцать лет.\n"
CHINESE = "蓝色柜子的密码是48213。灯塔看守人住在岛上已经二十年了。\n"
JAPANESE = "青い棚のコードは48213です。灯台守は二十年間島に住んでいます。\n"
KOREAN = "파란 캐비닛의 코드는 48213입니다. 등대지기는 이십 년 동안 섬에 살았습니다.\n"
POLISH = "Kod niebieskiej szafki to 48213. Latarnik mieszka na wyspie już od dwudziestu lat, źle się czuł.\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((text, name) for text in (GERMAN, RUSSIAN, CHINESE, JAPANESE) for name in ("utf-16-le", "utf-16-be")),
        (GERMAN, "cp1252"), ("Jürgen grüßt. Créée à l’été: déjà “…” — là.\n", "cp1252"), ("— “Ä” –\n", "cp1252"), (POLISH, "cp1250"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (RUSSIAN, "cp866"),
        (CHINESE, "gb18030"), (JAPANESE, "cp932"), (JAPANESE, "euc_jp"), (JAPANESE, "iso2022_jp"), (KOREAN, "cp949"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ahead", ["", "# README\n\nIt is about Cyrillic, or Japanese: see below.\n" * 3])
def test_what_the_bytes_are_most_like_is_read_and_noted(text: str, encoding: str, ahead: str) -> None:
    for times in (1, 50):
        whole = ahead + text * times
        found = decode(whole.encode(encoding), "a.txt")
        assert found.text == whole
        assert found.encoding is not None
        assert whole.encode(found.encoding) == whole.encode(encoding)
        guessed = not (encoding.startswith("utf-16") or encoding == "iso2022_jp")
        assert (found.remark is not None) == guessed
        assert decode(whole.encode(encoding), "a.txt") == found
        assert looks_like_text(whole.encode(encoding)[:4096])


def test_utf_8_and_marks_say_themselves_what_they_are() -> None:
    for text in (GERMAN, RUSSIAN, CHINESE, JAPANESE, "", "\n", "a\x1a\x0b\x0c\x1f\x1e \x0304,02colour\x0f\x02 \x1b[1m"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
            found = decode(text.encode(encoding), "a.txt")
            assert (found.text, found.encoding, found.remark) == (text, None, None)


def test_stray_bytes_in_utf_8_are_replaced_and_counted() -> None:
    """One of them made `JÃ¼rgen` of all names."""
    found = decode(b"\xff" + GERMAN.encode() + b"\xe4 \xf6", "a.txt")
    assert found.text == f"\ufffd{GERMAN}\ufffd \ufffd"
    assert found.encoding == "utf-8"
    assert "3 bytes" in str(found.remark)
    for data in (GERMAN.encode("cp1252") * 3, "é".encode("cp1252"), CHINESE.encode("gb18030") * 9):
        assert decode(data, "a.txt").encoding != "utf-8"


def test_what_the_user_says_holds_and_what_was_noted_holds_where_bytes_do_not_say_it() -> None:
    data = RUSSIAN.encode("cp866")
    for name in ("cp866", "koi8-r", "latin-1"):
        found = decode(data, "a.txt", checked_encoding(name))
        assert found.text == data.decode(name)
        assert checked_encoding(str(found.encoding)) == checked_encoding(name)
        assert decode(data, "a.txt", noted=found.encoding).text == found.text
        assert decode(RUSSIAN.encode(), "a.txt", noted=name).text == RUSSIAN
    mojibake = decode(GERMAN.encode(), "a.txt", "cp1252")
    assert mojibake.text.startswith("JÃ¼rgen")
    assert mojibake.encoding == "cp1252"
    assert decode(GERMAN.encode(), "a.txt", "utf-8").encoding is None  # as without
    assert "1 byte" in str(decode(b"abc\xff", "a.txt", "utf-8").remark)
    for noted in ("zip", "idna", "no such", "utf-8\0", "x" * 10**6):  # a cache file may say anything
        assert decode(data, "a.txt", noted=noted).text == RUSSIAN
    for name in ("zip", "rot13", "idna", "unicode_escape", "no such", "undefined", "../x"):
        with pytest.raises(ValueError, match="encoding of text"):
            checked_encoding(name)
    assert checked_encoding("auto") is None


def packed(*names: str) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            name, _, content = name.partition("=")
            archive.writestr(name, content or "x" * 5000)
    return stream.getvalue()


OPEN_DOCUMENT = "mimetype=application/vnd.oasis.opendocument."
PAGE = "<!DOCTYPE html><html><body>The code is 48213.</body></html>"
COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
KINDS = {
    "a PDF": (b"%PDF-1.4\n1 0 obj", b"\0\0junk\n%PDF-1.7\n1 0 obj\nendobj\nxref\n", b"\r\n %PDF-1.4"),
    "HTML": (
        *(text.encode() for text in (PAGE, f"<!-- saved\nfrom -->\n<!-- b -->{PAGE}", f"<?xml version='1.0'?>{PAGE}")),
        PAGE.encode("utf-16"), PAGE.encode("utf-16-le"), f" \n{PAGE.upper()}".encode("utf-8-sig"),
    ),
    "RTF": (b"{\\rtf1\\ansi The code}",),
    "PostScript": (b"%!PS-Adobe-3.0\n", b"\x04%!PS\n"),
    "a Word document": (packed("[Content_Types].xml", "word/document.xml"),),
    "an Excel workbook": (packed("[Content_Types].xml", "xl/workbook.xml"),),
    "a PowerPoint presentation": (packed("[Content_Types].xml", "ppt/presentation.xml"),),
    "an EPUB book": (packed("mimetype=application/epub+zip", "OEBPS/a.xhtml"),),
    "an OpenDocument text": (packed(f"{OPEN_DOCUMENT}text", "content.xml"),),
    "an OpenDocument table": (packed(f"{OPEN_DOCUMENT}spreadsheet", "content.xml"),),
    "a ZIP archive": (packed("a.txt"), packed()),
    "an old Office document": (COMPOUND + bytes(512),),
    "an old Word document": (COMPOUND + bytes(512) + "WordDocument".encode("utf-16-le"),),
    "an old Excel workbook": (COMPOUND + bytes(512) + "Workbook".encode("utf-16-le"),),
    "an Office document with a password": (COMPOUND + bytes(512) + "EncryptedPackage".encode("utf-16-le"),),
    "a binary Excel workbook": (packed("xl/workbook.bin"),),
    "an iWork document": (packed("Index/Document.iwa"),),
    "a PNG image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",),
    "a JPEG image": (b"\xff\xd8\xff\xe0\0\x10JFIF",),
    "a sound": (b"RIFF\x24\0\0\0WAVEfmt ", b"ID3\x03\0\0"),
    "gzip data": (b"\x1f\x8b\x08\0",),
    "a pointer of Git LFS, not the file itself": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",),
    "an SQLite database": (b"SQLite format 3\0",),
    "a cache file": (b"\x89GFC\r\n\x1a\n",),
    "text with NUL bytes in it": (b"one\0two\0three\0",),
    "binary data": (hashlib.sha256(b"").digest() * 40, random.Random(1).randbytes(9999), bytes(100)),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_files_that_are_no_text_are_named_with_what_to_do(name: str) -> None:
    for data in KINDS[name]:
        with pytest.raises(NotText) as refused:
            decode(data, "my a.bin")
        assert str(refused.value) == f"my a.bin is {name}, expected plain text"
        assert refused.value.hint
        assert "my a.bin" not in refused.value.hint or "'my a.bin'" in refused.value.hint
        assert not looks_like_text(data[:4096])
        if data.isascii() or b"\0" in data:
            with pytest.raises(NotText):
                decode(data, "a.bin", "cp1252")


def test_a_hint_replaces_no_file_and_reads_stdin_as_it_is_read() -> None:
    for label, command in (
        ("a.pdf", "pdftotext a.pdf a.txt"), ("a.txt", "pdftotext a.txt a.txt.txt"), ("stdin", "pdftotext - -"),
    ):  # fmt: skip
        with pytest.raises(NotText) as refused:
            decode(b"%PDF-1.4", label)
        assert str(refused.value.hint).startswith(f"convert it first: {command}; or pip install")
    with pytest.raises(NotText) as refused:
        decode(b"\x1f\x8b\x08\0", "stdin")
    assert str(refused.value.hint).endswith("gunzip -c -")
    with pytest.raises(NotText) as refused:
        decode(packed("xl/workbook.xml"), "stdin")  # LibreOffice reads files alone
    assert str(refused.value.hint).startswith("save it as a file first: libreoffice --headless --convert-to csv FILE;")


@pytest.mark.parametrize(
    "text",
    [
        "The header %PDF-1.4 begins a PDF; \\rtf is RTF, <html> a page.\n", "<!-- a comment -->\n# Notes\nThe code.\n",
        "BM is short for British Museum.\n", "GGUF is a format. PAR1 is another. OggS too.\n", "MZ\n", "RIFF and WAVEfmt\n",
        "PK is a signature.\n", "a" * 70000 + "\x02\x03", "<p>One paragraph of Markdown.</p>\n\n# Title\n", "%! not PS\n",
    ],
)  # fmt: skip
def test_text_that_only_speaks_of_them_is_text(text: str) -> None:
    assert decode(text.encode(), "a.txt").text == text
    assert looks_like_text(text.encode()[:4096])


def test_a_nul_anywhere_is_said_and_many_are_refused() -> None:
    """One behind the first 64 kB passed silently."""
    for data in (b"a" * 100_000 + b"\0", b"\0" + b"word " * 1000):
        found = decode(data, "a.txt")
        assert found.text == data.decode()
        assert "1 NUL character" in str(found.remark)
    with pytest.raises(NotText):
        decode(b"word " * 20000 + bytes(2000), "a.txt")
