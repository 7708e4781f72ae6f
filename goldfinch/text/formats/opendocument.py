"""OpenDocument: texts, tables and presentations (ODF 1.3, part 3) as Markdown. No torch."""

from __future__ import annotations

import re
import zipfile

from goldfinch.errors import NotText

from .archives import elements, hear, open_archive
from .blocks import PAGE_END, Blocks

# What is no text of the document: what was deleted, remarks, numbers of notes, forms, readings of characters.
_HIDDEN = frozenset((
    "tracked-changes", "annotation", "note-citation", "forms", "scripts", "sequence-decls", "variable-decls",
    "ruby-text", "label-cell-range-source", "date-time-decl", "header-decl", "footer-decl", "event-listeners", "desc",
))  # fmt: skip
_SPACE = re.compile(r"[ \t\r\n]+")
_MOST_SPACES = 1000


def text_of(data: bytes) -> str:
    """The text of an OpenDocument file.

    Sheets and slides end in a form feed. So do the pages of a text, if the program that wrote it noted where all of
    them end.

    Raises:
        NotText: it is encrypted, or too large.
        Exception: as the readers of archives and of XML raise; it is damaged.
    """
    with open_archive(data, ("content.xml",)) as archive:
        if elements(archive, "META-INF/manifest.xml", "encryption-data"):
            raise NotText("it is encrypted", hint="open it with its password, and save it without one")
        content = _Content()
        hear(archive, "content.xml", content)
        text = content.blocks.text()
        if content.has_sheets or content.has_slides or text.count(PAGE_END) + 1 == _page_count(archive):
            return text
    return text.replace(f"\n{PAGE_END}", "").replace(PAGE_END, "")


def _page_count(archive: zipfile.ZipFile) -> int:
    found = elements(archive, "meta.xml", "document-statistic")
    count = found[0].get("page-count", "") if found else ""
    return int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0


class _Content:
    """Hears content.xml."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self.has_sheets = self.has_slides = False
        self._hidden = 0  # elements open since one that is hidden
        self._paragraphs = self._tables = self._cells = 0  # how many are open, each in another
        self._lists = 0
        self._is_item = self._is_title = False  # the next paragraph begins an item, is a title
        self._heading = 0
        self._repeated: list[int] = []  # of open rows and cells
        self._value = ""  # what a cell without text holds
        self._slide: Blocks | None = None  # what notes interrupt

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._hidden or name in _HIDDEN:
            self._hidden += 1
            return
        if name in ("p", "h"):
            self._paragraphs += 1
            self._heading = _number(attributes.get("outline-level")) if name == "h" else 0
        elif name in ("s", "tab", "line-break"):
            count = min(_number(attributes.get("c")), _MOST_SPACES)
            self.blocks.add({"s": " " * count, "tab": "\t", "line-break": "\n"}[name])
        elif name in ("list", "list-item"):
            self._lists += name == "list"
            self._is_item = name == "list-item"
        elif name == "note":
            self.blocks.add(" ")
        elif name == "spreadsheet":
            self.has_sheets = True
        elif name == "page":
            self.has_slides = True
        elif name == "frame":
            self._is_title = attributes.get("class") == "title"
        elif name == "notes" and self._slide is None:
            self._slide, self.blocks = self.blocks, Blocks()
        elif name == "soft-page-break" and not (self.has_sheets or self.has_slides):
            self.blocks.end_page()
        else:
            self._start_in_table(name, attributes)

    def _start_in_table(self, name: str, attributes: dict[str, str]) -> None:
        if name == "table":
            self._tables += 1
            if self.has_sheets and self._tables == 1:
                self.blocks.add(attributes.get("name", ""))
                self.blocks.end_paragraph(heading=1)
        elif name == "table-row":
            self._repeated.append(_number(attributes.get("number-rows-repeated")))
        elif name in ("table-cell", "covered-table-cell"):
            self._cells += 1
            self._repeated.append(_number(attributes.get("number-columns-repeated")))
            kept = (attributes.get(key) for key in ("string-value", "date-value", "time-value", "value"))
            self._value = next((value for value in kept if value), "")

    def end(self, name: str) -> None:
        if self._hidden:
            self._hidden -= 1
        elif name in ("p", "h"):
            self._paragraphs -= 1
            self._end_paragraph()
        elif name == "list":
            self._lists -= 1
        elif name == "notes" and self._slide is not None:
            self._slide.add_section("Notes", self.blocks)
            self.blocks, self._slide = self._slide, None
        elif name == "page":
            self.blocks.end_paragraph()
            self.blocks.end_page()
        elif name in ("table", "table-row", "table-cell", "covered-table-cell"):
            self._end_in_table(name)

    def _end_paragraph(self) -> None:
        self._value = ""
        if self._paragraphs or self._cells:
            self.blocks.add(" ")
            return
        mark = "  " * (self._lists - 1) + "- " if self._is_item and self._lists else ""
        self.blocks.end_paragraph(self._heading or int(self._is_title), mark)
        self._is_item = self._is_title = False

    def _end_in_table(self, name: str) -> None:
        is_outer = self._tables == 1 and not self._paragraphs
        if name == "table":
            self._tables -= 1
            if is_outer:
                self.blocks.end_table()
                if self.has_sheets:
                    self.blocks.end_page()
            return
        times = self._repeated.pop()
        if name != "table-row":
            self._cells -= 1
        if not is_outer:
            self.blocks.add(" ")
        elif name == "table-row":
            self.blocks.end_row(times)
        else:
            self.blocks.add(self._value)
            self._value = ""
            self.blocks.end_cell(times)

    def characters(self, text: str) -> None:
        if self._paragraphs and not self._hidden:
            self.blocks.add(_SPACE.sub(" ", text))


def _number(text: str | None) -> int:
    """A count of the file; 1 where there is none."""
    return max(int(text), 1) if text and len(text) < 10 and text.isascii() and text.isdigit() else 1
