"""Paragraphs, headings and tables as they come out of a file, as Markdown. No torch."""

from __future__ import annotations

from goldfinch.errors import NotText

from ..inputs import MOST_DOCUMENT_BYTES

# Ends a page of a PDF or of a text, a slide, a sheet: places in the text are numbered by it.
PAGE_END = "\f"
# What a cell costs, empty or not.
_CELL_CHARACTERS = 3
_DEEPEST_HEADING = 6


class Blocks:
    """Takes text piece by piece; gives lines of Markdown.

    A table inside a cell or a paragraph becomes words of that. Cells stand in the order of their row; rows are not
    filled up to the longest, so that a hostile file gets no more room than it has written, or says that it has.
    """

    def __init__(self, most_characters: int | None = None) -> None:
        self._room = MOST_DOCUMENT_BYTES if most_characters is None else most_characters
        self._blocks: list[str] = []
        self._words: list[str] = []
        self._row: list[str] = []
        self._rows: list[list[str]] = []
        self._ends: dict[int, int] = {}  # pages that end behind a row of the table
        self._waiting = 0  # pages that end behind the paragraph or row that is being read

    def add(self, text: str) -> None:
        """Characters of the paragraph or cell that is being read."""
        self._take(len(text))
        self._words.append(text)

    def end_paragraph(self, heading: int = 0, mark: str = "") -> None:
        """What was added is a paragraph.

        Args:
            heading: its level, 0 for none.
            mark: what stands before it, of an item of a list.
        """
        text = self._added()
        if text and heading:
            text = "#" * min(heading, _DEEPEST_HEADING) + " " + " ".join(text.split())
            mark = ""
        self._paragraph(mark + text if text else "")

    def end_cell(self, times: int = 1) -> None:
        """What was added is the next cell of a row, or several equal ones."""
        text = " ".join(self._added().split()).replace("|", "\\|")
        self._take((len(text) + _CELL_CHARACTERS) * times)
        self._row += [text] * times

    def end_row(self, times: int = 1) -> None:
        """The cells since the last row are one, or several equal ones. One without text ends a table."""
        row = self._row
        self._row = []
        while row and not row[-1]:
            row.pop()
        if not row:
            self.end_table()
            return
        self._take((sum(map(len, row)) + _CELL_CHARACTERS * len(row)) * (times - 1))
        self._rows += [row] * times
        if self._waiting:
            self._ends[len(self._rows) - 1] = self._waiting
            self._waiting = 0

    def end_table(self) -> None:
        """The rows so far are a table, the first of which names the columns; a single cell is a paragraph."""
        rows, ends = self._rows, self._ends
        if not rows:
            return
        self._rows, self._ends = [], {}
        empty = min(next(n for n, cell in enumerate(row) if cell) for row in rows)  # columns before the first
        width = max(map(len, rows)) - empty
        if len(rows) == width == 1:
            self._blocks.append(rows[0][-1] + PAGE_END * ends.get(0, 0))
            return
        lines = []
        for n, row in enumerate(rows):
            cells = row[empty:]
            cells += [""] * (width - len(cells) if n == 0 else 0)
            lines.append(f"| {' | '.join(cells)} |" + PAGE_END * ends.get(n, 0))
            if n == 0:
                lines.append("|" + " --- |" * width)
        self._blocks.append("\n".join(lines))

    def end_page(self) -> None:
        """A page ends here, or, within a paragraph or a row, behind that."""
        self._take(2)
        if self._words or self._row:
            self._waiting += 1
        elif self._rows:
            self._ends[len(self._rows) - 1] = self._ends.get(len(self._rows) - 1, 0) + 1
        else:
            self._waiting += 1
            self._paragraph("")

    def add_section(self, name: str, section: Blocks) -> None:
        """What others have collected, under a heading of its own, if it is anything."""
        text = section.text().strip()
        if text:
            self.end_paragraph()
            self.add(name)
            self.end_paragraph(heading=2)
            self.add(text)
            self.end_paragraph()

    def text(self) -> str:
        """All of it."""
        self.end_paragraph()
        return "\n\n".join(self._blocks) + "\n" if self._blocks else ""

    def _paragraph(self, text: str) -> None:
        if text or not self._rows:
            self.end_table()
        if text or self._waiting:
            self._blocks.append(text + "\n" * bool(text and self._waiting) + PAGE_END * self._waiting)
            self._waiting = 0

    def _added(self) -> str:
        text = "".join(self._words)
        self._words = []
        return text.strip()

    def _take(self, characters: int) -> None:
        self._room -= characters
        if self._room < 0:
            raise NotText(f"it unpacks to more than {MOST_DOCUMENT_BYTES:,} bytes")
