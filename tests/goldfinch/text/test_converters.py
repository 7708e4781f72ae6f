"""Files of all kinds that are read; without the extra, the hint; with it, nothing that a hostile one could do."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from gfcli.app import run
from goldfinch.errors import NotText
from goldfinch.text import converters
from goldfinch.text.documents import document_of_bytes
from goldfinch.text.formats import archives
from tests.goldfinch.text.formats.samples import RTF, odp, ods, odt, packed, pptx, xlsx
from tests.schemas import schema

FACT = "The code of the blue cabinet is 48213."
PAGE = (
    "<!DOCTYPE html><html><head><title>T</title><style>p {color: red}</style></head><body><h1>Cabinets</h1>"
    "<p>The code of the <b>blue</b> cabinet&nbsp;is 48213.</p><script>alert(1)</script>"
    "<table><tr><th>Cabinet</th><th>Key</th></tr><tr><td>red</td><td>17</td></tr></table></body></html>"
)
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(*pages: str) -> bytes:
    """A PDF with a line of Helvetica on each page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * n} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out, places = b"%PDF-1.4\n", []
    for n, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{n} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def word(text: str = FACT) -> bytes:
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    return packed(
        {
            "word/document.xml": f'<w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body></w:document>',
            "_rels/.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r" Type="{office}" Target="word/document.xml"/></Relationships>',
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        }
    )


def book() -> bytes:
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="c"><rootfiles><rootfile full-path="O/p.opf"/></rootfiles></container>',
            "O/p.opf": '<package xmlns="p"><manifest><item id="b" href="b.xhtml"/><item id="a" href="a.xhtml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
            "O/a.xhtml": "<html><body><p>First.</p></body></html>",
            "O/b.xhtml": f"<html><body><p>{FACT}</p></body></html>",
        }
    )


FILES: dict[str, Callable[[], bytes]] = {
    "a.pdf": lambda: pdf("Something else.", FACT),
    "a.docx": word,
    "a.html": PAGE.encode,
    "wide.html": lambda: PAGE.encode("utf-16"),
    "a.epub": book,
    "a.xlsx": xlsx,
}
# What is read without it, too.
OWN: dict[str, Callable[[], bytes]] = {
    "a.pptx": pptx,
    "a.odt": odt,
    "a.ods": ods,
    "a.odp": odp,
    "a.rtf": lambda: RTF.replace(rb"\ldblquote blue\rdblquote ", b"blue").replace(b"48213,", b"48213."),
}
needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pypdf", "mammoth", "openpyxl")),
    reason="needs the extra goldfinch-gf[docs]",
)


@needs_extra
@pytest.mark.parametrize("name", FILES | OWN)
def test_text_of_a_document(name: str) -> None:
    document = document_of_bytes((FILES | OWN)[name](), name)
    assert FACT in document.text
    assert document.remark is None
    assert document.source["prepared"].startswith("text of ")
    if name.endswith("html"):
        assert "# Cabinets" in document.text
        assert "| red | 17 |" in document.text
        assert "alert" not in document.text
        assert "color" not in document.text
    if name == "a.epub":
        assert document.text.index("First.") < document.text.index(FACT)


@pytest.mark.parametrize("name", FILES)
def test_without_the_extra_the_hint_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotText, match="expected plain text") as found:
        document_of_bytes(FILES[name](), name)
    assert "pip install 'goldfinch-gf[docs]'" in str(found.value.hint)
    assert converters.may_be_converted(FILES[name]()[:4096]) == FILES[name]().startswith(b"PK")


@pytest.mark.parametrize("name", OWN)
def test_what_is_read_here_needs_no_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converters.importlib.util, "find_spec", lambda name: None)
    assert converters.may_be_converted(OWN[name]()[:4096])
    assert FACT in document_of_bytes(OWN[name](), name).text


@needs_extra
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pdf(FACT)[:-200], "a PDF that cannot be read"),
        (pdf(""), "a PDF without text"),
        (word()[:-60], "a Word document that cannot be read"),
        (word(""), "a Word document without text"),
        (("<html>" + "<div>" * 100_000).encode(), "HTML"),
    ],
)
def test_what_cannot_be_read_is_said(data: bytes, words: str) -> None:
    with pytest.raises(NotText, match=words) as refused:
        document_of_bytes(data, "my a.pdf")
    assert "'my a.pdf'" in str(refused.value.hint) or "Word document without text" in words


@needs_extra
def test_an_archive_that_unpacks_to_more_than_a_document_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_DOCUMENT_BYTES", 10_000)
    with pytest.raises(NotText, match="it unpacks to more than 10,000 bytes"):
        document_of_bytes(word("x" * 20_000), "x.docx")


@needs_extra
def test_a_page_is_named_where_a_fact_stands(tmp_path: Path, tiny_model: Path, capsys) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf("Something else.", FACT))
    asked = ["ask", str(path), "What is the code?", "-m", str(tiny_model), "-n", "2", "--cite"]
    assert run([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, schema("ask"))
    assert answer["citations"]
    for row in answer["citations"]:
        assert row["page"] == (2 if FACT in row["text"] else 1), row
        assert row["page_kind"] == "page"
    assert run(asked) == 0
    assert "[page " in capsys.readouterr().out


@needs_extra
@pytest.mark.parametrize(
    ("name", "word"), [("a.pptx", "slide"), ("a.odp", "slide"), ("a.ods", "sheet"), ("a.xlsx", "sheet")]
)
def test_slides_and_sheets_are_named(name: str, word: str, tmp_path: Path, tiny_model: Path, capsys) -> None:
    path = tmp_path / name
    path.write_bytes((FILES | OWN)[name]())
    asked = ["ask", str(path), "What is the code?", "-m", str(tiny_model), "-n", "2", "--cite"]
    assert run([*asked, "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["citations"]:
        assert row["page_kind"] == word
    assert run(asked) == 0
    assert f"[{word} " in capsys.readouterr().out


@needs_extra
def test_a_folder_of_documents(tmp_path: Path, tiny_model: Path, capsys) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, data in (FILES | OWN).items():
        (folder / name).write_bytes(data())
    (folder / "scan.pdf").write_bytes(pdf(""))
    (folder / "all.zip").write_bytes(packed({"a.txt": "x"}))
    assert run(["prefill", "-r", str(folder), "-o", f"{tmp_path}/out/", "-m", str(tiny_model)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(FILES | OWN)
    assert "2 skipped" in err
    shutil.rmtree(folder)


def test_pages_of_a_text_with_form_feeds() -> None:
    """As pdftotext writes them, and as RFCs have them."""
    from types import SimpleNamespace

    import numpy as np

    from gfcli.support.answers import page_starts

    def starts(text: str) -> list[int]:
        tokenizer = SimpleNamespace(decode=lambda ids: text)
        cache = SimpleNamespace(own_token_ids=np.zeros(1))
        return page_starts(SimpleNamespace(model=SimpleNamespace(tokenizer=tokenizer), cache=cache))  # type: ignore[arg-type]

    assert starts("one\ntwo\n") == []
    assert starts("one\n\ftwo\n\fthree\n\f") == [2, 3, 4]
    assert starts("one [Page 1]\n\f\ntwo\n") == [2]
    assert starts("one\f\ntwo\n") == [2]
