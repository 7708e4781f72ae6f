"""Where the corpora are found, and what is said of a damaged one."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from goldfinch.datasets.corpora import data_directory, read_records
from goldfinch.errors import CorpusDamaged, GoldFinchError


def test_missing_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GF_DATA_DIR", raising=False)
    with pytest.raises(GoldFinchError, match="no training data"):
        data_directory()
    with pytest.raises(GoldFinchError, match="does not exist"):
        data_directory("/no/such/folder")


def corpus(folder: Path, *lines: bytes) -> Path:
    path = folder / "books.jsonl.zst"
    path.write_bytes(zstandard.compress(b"".join(lines)))
    return path


GOOD = b'{"title": "A", "text": "one"}\n'


def test_records_and_blank_lines(tmp_path: Path) -> None:
    path = corpus(tmp_path, b"\n", GOOD, b"  \r\n", GOOD, b"\n")
    assert [record["text"] for record in read_records(path)] == ["one", "one"]
    assert len(list(read_records(path, 1))) == 1
    path.write_bytes(path.read_bytes() + zstandard.compress(GOOD))  # as `zstd` appends
    assert len(list(read_records(path))) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"title": "A", "text": null}\n', "'text' is null"),
        (b'{"title": 7, "text": "one"}\n', "'title' is a whole number, expected a text"),
        (b'{"title": "B"}\n', "no 'text'"),
        (b'["A"]\n', "list, expected an object"),
        (b"null\n", "expected an object"),
        (b'{"text": "caf\xe9"}\n', "not UTF-8"),
        (b"{'text': 1}\n", "no JSON"),
        (b"[" * 100_000 + b"\n", "no JSON"),
        (b'{"text": "on', "cut short"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, words: str) -> None:
    path = corpus(tmp_path, GOOD, b"\n", line)
    with pytest.raises(CorpusDamaged, match=words) as caught:
        [record["text"] for record in read_records(path)]
    assert f"{path}: line 3: " in str(caught.value)


def test_a_file_that_is_cut_or_no_zstandard(tmp_path: Path) -> None:
    path = corpus(tmp_path, *(b'{"title": "%d", "text": "%d"}\n' % (n, n * n) for n in range(9999)))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(CorpusDamaged, match="cut short"):
        list(read_records(path))
    path.write_bytes(b"title,text\n" * 9)
    with pytest.raises(CorpusDamaged, match="behind line 0"):
        list(read_records(path))
