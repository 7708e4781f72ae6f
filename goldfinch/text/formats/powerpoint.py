"""PowerPoint presentations (ECMA-376, PresentationML) as Markdown, a page for each slide. No torch."""

from __future__ import annotations

import zipfile

from .archives import elements, hear, open_archive, related
from .blocks import Blocks

_PRESENTATION = "ppt/presentation.xml"
_TITLES = ("title", "ctrTitle")
# Placeholders that say nothing of their slide: its number, the date, what stands on all of them, its picture.
_EVERYWHERE = ("sldNum", "dt", "ftr", "hdr", "sldImg")


def text_of(data: bytes) -> str:
    """The text of a presentation: titles as headings, tables, and behind each slide what the speaker is to say.

    Raises:
        NotText: it is too large.
        Exception: as the readers of archives and of XML raise; it is damaged.
    """
    with open_archive(data, ("ppt/slides/", "ppt/notesSlides/")) as archive:
        members = {name: member for name, kind, member in related(archive, _PRESENTATION) if kind == "slide"}
        blocks = Blocks()
        for one in elements(archive, _PRESENTATION, "sldId"):
            member = next(members[value] for value in one.values() if value in members)
            hear(archive, member, _Slide(blocks))
            for _, kind, notes in related(archive, member):
                if kind == "notesSlide":
                    _add_notes(archive, notes, blocks)
            blocks.end_page()
        return blocks.text()


def _add_notes(archive: zipfile.ZipFile, member: str, blocks: Blocks) -> None:
    notes = _Slide(Blocks(), "")
    hear(archive, member, notes)
    blocks.add_section("Notes", notes.blocks)


class _Slide:
    """Hears a slide."""

    def __init__(self, blocks: Blocks, heading: str = "#") -> None:
        self.blocks = blocks
        self._heading = heading
        self._hidden = 0  # elements open since one that is hidden
        self._is_text = self._is_title = self._is_everywhere = False
        self._cells = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._hidden or name == "Fallback":  # of a choice whose first half was read
            self._hidden += 1
        elif name == "sp":
            self._is_title = self._is_everywhere = False
        elif name == "ph":
            self._is_title = attributes.get("type") in _TITLES and bool(self._heading)
            self._is_everywhere = attributes.get("type") in _EVERYWHERE
        elif name == "t":
            self._is_text = True
        elif name == "br":
            self.blocks.add("\n")
        elif name == "tc":
            self._cells += 1

    def end(self, name: str) -> None:
        if self._hidden:
            self._hidden -= 1
        elif name == "t":
            self._is_text = False
        elif name == "p" and self._cells:
            self.blocks.add(" ")
        elif name == "p":
            self.blocks.end_paragraph(heading=int(self._is_title))
        elif name == "sp":
            self._is_title = self._is_everywhere = False
        elif name == "tc":
            self._cells -= 1
            self.blocks.end_cell()
        elif name == "tr":
            self.blocks.end_row()
        elif name == "tbl":
            self.blocks.end_table()

    def characters(self, text: str) -> None:
        if self._is_text and not (self._hidden or self._is_everywhere):
            self.blocks.add(text)
