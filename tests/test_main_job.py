"""The main job with the embedded model: pre-fill a document, answer from the file, in processes of their own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

import goldfinch
from goldfinch.datasets.facts import FactMaker, harvest_names, plant
from goldfinch.weights.directory import ASSETS, DEFAULT_MODEL, read_card
from goldfinch.weights.loading import verify_model
from tests.conftest import SAMPLES

HANDBOOK = SAMPLES / "lighthouse-handbook.txt"
QUESTIONS = {
    "What is the height of the tower?": "38",
    "What is the code of the key cabinet?": "73152",
    "What is the telephone number of the warden's office?": "40718",
    "How much does a ticket cost?": "6 pounds",
    "When was the tower built?": "1847",
    "How many steps are there?": "196",
    "Who is the warden?": "Clara Penrose",
    "What is the name of the boat?": "Guillemot",
}


def gf(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "gfcli", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("main-job")
    return Path(gf("prefill", str(HANDBOOK), "-o", f"{folder}/", "-q").strip())


@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_right_answers_from_the_reloaded_file(question: str, cache: Path) -> None:
    result = json.loads(gf("ask", "--cache", str(cache), "--json", question))
    assert QUESTIONS[question] in result["answer"]
    assert result["document_tokens_computed"] == 0
    assert result["document_tokens_cached"] > 1500


def test_the_embedded_model_is_what_it_says() -> None:
    card = read_card(ASSETS / DEFAULT_MODEL)
    assert verify_model(card) == []
    assert (card.path / "model.safetensors").stat().st_size < 24_000_000
    assert (card.path / "MODEL_CARD.md").is_file()


def test_planted_facts_are_found() -> None:
    """Unseen names, unseen phrasings, in real prose of about 1,000 tokens."""
    model = goldfinch.load_model()
    prose = (SAMPLES / "treasure-island-ch1-3.txt").read_text()
    maker = FactMaker(harvest_names([p.read_text() for p in SAMPLES.glob("*.txt")], held_out=True), held_out=True)
    right = asked = 0
    for seed in range(12):
        rng = Random(seed)
        start = rng.randrange(len(prose) - 3500)
        facts = [
            maker.attribute_fact(rng, attribute=rng.choice(("code", "serial number", "badge number"))) for _ in range(3)
        ]
        ids, span = goldfinch.document_token_ids(model, plant(rng, prose[start : start + 3500], facts))
        session = goldfinch.Session(model, goldfinch.prefill(model, ids, document_range=span))
        for fact in facts:
            question, value = fact.questions[0]
            right += session.ask(question, max_tokens=20).text == value
            asked += 1
    # Some of these values are 7 digits long or hold letters: see exact_mixed of bench/results/eval-gf-mini.json.
    assert right / asked >= 0.85


def test_the_prompt_of_a_terminal(cache: Path) -> None:
    """gf ask without a question, typed at as a person would."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-m", "gfcli", "ask", "--cache", str(cache)])
    seen = b""

    def read_until(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            seen += os.read(terminal, 1024)
        seen = seen[seen.index(text) + len(text) :]

    read_until(b"? ")
    os.write(terminal, b"What is the height of the tower?\n")
    read_until(b"38")
    read_until(b"? ")
    os.write(terminal, b"What is the code of the key cabinet?\n")
    read_until(b"73152")
    read_until(b"? ")
    os.write(terminal, b"\x04")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    os.close(terminal)
