"""OpenDocument, PowerPoint and Excel as Markdown; slides and sheets as pages; nothing that a hostile file could do."""

from __future__ import annotations

import datetime
import importlib.util
import io
import zipfile
from collections.abc import Callable

import pytest

from goldfinch.errors import NotText
from goldfinch.text.documents import document_of_bytes
from goldfinch.text.formats import archives, blocks, excel, opendocument, powerpoint

from .samples import FACT, odp, ods, odt, open_document, packed, pptx, relations, sheet, xlsx

needs_openpyxl = pytest.mark.skipif(importlib.util.find_spec("openpyxl") is None, reason="needs openpyxl")


def test_words_lists_notes_and_tables_of_a_text() -> None:
    body = (
        '<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:h text:outline-level="2">Cabi<text:span>nets</text:span></text:h>'
        '<text:p>The   code\n of<text:s text:c="3"/>it<text:tab/>is<text:note><text:note-citation>1</text:note-citation>'
        "<text:note-body><text:p>A note.</text:p></text:note-body></text:note>here<office:annotation><text:p>no</text:p></office:annotation>.</text:p>"
        "<text:list><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>inner</text:p></text:list-item></text:list></text:list-item></text:list>"
        "<table:table><table:table-header-rows><table:table-row><table:table-cell><text:p>A|B</text:p><text:p>C</text:p></table:table-cell>"
        "<table:table-cell/><table:table-cell><text:p>D</text:p></table:table-cell></table:table-row></table:table-header-rows>"
        "<table:table-row><table:table-cell><table:table><table:table-row><table:table-cell><text:p>in</text:p></table:table-cell>"
        "<table:table-cell><text:p>ner</text:p></table:table-cell></table:table-row></table:table></table:table-cell></table:table-row></table:table>"
    )
    assert opendocument.text_of(odt(body)).split("\n\n") == [
        "## Cabinets",
        "The code of   it\tis A note. here.",
        "- one",
        "  - inner",
        "| A\\|B C |  | D |\n| --- | --- | --- |\n| in ner |\n",
    ]


def test_pages_of_a_text_count_where_all_of_them_are_noted() -> None:
    body = f"<text:p>First, <text:soft-page-break/>and on.</text:p><text:soft-page-break/><text:p>{FACT}</text:p>"
    assert opendocument.text_of(odt(body, pages=3)) == f"First, and on.\n\f\n\n\f\n\n{FACT}\n"
    assert "\f" not in opendocument.text_of(odt(body, pages=4))
    assert "\f" not in opendocument.text_of(open_document("text", body))
    rows = "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell></table:table-row><text:soft-page-break/><table:table-row><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>"
    assert opendocument.text_of(odt(rows, pages=2)) == "| a |\f\n| --- |\n| b |\n"


def test_sheets_and_slides_are_pages() -> None:
    assert opendocument.text_of(ods()).split("\f") == [
        "# Stock\n\n| Item | Code |\n| --- | --- |\n| red | 17 |\n\n",
        f"\n\n# More\n\n| Item | Code |\n| --- | --- |\n| blue cabinet | {FACT} |\n\n",
        "\n",
    ]
    assert opendocument.text_of(odp()).split("\f") == [
        "# One\n\nSomething else.\n\n", f"\n\n# Two\n\nBody\n\n## Notes\n\n{FACT}\n\n", "\n",
    ]  # fmt: skip
    assert powerpoint.text_of(pptx()).split("\f") == [
        "# Welcome\n\nSomething else.\n\n",
        "\n\n# Second\n\n",
        f"\n\n# Codes\n\n| Cabinet | Key |\n| --- | --- |\n| blue | 48213 |\n\n## Notes\n\n{FACT}\n\n",
        "\n",
    ]


@needs_openpyxl
def test_cells_of_a_workbook_read_as_they_are_shown() -> None:
    day = datetime.datetime(2021, 3, 4)
    data = xlsx(
        B2="Item",
        C2="Share",
        D2="Since",
        B3="x|y",
        C3=0.125,
        D3=day,
        B4=True,
        D4=day.replace(hour=5),
        B6="far",
        B7=1e-7,
    )
    assert excel.text_of(data).split("\f") == [
        "# Stock\n\n| Item | Share | Since |\n| --- | --- | --- |\n| x\\|y | 12.5% | 2021-03-04 |\n| TRUE |  | 2021-03-04 05:00:00 |"
        "\n\n| far |\n| --- |\n| 1e-05% |\n\n",
        f"\n\n# Last\n\n{FACT}\n\n",
        "\n",
    ]


def changed(data: bytes, member: str, change: Callable[[str], str]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    return packed(files | {member: change(files[member])})


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: odt()[:-60], "is an OpenDocument text that cannot be read"),
        (lambda: odt("<text:p/>"), "an OpenDocument text without text"),
        (lambda: odt("<text:p>a"), "cannot be read"),
        (lambda: odt("<text:span>" * 5000 + FACT + "</text:span>" * 5000), "cannot be read"),
        (lambda: changed(odt(), "content.xml", lambda text: f"{LAUGHS}{text}"), "cannot be read"),
        (lambda: open_document("text", "", **{"META-INF/manifest": "<m><encryption-data/></m>"}), "it is encrypted"),
        (lambda: changed(pptx(), "ppt/_rels/presentation.xml.rels", lambda _: relations()), "cannot be read"),
        (lambda: changed(pptx(), "ppt/slides/slide1.xml", lambda _: "<x>"), "cannot be read"),
    ],
)
def test_damaged_files_are_refused(data: Callable[[], bytes], words: str) -> None:
    with pytest.raises(NotText, match=words) as refused:
        document_of_bytes(data(), "x")
    assert refused.value.hint or "without text" in words
    assert "pip install" not in str(refused.value.hint)


@needs_openpyxl
def test_damaged_workbooks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "xl/worksheets/sheet1.xml"
    for data in (
        xlsx()[:-60],
        changed(xlsx(), place, lambda text: text.replace('r="A1"', 'r="ZZZZZZZZ1"')),
        changed(xlsx(), "xl/workbook.xml", lambda _: "<x/>"),
    ):
        with pytest.raises(NotText, match=r"cannot be read|without text"):
            document_of_bytes(data, "x")
    monkeypatch.setattr(excel, "MOST_ROWS", 100)
    with pytest.raises(NotText, match="a sheet of more than 100 rows"):
        document_of_bytes(changed(xlsx(), place, lambda text: text.replace('<row r="2"', '<row r="999999999999"')), "x")


def test_what_unpacks_to_more_than_a_document_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_DOCUMENT_BYTES", 100_000)
    monkeypatch.setattr(blocks, "MOST_DOCUMENT_BYTES", 100_000)
    wide = sheet('<table:table-cell table:number-columns-repeated="999999999"><text:p>a</text:p></table:table-cell>')
    tall = sheet("<table:table-cell/><table:table-cell><text:p>a</text:p></table:table-cell>").replace(
        "<table:table-row>", '<table:table-row table:number-rows-repeated="999999999">'
    )
    for data in (odt("<text:p/>" * 20_000), open_document("spreadsheet", wide), open_document("spreadsheet", tall)):
        assert len(data) < 2000
        with pytest.raises(NotText, match="it unpacks to more than"):
            document_of_bytes(data, "x")
    assert len(opendocument.text_of(odt('<text:p>a<text:s text:c="999999999"/>b</text:p>'))) < 2000


def test_a_size_that_is_a_lie_ends_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an archive says of a member is all that is read of it."""
    data = bytearray(odt(f"<text:p>{FACT}</text:p>" * 5000))
    size = next(one for one in zipfile.ZipFile(io.BytesIO(data)).infolist() if one.filename == "content.xml").file_size
    data = data.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    monkeypatch.setattr(archives, "MOST_DOCUMENT_BYTES", 100_000)
    with pytest.raises(NotText, match="cannot be read"):
        document_of_bytes(bytes(data), "x")


def test_parts_that_are_read_whole_are_small_and_parts_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_TREE_BYTES", 500)
    with pytest.raises(NotText, match=r"a part of more than 500 bytes, styles\.xml"):
        document_of_bytes(open_document("text", "<text:p>a</text:p>" * 99, styles="<x/>" * 999), "x")
    monkeypatch.setattr(archives, "MOST_MEMBERS", 5)
    with pytest.raises(NotText, match="more than 5 files"):
        document_of_bytes(open_document("text", "", **dict.fromkeys("abcdef", "<x/>")), "x")


def test_an_archive_is_what_its_own_directory_says() -> None:
    """Not what a file says that is packed into it."""
    inner = packed({"letters/a.odt.zip": "x", "mimetype": "text", "b.docx": "PK word/document.xml"}, zipfile.ZIP_STORED)
    with pytest.raises(NotText, match="is a ZIP archive"):
        document_of_bytes(inner, "x.zip")
