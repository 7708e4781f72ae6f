"""What is done to a text before a model reads it: what hides in words goes, lines stay, blobs are said."""

from __future__ import annotations

import base64
import random
import textwrap

import pytest

from goldfinch.text.documents import Reading, document_of_bytes
from goldfinch.text.prepare import NORMALISED, WITHOUT_BLOBS, normalised, prepare

PLAIN = "The code of the blue cabinet is 48213.\nThe official file is café.\n"
HIDDEN = "\ufeffThe co\u00adde of\u00a0the bl\u200bue cab\u2060inet is\u200948\u200e213.\nThe o\ufb03cial \ufb01le is cafe\u0301.\n"


def test_what_hides_in_a_sentence_goes_and_lines_stay() -> None:
    """A soft hyphen or a ligature made the fact of its sentence one that nobody finds."""
    assert normalised(HIDDEN) == PLAIN
    assert prepare(HIDDEN).note == NORMALISED
    for text in (PLAIN, "plain", "", "نمی\u200cدانم 👩\u200d🔬 ❤\ufe0f", "全角　ＡＢＣ", "x² ½ №\n\u2028\u0085\r\n"):
        assert prepare(text).text == text
        assert prepare(text).note is None
    rows = "".join(map(chr, (*range(0x20, 0xD800), *range(0xE000, 0x11000))))
    assert normalised(rows).count("\n") == rows.count("\n")
    for mark in ("\n", "\r\n", "\r", "\u2028", "\x0c", "\x85"):
        assert normalised(f"a\u00ad{mark}b\u200b{mark}").splitlines() == ["a", "b"]
    assert prepare(HIDDEN, verbatim=True).text == HIDDEN
    assert normalised(normalised(rows)) == normalised(rows)


def test_blobs_are_counted_and_left_out_on_request() -> None:
    blob = base64.b64encode(random.Random(1).randbytes(6000)).decode()
    wrapped = "\n".join(textwrap.wrap(blob, 76))
    digits = random.Random(2).randbytes(900).hex()
    for form in (
        blob,
        wrapped,
        f"![a](data:image/png;base64,{blob})",
        textwrap.indent(wrapped, "> "),
        digits,
        wrapped + "\n",
    ):
        text = f"First line.\n{form}\nLast line.\n"
        found = prepare(text, skip_blobs=True)
        assert 0.9 * len(form) < found.blobs <= len(form) + 1
        assert found.note == WITHOUT_BLOBS
        assert found.text.count("\n") == text.count("\n")
        assert found.text.startswith("First line.\n")
        assert found.text.endswith("\nLast line.\n")
        assert len(found.text) < 300
        assert prepare(text).text == text
        document = document_of_bytes(text.encode(), "a.txt")
        assert "--skip-blobs" in str(document.remark)
        assert "prepared" not in document.source
        skipped = document_of_bytes(text.encode(), "a.txt", reading=Reading(skip_blobs=True))
        assert skipped.remark is None
        assert skipped.source["prepared"] == WITHOUT_BLOBS


@pytest.mark.parametrize(
    "text",
    [
        "a" * 5000, "-" * 5000, "/usr/share/" * 100, "word_" * 300, ("0" * 64 + "\n") * 3, "A1b" * 60, "=" * 3000,
        "".join(f"{random.Random(i).randbytes(32).hex()}  file{i}\n" for i in range(200)),
        "\n".join("The Code is 48213 and so on, with many words, for longer than sixty characters." for _ in range(50)),
    ],
)  # fmt: skip
def test_long_words_digests_and_prose_are_no_blobs(text: str) -> None:
    assert prepare(text, skip_blobs=True).text == text
    assert prepare(text).blobs == 0


LONG = "The key of the old cellar is kept by the "


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("house-\nkeeper of the inn.\n", "housekeeper\nof the inn.\n"),
        ("house-\r\n  keeper, who sleeps.\r\n", "housekeeper,\r\nwho sleeps.\r\n"),
        ("house\u2010\nkeeper.\n", "housekeeper.\n\n"),
        ("house\u00ad\nkeeper of it.\n", "housekeeper\nof it.\n"),
        # Written with a hyphen elsewhere, a compound, and two words that stand alone elsewhere.
        ("co-\nowner of it; the co-owner.\n", "co-owner\nof it; the co-owner.\n"),
        ("well-\nknown man.\n", "well-known\nman.\n"),
        ("night-\nwatch: at night, no other watch.\n", "night-watch:\nat night, no other watch.\n"),
        # No wrapped words.
        ("house -\nkeeper.\n", None),
        ("house-\n\nkeeper.\n", None),
        ("house-\nKeeper.\n", None),
        ("house-\n- keeper.\n", None),
        ("house-\n48213.\n", None),
    ],
)
def test_a_word_that_is_hyphenated_at_the_end_of_a_line_is_whole(text: str, whole: str | None) -> None:
    prepared = prepare(LONG + text)
    assert prepared.text == LONG + (text if whole is None else whole)
    assert prepared.text.count("\n") == text.count("\n")
    assert (prepared.note == "normalised") == (whole is not None)
    assert prepare(LONG + text, verbatim=True).text == LONG + text


def test_short_lines_that_end_in_a_hyphen_are_no_wrapped_words() -> None:
    text = "pre-\nfill\n--no-\nstream\n"
    assert prepare(text).text == text
