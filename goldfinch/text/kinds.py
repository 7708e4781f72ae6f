"""Files that are not plain text, told by their first bytes, and what makes text of each. No torch."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from gfcache import layout

# Where a file says what it is: no test looks further, but for names of what is packed into an archive.
HEAD_BYTES = 4096

_OFFICE = "libreoffice --headless --convert-to {format} {{file}}"
_PANDOC = "pandoc -f {format} -t plain {{file}} -o {{text}}"
_OCR = "tesseract {file} {stem}"


@dataclass(frozen=True)
class Kind:
    """What a file is instead of text.

    Attributes:
        name: with its article.
        command: makes text of it, with {file}, {text} (the name of the text file) and {stem}; None where none does.
        advice: what to do in place of a command.
        extra: whether `converters` reads it.
    """

    name: str
    command: str | None = None
    advice: str | None = None
    extra: bool = False

    def hint(self, label: str, stdin: str) -> str:
        """What to do about a file of this kind.

        Args:
            label: its name, or `stdin`.
        """
        if self.command is None:
            return self.advice or "gf reads plain text"
        made = f"convert it first: {with_names(self.command, label, stdin)}"
        if label == stdin and self.command.startswith(_READ_NO_STDIN):
            made = f"save it as a file first: {with_names(self.command, 'FILE', stdin)}"
        return made + (f"; or {INSTALL}, and gf reads it" if self.extra else "")


# Programs that take no - for a file.
_READ_NO_STDIN = ("libreoffice", "ebook-convert", "djvutxt", "sqlite3")


def with_names(command: str, label: str, stdin: str) -> str:
    """A command for {file}, {text} (the name of a text file that it may write) and {stem}, as it can be pasted."""
    path = Path(label)
    text = path.with_suffix(".txt") if path.suffix != ".txt" else path.with_name(path.name + ".txt")
    names = {"file": label, "text": str(text), "stem": str(text.with_suffix(""))}
    if label == stdin:
        names = dict.fromkeys(names, "-")
        command = command.replace(" < {file}", "").replace(" > {text}", "")
    return command.format(**{key: shlex.quote(name) for key, name in names.items()})


INSTALL = "pip install 'goldfinch-gf[docs]'"
_AUDIO = "write down what is said first: gf reads plain text"
_AS_TEXT = "export it as text first: gf reads plain text"

PDF = Kind("a PDF", "pdftotext {file} {text}", extra=True)
HTML = Kind("HTML", _PANDOC.format(format="html"), extra=True)
WORD = Kind("a Word document", _PANDOC.format(format="docx"), extra=True)
EPUB = Kind("an EPUB book", _PANDOC.format(format="epub"), extra=True)
EXCEL = Kind("an Excel workbook", _OFFICE.format(format="csv"), extra=True)
POWERPOINT = Kind("a PowerPoint presentation", _OFFICE.format(format="pdf"))
ODT = Kind("an OpenDocument text", _PANDOC.format(format="odt"))
ODS = Kind("an OpenDocument table", _OFFICE.format(format="csv"))
ODP = Kind("an OpenDocument presentation", _OFFICE.format(format="pdf"))
RTF = Kind("RTF", _PANDOC.format(format="rtf"))
POSTSCRIPT = Kind("PostScript", "ps2ascii {file} {text}")
BINARY = Kind("binary data", advice="convert it to text first")
ZIP = Kind("a ZIP archive", advice="unpack it first, then gf prefill -r FOLDER")
LFS = Kind("a pointer of Git LFS, not the file itself", advice="git lfs pull fetches the file")
CACHE = Kind("a cache file", advice="ask it as one: its name must end in .gfc, or gf ask --cache names it")

# Old Office files, and new ones with a password: what they hold stands in their directory, in UTF-16.
_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_STREAMS: tuple[tuple[str, Kind], ...] = (
    ("EncryptedPackage", Kind("an Office document with a password", advice="save it without one first")),
    ("WordDocument", Kind("an old Word document", _OFFICE.format(format="docx"))),
    ("Workbook", Kind("an old Excel workbook", _OFFICE.format(format="xlsx"))),
    ("PowerPoint Document", Kind("an old PowerPoint presentation", _OFFICE.format(format="pptx"))),
    ("__properties_version1.0", Kind("an Outlook message", advice="save it as text first: gf reads plain text")),
)

# By (place, bytes there).
_MAGICS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, layout.MAGIC, CACHE),
    (0, b"{\\rtf", RTF),
    (0, b"%!PS", POSTSCRIPT),
    (0, b"\x04%!PS", POSTSCRIPT),
    (0, b"\xc5\xd0\xd3\xc6", POSTSCRIPT),
    (0, b"AT&TFORM", Kind("a DjVu document", "djvutxt {file} {text}")),
    (60, b"BOOKMOBI", Kind("a Kindle book", "ebook-convert {file} {text}")),
    (0, _COMPOUND, Kind("an old Office document", _OFFICE.format(format="pdf"))),
    (0, b"version https://git-lfs.github.com/spec/", LFS),
    (0, b"\x89PNG\r\n\x1a\n", Kind("a PNG image", _OCR)),
    (0, b"\xff\xd8\xff", Kind("a JPEG image", _OCR)),
    (0, b"GIF87a", Kind("a GIF image", _OCR)),
    (0, b"GIF89a", Kind("a GIF image", _OCR)),
    (0, b"II*\0", Kind("a TIFF image", _OCR)),
    (0, b"MM\0*", Kind("a TIFF image", _OCR)),
    (8, b"WEBP", Kind("a WebP image", _OCR)),
    (4, b"ftypheic", Kind("a HEIC image", _OCR)),
    (4, b"ftypavif", Kind("an AVIF image", _OCR)),
    (4, b"ftyp", Kind("a video or sound", advice=_AUDIO)),
    (0, b"\x1aE\xdf\xa3", Kind("a video", advice=_AUDIO)),
    (0, b"OggS", Kind("a sound", advice=_AUDIO)),
    (0, b"fLaC", Kind("a sound", advice=_AUDIO)),
    (0, b"ID3\x02", Kind("a sound", advice=_AUDIO)),
    (0, b"ID3\x03", Kind("a sound", advice=_AUDIO)),
    (0, b"ID3\x04", Kind("a sound", advice=_AUDIO)),
    (8, b"WAVEfmt", Kind("a sound", advice=_AUDIO)),
    (8, b"AVI LIST", Kind("a video", advice=_AUDIO)),
    (0, b"\x1f\x8b\x08", Kind("gzip data", "gunzip -c {file} > {text}")),
    (0, b"\xfd7zXZ\0", Kind("xz data", "xz -dc {file} > {text}")),
    (0, b"\x28\xb5\x2f\xfd", Kind("Zstandard data", "zstd -dc {file} > {text}")),
    (4, b"1AY&SY", Kind("bzip2 data", "bzip2 -dc {file} > {text}")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", advice=ZIP.advice)),
    (0, b"Rar!\x1a\x07", Kind("a RAR archive", advice=ZIP.advice)),
    (257, b"ustar", Kind("a tar archive", advice=ZIP.advice)),
    (0, b"SQLite format 3\0", Kind("an SQLite database", "sqlite3 {file} .dump > {text}")),
    (0, b"PAR1", Kind("a Parquet table", advice=_AS_TEXT)),
    (0, b"\x93NUMPY", Kind("a NumPy array", advice=_AS_TEXT)),
    (0, b"\x89HDF\r\n\x1a\n", Kind("HDF5 data", advice=_AS_TEXT)),
    (0, b"GGUF", Kind("a GGUF model", advice="gf model import makes a model of it")),
    (0, b"\x7fELF", Kind("a program", advice="gf reads plain text")),
    (0, b"MZ\x90\0", Kind("a program", advice="gf reads plain text")),
    (0, b"\xca\xfe\xba\xbe", Kind("a program", advice="gf reads plain text")),
    (0, b"\0asm", Kind("a program", advice="gf reads plain text")),
)

# By what is packed into a ZIP archive: a file of that name, or the media type that the first of its files names.
_MEMBERS: tuple[tuple[bytes, Kind], ...] = (
    (b"word/document.xml", WORD),
    (b"ppt/presentation.xml", POWERPOINT),
    (b"xl/workbook.xml", EXCEL),
    (b"xl/workbook.bin", Kind("a binary Excel workbook", _OFFICE.format(format="xlsx"))),
    (b"Index/Document.iwa", Kind("an iWork document", advice="export it as PDF or text first")),
    (b"archive/data.pkl", Kind("weights of PyTorch", advice="gf model import makes a model of it")),
    (b"/data.pkl", Kind("weights of PyTorch", advice="gf model import makes a model of it")),
)
_MEDIA_TYPES: tuple[tuple[bytes, Kind], ...] = (
    (b"mimetypeapplication/epub+zip", EPUB),
    (b"application/vnd.oasis.opendocument.spreadsheet", ODS),
    (b"application/vnd.oasis.opendocument.presentation", ODP),
    (b"application/vnd.oasis.opendocument.text", ODT),
    (b"application/vnd.oasis.opendocument", Kind("an OpenDocument file", _OFFICE.format(format="pdf"))),
)
# Kinds of archives that `converters` reads.
PACKED = (WORD, EPUB, EXCEL, POWERPOINT, ODT, ODS, ODP)

_PDF = re.compile(rb"%PDF-\d\.\d")
_MEDIA_TYPE_BYTES = 256
_DIRECTORY_END = b"PK\x05\x06"
# What may stand before the first tag of a page.
_BEFORE_TAGS = re.compile(r"(?:\s+|<!--.*?-->|<\?xml.*?\?>)*", re.DOTALL)


def kind_of(data: bytes) -> Kind | None:
    """What a file is instead of text, from its bytes or the beginning of them; None where they do not say."""
    head = data[:HEAD_BYTES]
    if _is_pdf(head, data):
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return _packed(data)
    if head.startswith(_COMPOUND):
        found = next((kind for name, kind in _STREAMS if name.encode("utf-16-le") in data), None)
        if found is not None:
            return found
    if head.startswith((b"PK\x05\x06", b"PK\x07\x08")):
        return ZIP
    return next((kind for at, magic, kind in _MAGICS if head.startswith(magic, at) and _may_be(magic, head)), None)


def _packed(data: bytes) -> Kind:
    """What an archive is: its names stand in its directory at the end, after what is packed, also other archives."""
    for media_type, kind in _MEDIA_TYPES:
        if media_type in data[:_MEDIA_TYPE_BYTES]:
            return kind
    directory = data.rfind(_DIRECTORY_END)
    start = int.from_bytes(data[directory + 16 : directory + 20], "little") if directory >= 0 else 0
    names = data[start:directory] if 0 < start < directory else data
    return next((kind for name, kind in _MEMBERS if name in names), ZIP)


def _is_pdf(head: bytes, data: bytes) -> bool:
    """A PDF, also one with other bytes before it; a text that speaks of PDF holds no objects."""
    if head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"%PDF-"):
        return True
    return _PDF.search(head[:1024]) is not None and b"endobj" in data and b"xref" in data


# Letters that begin such a file, and hardly ever a text.
_SURE = (b"{\\rtf", b"%!PS", b"version ", b"GIF8", b"AT&T")


def _may_be(magic: bytes, head: bytes) -> bool:
    """Whether a file begins so because of its kind: letters that a text may begin with count where a NUL is near."""
    is_text = magic.isascii() and magic.decode().isprintable()
    return not is_text or magic.startswith(_SURE) or b"\0" in head


def kind_of_text(text: str) -> Kind | None:
    """What characters are instead of plain text: HTML, also behind comments; RTF, PostScript, a pointer of Git LFS."""
    start = text[:HEAD_BYTES].lstrip("\ufeff \t\r\n")
    if start.startswith("{\\rtf"):
        return RTF
    if start.startswith("%!PS"):
        return POSTSCRIPT
    is_xml = start.startswith("<?xml")
    found = _BEFORE_TAGS.match(start)
    tags = start[found.end() if found else 0 :][:1024].lower()
    if tags.startswith(("<!doctype html", "<html", "<head>", "<body>")) or (is_xml and "<html" in tags):
        return HTML
    return None


# Of what is told of weights: the file itself, and what is told of archives that are weights, is none of these.
_AS_EXPECTED = ("a ZIP archive", "weights of PyTorch")


def in_place_of(data: bytes, expected: str) -> str | None:
    """What a file is instead of what it should be, in words; None where its bytes do not say.

    Args:
        data: the file, or the beginning of it.
        expected: what it should be: "JSON", "weights".
    """
    if not data:
        return f"it is empty, expected {expected}"
    kind = kind_of(data)
    if kind is None and not data.startswith(b"\x80"):  # as pickles begin
        text = data[:HEAD_BYTES].decode("utf-8", "ignore")
        if len(text.encode()) >= len(data[:HEAD_BYTES]) - 3 and not re.search(r"[\0-\x08\x0e-\x1a]", text):
            kind = kind_of_text(text) or (Kind("plain text") if expected != "JSON" else None)
    if kind is None or kind.name in _AS_EXPECTED:
        return None
    return f"it is {kind.name}, expected {expected}"


def next_step(data: bytes, place: Path) -> str | None:
    """What to do about a file that is something else than weights: fetch it, or import it as what it is."""
    kind = kind_of(data)
    if kind is LFS:
        return f"fetch the file itself: git lfs pull in {place.parent}, or download it again"
    if data.startswith(b"GGUF"):
        return f"gf model import {shlex.quote(str(place))}, without --config"
    return "download or copy it again" if kind is None else None
