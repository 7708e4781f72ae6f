"""Reading a file of questions."""

from __future__ import annotations

import time
from pathlib import Path

from gfcli.support.question_file import read_questions


def test_the_time_of_reading_questions_grows_with_their_number(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    seconds = {}
    for count in (2_000, 20_000):
        path.write_text("".join(f"Question {n}?\n" for n in range(count)))
        tries = []
        for _ in range(3):  # a collection of all garbage of the session may fall into one
            started = time.process_time()
            assert len(read_questions(str(path))) == count
            tries.append(time.process_time() - started)
        seconds[count] = min(tries)
    assert seconds[20_000] < 50 * seconds[2_000]  # its square would be 100 times as much
