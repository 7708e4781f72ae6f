"""Excel workbooks as Markdown, a page for each sheet, by openpyxl. No torch."""

from __future__ import annotations

import datetime
import io
import warnings
from typing import Any

from goldfinch.errors import NotText

from .archives import open_archive
from .blocks import Blocks

# Of a sheet of Excel.
MOST_ROWS = 1 << 20


def text_of(data: bytes) -> str:
    """The cells of a workbook as it was last computed: dates in ISO 8601, shares in percent where they are shown so.

    Rows without values divide the tables of a sheet.

    Raises:
        NotText: it is too large.
        Exception: as openpyxl raises; it is damaged.
    """
    from openpyxl import load_workbook

    with open_archive(data, ("xl/worksheets/", "xl/sharedStrings.xml")):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it does not keep, and nobody asked for
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        blocks = Blocks()
        for sheet in book.worksheets:
            sheet.reset_dimensions()  # anybody may have written them
            blocks.add(sheet.title)
            blocks.end_paragraph(heading=1)
            for number, row in enumerate(sheet.iter_rows()):
                if number >= MOST_ROWS:
                    raise NotText(f"it has a sheet of more than {MOST_ROWS:,} rows")
                for cell in row:
                    blocks.add(_shown(cell))
                    blocks.end_cell()
                blocks.end_row()
            blocks.end_table()
            blocks.end_page()
        book.close()
    return blocks.text()


def _shown(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        if "%" in (cell.number_format or ""):
            return f"{value * 100:.10g}%"
        return f"{value:.15g}" if isinstance(value, float) else str(value)
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "auto")
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
