"""Rich Text Format as Markdown."""

from __future__ import annotations

import time

import pytest

from goldfinch.errors import NotText
from goldfinch.text.documents import document_of_bytes
from goldfinch.text.formats.rtf import text_of

from .samples import RTF


def test_words_tables_and_pages_of_rtf() -> None:
    assert text_of(RTF).split("\n\n") == [
        "# Cabinets",
        "The code of the “blue” cabinet is 48213, Jürgen, €uro, 😀.",
        "Код アィ x y\nz",
        "| Cabinet | Key |\n| --- | --- |\n| red more | 17 |",
        "After",
        "\f",
        "New Note 7 {x}",
        "linkBCD\n",
    ]


def test_pages_that_are_not_all_marked_are_not_numbered() -> None:
    text = text_of(RTF.replace(b"nofpages2", b"nofpages3"))
    assert "\f" not in text
    assert "After\n\n" in text


@pytest.mark.parametrize(
    "data",
    [
        b"{\\rtf1" + b"{" * 100_000, b"{\\rtf1 }", b"{\\rtf1", b"{\\rtf1\\bin99999999999 x}", b"{\\rtf1{\\fonttbl{\\f0 a;}}}",
    ],
)  # fmt: skip
def test_damaged_rtf_is_refused(data: bytes) -> None:
    with pytest.raises(NotText, match=r"RTF (that cannot be read|without text)"):
        document_of_bytes(data, "a.rtf")


def test_what_is_cut_off_or_odd_is_read_as_far_as_it_goes() -> None:
    assert text_of(b"{\\rtf1 The code") == "The code\n"
    assert text_of(b"{\\rtf1\\ansicpg99999 J\\'fc\\'zz \\u-1? \\f7\\q9 x}") == "Jüzz \uffff x\n"
    assert text_of(b"{\\rtf1\\u55357 x}") == "\ufffd\n"  # half a character, and what stands for it


def test_time_grows_with_the_file_alone() -> None:
    """Expressions that look for links and fonts take the square of this."""

    def seconds(times: int) -> float:
        started = time.process_time()
        text_of(
            b"{\\rtf1{\\fonttbl"
            + b"\\f1\\fcharset1 " * times
            + b"}"
            + b'{\\field{\\*\\fldinst{HYPERLINK "' * 300
            + b" x" * times
        )
        return time.process_time() - started

    text_of(RTF)
    assert min(seconds(8_000) for _ in range(3)) < 6 * min(seconds(2_000) for _ in range(3))
