"""Reading a file of questions."""

from __future__ import annotations

from pathlib import Path

from gfcli.support.question_file import default_id, read_questions
from tests.cpu_time import least_cpu_s


def test_the_time_of_reading_questions_grows_with_their_number(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    seconds = {}
    for count in (2_000, 20_000):
        path.write_text("".join(f"Question {n}?\n" for n in range(count)))
        assert len(read_questions(str(path))) == count
        seconds[count] = least_cpu_s(lambda: read_questions(str(path)))
    assert seconds[20_000] < 50 * seconds[2_000]  # its square would be 100 times as much


def asked(path: Path, text: str) -> list[tuple[str | int, str]]:
    path.write_text(text)
    return [(question.id, question.text) for question in read_questions(str(path))]


def test_an_array_is_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    lines = [("7", "Who?"), (default_id("What?"), "What?")]
    for text in ('[{"id": "7", "question": "Who?"}, "What?"]', '[\n  {"question": "Who?", "id": "7"},\n  "What?"\n]\n'):
        assert asked(path, text) == lines
    draft = "[Draft] Who signed?"
    assert asked(path, draft) == [(default_id(draft), draft)]


def test_ids_are_as_given_and_follow_from_the_text_where_none_is(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    given = '{"id": 7, "question": "Who?"}\n{"id": "7", "question": "Who?"}\n{"id": "1", "question": "Why?"}\n'
    assert [id_ for id_, _ in asked(path, given)] == [7, "7", "1"]
    plain = "What?\nWho?\n"
    ids = asked(path, plain)
    assert asked(path, f"\n{plain}") == asked(path, '"Quoted"?\n' + plain)[1:] == ids
    assert [id_ for id_, _ in asked(path, plain + "What?\n")] == [ids[0][0], ids[1][0], f"{ids[0][0]}-2"]
    assert len({id_ for id_, _ in asked(path, given + plain)}) == 5


def test_names_of_documents_are_compared_in_one_form(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "Who?", "documents": ["cafe\u0301.txt"]}')
    assert read_questions(str(path))[0].documents == ("caf\u00e9.txt",)
