"""Where the corpora are found, and what is said of a damaged one."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import zstandard

from goldfinch.datasets import corpora
from goldfinch.datasets.articles import short_answer
from goldfinch.datasets.corpora import data_directory, read_records
from goldfinch.errors import CorpusDamaged, GoldFinchError
from tests.endless import KINDS, guarded, put


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
    whole = zstandard.compress(GOOD * 3)
    for end in range(1, len(whole)):  # also where no line has come out of it, or all of them
        path.write_bytes(whole[:-end])
        with pytest.raises(CorpusDamaged, match=r"behind line|cut short"):
            list(read_records(path))
    path.write_bytes(whole + whole[:9])
    with pytest.raises(CorpusDamaged, match="cut short, behind line 3"):
        list(read_records(path))
    path.write_bytes(b"title,text\n" * 9)
    with pytest.raises(CorpusDamaged, match="behind line 0"):
        list(read_records(path))


@pytest.mark.parametrize("kind", KINDS)
def test_what_never_ends_is_no_corpus(tmp_path: Path, kind: str) -> None:
    put(tmp_path / "books.jsonl.zst", kind)
    with guarded(), pytest.raises(CorpusDamaged, match="expected a regular file"):
        list(read_records(tmp_path / "books.jsonl.zst"))


def test_a_line_without_end_is_not_taken_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = corpus(tmp_path, GOOD, b'{"text": "' + b"a" * 5_000_000)
    assert path.stat().st_size < 1000
    monkeypatch.setattr(corpora, "MAX_LINE_BYTES", 1000)
    tracemalloc.start()
    with pytest.raises(CorpusDamaged, match="line 2 has more than 1,000 bytes"):
        list(read_records(path))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2_000_000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"answers": ["a", 7]}\n', "one of the 'answers' is a whole number, expected a text"),
        (b'{"qas": ["a"]}\n', "one of the 'qas' is a text, expected an object"),
        (b'{"qas": [{"question": 1}]}\n', "'question' is a whole number"),
        (b'{"qas": [{"question": "a", "answers": [null]}]}\n', "one of the 'answers' is null"),
        (b'{"source": []}\n', "'source' is a list, expected a text"),
    ],
)
def test_what_lies_deeper_is_looked_at_too(tmp_path: Path, line: bytes, words: str) -> None:
    with pytest.raises(CorpusDamaged, match=words):
        list(read_records(corpus(tmp_path, line)))


def test_a_question_without_fields_or_answers(tmp_path: Path) -> None:
    (record,) = read_records(corpus(tmp_path, b'{"qas": [{"answers": []}]}\n'))
    assert short_answer(record["qas"][0]["answers"]) is None
    with pytest.raises(CorpusDamaged, match="no 'question'"):
        record["qas"][0]["question"]


def test_a_tilde_in_the_name_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What sets GF_DATA_DIR may not have been a shell."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GF_DATA_DIR", "~/data")
    assert data_directory() == tmp_path / "data"
