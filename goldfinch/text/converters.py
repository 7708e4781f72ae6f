"""Files that are not plain text, as text; PDF, Word, Excel, HTML and EPUB with the extra goldfinch-gf[docs]. No torch.

Pages of a PDF end in a form feed, as those of pdftotext do, so that places in the text have page numbers; so do slides
and sheets. Tables of the others become those of Markdown. These files are anybody's: nothing that they name is opened
or fetched, archives may not hold more than a document may, and whatever their readers stumble over is a file that is
no text.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import posixpath
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from goldfinch.errors import NotText

from . import kinds
from .encodings import STDIN_LABEL
from .formats import excel, opendocument, powerpoint, rtf
from .formats.archives import elements, open_archive
from .formats.blocks import PAGE_END
from .kinds import EPUB, HEAD_BYTES, HTML, PDF, WORD, Kind, kind_of, kind_of_text, with_names

# What reads each kind, in the extra; nothing for those that are read here.
_NEEDS: dict[Kind, tuple[str, ...]] = {
    PDF: ("pypdf",),
    WORD: ("mammoth", "markdownify"),
    HTML: ("markdownify",),
    EPUB: ("markdownify",),
    kinds.EXCEL: ("openpyxl",),
    **dict.fromkeys((kinds.POWERPOINT, kinds.RTF, kinds.ODT, kinds.ODS, kinds.ODP), ()),
}
# What the pages of a kind are called, where it is not pages.
_PAGES = {kinds.POWERPOINT: "slide", kinds.ODP: "slide", kinds.EXCEL: "sheet", kinds.ODS: "sheet"}
_NOTE = "text of "
# What only changes how words look, and what cannot be followed.
_PLAIN_TAGS = ("a", "b", "del", "em", "i", "img", "strong")
_HIDDEN_TAGS = ("script", "style", "noscript", "template", "svg", "nav")


@dataclass(frozen=True)
class Converted:
    """A document that was made text.

    Attributes:
        text: it.
        note: what it is the text of, for the cache file.
    """

    text: str
    note: str


def is_installed(kind: Kind) -> bool:
    """Whether what reads a kind of file is installed; nothing is imported for it."""
    return kind in _NEEDS and all(importlib.util.find_spec(name) is not None for name in _NEEDS[kind])


def may_be_converted(start: bytes) -> bool:
    """Whether a file that begins so may be one that `converted` makes text of."""
    if start.startswith(b"PK\x03\x04"):  # what it is may stand further on
        return any(is_installed(kind) for kind in kinds.PACKED)
    kind = _kind(start)
    return kind is not None and is_installed(kind)


def converted(data: bytes, label: str, encoding: str | None = None) -> Converted | None:
    """A file as text; None where it is of no kind that is read here, or what reads it is not installed.

    Args:
        label: what to call it in messages.
        encoding: of HTML, where the user says it.

    Raises:
        NotText: it is damaged, encrypted, larger than a document may be, or holds no text.
    """
    kind = _kind(data)
    if kind is None or not is_installed(kind):
        return None
    convert = _CONVERTERS.get(kind, lambda page: _of_html(page, encoding))
    try:
        text = convert(data)
    except MemoryError:
        raise
    except NotText as error:
        hint = with_names(error.hint, label, STDIN_LABEL) if error.hint else _other_way(kind, label)
        raise NotText(f"{label}: {error}", hint=hint) from error
    except (Exception, RecursionError) as error:  # these libraries raise in many ways on what is no such file
        raise NotText(
            f"{label} is {kind.name} that cannot be read: it is damaged",
            hint=_other_way(kind, label),
        ) from error
    if not text.strip():
        hint = with_names("ocrmypdf reads scanned pages: ocrmypdf {file} {stem}-read.pdf", label, STDIN_LABEL)
        raise NotText(f"{label} is {kind.name} without text", hint=hint if kind is PDF else None)
    return Converted(text, _NOTE + kind.name)


def _other_way(kind: Kind, label: str) -> str:
    return replace(kind, extra=False).hint(label, STDIN_LABEL)


def page_word(prepared: str | None) -> str:
    """What the pages of a document are called, from how a cache says that it was prepared: page, slide or sheet."""
    return next((word for kind, word in _PAGES.items() if (prepared or "").startswith(_NOTE + kind.name)), "page")


def _kind(data: bytes) -> Kind | None:
    found = kind_of(data)
    if found is not None or b"<" not in data[:HEAD_BYTES]:
        return found
    is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return kind_of_text(data[:HEAD_BYTES].decode("utf-16" if is_wide else "utf-8", "ignore"))


def _of_pdf(data: bytes) -> str:
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings are no words of ours
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise NotText("this PDF is encrypted", hint="qpdf --decrypt --password=WORD {file} {stem}-open.pdf")
    pages = [page.extract_text().rstrip() for page in reader.pages]
    return "".join(f"{page}\n{PAGE_END}" for page in pages) if any(pages) else ""


def _of_word(data: bytes) -> str:
    import mammoth

    with open_archive(data):
        pass
    # Images are left out unread: a document may name any file as one.
    found = mammoth.convert_to_html(io.BytesIO(data), convert_image=mammoth.images.img_element(lambda image: {}))
    return _of_html(found.value.encode(), "utf-8")


def _of_html(data: bytes, encoding: str | None) -> str:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(data, "html.parser", from_encoding=encoding)
    for tag in soup(_HIDDEN_TAGS):
        tag.decompose()
    made: str = MarkdownConverter(heading_style="ATX", strip=list(_PLAIN_TAGS), escape_misc=False).convert_soup(soup)
    lines = [line.rstrip() for line in made.split("\n")]
    return "\n".join(line for n, line in enumerate(lines) if line or (n and lines[n - 1])).strip() + "\n"


def _of_book(data: bytes) -> str:
    with open_archive(data) as book:
        return "\n".join(_of_html(book.read(name), None) for name in _chapters(book))


def _chapters(book: zipfile.ZipFile) -> Iterator[str]:
    """The pages of an EPUB in the order in which they are read."""
    root = next(one["full-path"] for one in elements(book, "META-INF/container.xml", "rootfile"))
    places = {item.get("id"): item["href"] for item in elements(book, root, "item")}
    for entry in elements(book, root, "itemref"):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(root), places[entry.get("idref")]))


_CONVERTERS: dict[Kind, Callable[[bytes], str]] = {
    PDF: _of_pdf,
    WORD: _of_word,
    EPUB: _of_book,
    kinds.EXCEL: excel.text_of,
    kinds.POWERPOINT: powerpoint.text_of,
    kinds.RTF: rtf.text_of,
    **dict.fromkeys((kinds.ODT, kinds.ODS, kinds.ODP), opendocument.text_of),
}
