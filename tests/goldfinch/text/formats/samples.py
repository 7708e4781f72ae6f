"""Office files as programs write them, cut down to what matters here."""

from __future__ import annotations

import io
import zipfile

FACT = "The code of the blue cabinet is 48213."
OPEN = "urn:oasis:names:tc:opendocument:xmlns:"
NAMES = "".join(f' xmlns:{name}="{OPEN}{name}:1.0"' for name in ("office", "text", "table", "draw", "presentation"))
DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
SLIDES = f'{DRAWING} xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def packed(files: dict[str, str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, text in files.items():
            archive.writestr(name, text, zipfile.ZIP_STORED if name == "mimetype" else None)
    return out.getvalue()


def open_document(kind: str, body: str, **members: str) -> bytes:
    content = f"<office:document-content{NAMES}><office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    files = {"mimetype": f"application/vnd.oasis.opendocument.{kind}", "content.xml": content}
    return packed(files | {f"{name}.xml": text for name, text in members.items()})


def odt(body: str = f"<text:p>{FACT}</text:p>", pages: int = 1) -> bytes:
    meta = f'<m xmlns:meta="{OPEN}meta:1.0"><meta:document-statistic meta:page-count="{pages}"/></m>'
    return open_document("text", body, meta=meta)


def sheet(*rows: str, name: str = "Stock") -> str:
    return f'<table:table table:name="{name}">{"".join(f"<table:table-row>{row}</table:table-row>" for row in rows)}</table:table>'


def cell(text: str, times: int = 1) -> str:
    inside = f"<text:p>{text}</text:p>" if text else ""
    return f'<table:table-cell table:number-columns-repeated="{times}">{inside}</table:table-cell>'


def ods() -> bytes:
    empty = '<table:table-row table:number-rows-repeated="1048570"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>'
    first = sheet(cell("Item") + cell("Code") + cell("", 16000), cell("red") + cell("17"))
    second = sheet(cell("Item") + cell("Code"), cell("blue cabinet") + cell(FACT), name="More")
    return open_document("spreadsheet", first + second.replace("</table:table>", f"{empty}</table:table>"))


def odp() -> bytes:
    def page(title: str, text: str, notes: str = "") -> str:
        frame = "<draw:frame{}><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>"
        as_title = ' presentation:class="title"'
        return (
            f"<draw:page>{frame.format(as_title, title)}{frame.format('', text)}"
            f"<presentation:notes>{frame.format('', notes)}</presentation:notes></draw:page>"
        )

    return open_document("presentation", page("One", "Something else.") + page("Two", "Body", FACT))


def shape(text: str, place: str = "") -> str:
    ph = f'<p:nvSpPr><p:nvPr><p:ph type="{place}"/></p:nvPr></p:nvSpPr>' if place else ""
    return f"<p:sp>{ph}<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"


def relations(*targets: tuple[str, str]) -> str:
    rows = "".join(
        f'<Relationship Id="r{n}" Type="{RELATIONS}/{kind}" Target="{target}"/>'
        for n, (kind, target) in enumerate(targets)
    )
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{rows}</Relationships>'


TABLE = (
    "<p:graphicFrame><a:tbl><a:tr>{0}Cabinet{1}{0}Key{1}</a:tr><a:tr>{0}blue{1}{0}48213{1}</a:tr></a:tbl></p:graphicFrame>"
).format("<a:tc><a:txBody><a:p><a:r><a:t>", "</a:t></a:r></a:p></a:txBody></a:tc>")


def pptx() -> bytes:
    """Three slides, the second file of which is the first slide; the last has a table and notes."""
    listed = "".join(f'<p:sldId id="{256 + n}" r:id="r{n}"/>' for n in (1, 0, 2))
    slides = [
        shape("Second", "title") + shape("7", "sldNum"),
        shape("Welcome", "ctrTitle") + shape("Something else."),
        shape("Codes", "title") + TABLE,
    ]
    return packed(
        {
            "[Content_Types].xml": "<Types/>",
            "ppt/presentation.xml": f'<p:presentation {SLIDES} xmlns:r="{RELATIONS}"><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": relations(*(("slide", f"slides/slide{n}.xml") for n in (1, 2, 3))),
            **{f"ppt/slides/slide{n}.xml": f"<p:sld {SLIDES}>{text}</p:sld>" for n, text in enumerate(slides, 1)},
            "ppt/slides/_rels/slide3.xml.rels": relations(("notesSlide", "../notesSlides/notesSlide1.xml")),
            "ppt/notesSlides/notesSlide1.xml": f"<p:notes {SLIDES}>{shape(FACT, 'body')}{shape('3', 'sldNum')}</p:notes>",
        }
    )


def xlsx(**cells: object) -> bytes:
    """A workbook of a sheet called Stock, with values by place, and one called Last."""
    from openpyxl import Workbook

    book = Workbook()
    stock = book.active
    assert stock is not None
    stock.title = "Stock"
    for place, value in (cells or {"A1": "Item", "B1": "Code", "A2": "blue cabinet", "B2": 48213}).items():
        stock[place] = value
        if isinstance(value, float):
            stock[place].number_format = "0.0%"
    book.create_sheet("Last")["C5"] = FACT
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


RTF = (
    rb"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss\fcharset0 Arial;}{\f1\fnil\fcharset204 Times;}{\f2\fcharset128 M;}}"
    rb"{\info{\title Secret}{\nofpages2}}{\*\generator W}{\header Page head}\pard\outlinelevel0\b Cabinets\b0\par"
    + b"\r\n"
    rb"\pard The code of the \ldblquote blue\rdblquote  cabinet is 48213, J\'fcrgen, \u8364?uro, \u-10179?\u-8704?.{\*\c no}\par "
    rb"{\f1\'ca\'ee\'e4} {\f2\'83A\'83\'42} x{\v hidden} y\line z\par "
    rb"\trowd\cellx100\cellx200\pard\intbl Cabinet\cell Key\cell\row \trowd\pard\intbl red\par more\cell 17\cell\row "
    rb"\pard After\page New{\footnote Note 7} \{x\}{\pict\bin3 }}}}\par "
    rb"{\field{\*\fldinst{HYPERLINK " + b'"http://x"' + rb"}}{\fldrslt link}}{\uc2\u66??\uc0\u67 D}\par}trailing"
)
