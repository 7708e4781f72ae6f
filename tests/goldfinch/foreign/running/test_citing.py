"""Lines that were read most, and quotes, from caches of models of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from goldfinch.engine.base import Start
from goldfinch.foreign import library
from goldfinch.foreign.running.citing import attended
from goldfinch.foreign.running.engine import ForeignEngine
from tests.goldfinch.foreign.running.test_blocks import BIRDS, QUESTION, TEXT, engine_of, made, saved
from tests.goldfinch.foreign.running.tiny import SOUND, Letters
from tests.tolerances import FOREIGN_FP32

SHORT = "The heron is red.\nThe stork is white and big.\nThe crane dances."
# As its tokens, a letter each, decode to: not all letters of the alphabet are theirs.
LINES = Letters().decode(Letters().encode(TEXT)).split("\n")
# No attention to name lines by.
SILENT = ("mamba", "mamba2", "falcon_mamba")


def weights_of_one_pass(engine: ForeignEngine, before: list[int], behind: list[int]) -> torch.Tensor:
    """The attention to the tokens before, of the rows that predict all but the first of those behind: (before,)."""
    network = engine.model.network
    network.set_attn_implementation("eager")
    try:
        found = network(torch.tensor([before + behind]), output_attentions=True).attentions
    finally:
        network.set_attn_implementation("sdpa")
    return sum(w[0, :, len(before) :, : len(before)].sum((0, 1)).double() for w in found)


@pytest.mark.parametrize("layout", ["whole", "blocks"])
def test_the_attention_is_that_of_one_pass_over_all_that_was_read(layout: str) -> None:
    engine = engine_of("llama", layout, context_length=4096)
    cache = made(engine)
    session = engine.session(cache)
    answer = session.ask(QUESTION, max_tokens=5)
    reading, ids = session.reader.read(QUESTION), session.question_token_ids(QUESTION)
    found = attended(session, reading, ids, answer.token_ids)
    start, end = cache.document_range
    own = cache.blocks.token_ids[reading.found[0].block] if cache.blocks else tuple(cache.token_ids[start:end].tolist())
    prompt = cache.token_ids[:start].tolist()
    expected = weights_of_one_pass(engine, [*prompt, *own, *ids[:-1]], [ids[-1], *answer.token_ids[:-1]])
    expected = expected[len(prompt) : len(prompt) + len(own)]
    first, last = reading.found[0].rows[-1] if cache.blocks else (0, end - start)
    assert float((found[first:last] - expected[: last - first]).abs().max()) < FOREIGN_FP32
    assert float(found[:first].sum() + found[last:].sum()) == 0.0
    assert engine.model.network.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", SOUND)
def test_every_architecture_names_lines(name: str) -> None:
    """Windows hold the last rows alone; a model in one piece goes on token by token; states are read by none."""
    engine = engine_of(name, "whole")
    prompt = engine.document(SHORT)
    cache = engine.prefill_from(Start(), prompt.token_ids, document_range=prompt.document_range)
    session = engine.session(cache)
    answer = session.generate(session.question_token_ids(QUESTION), max_tokens=3)
    cited = engine.cite(session, QUESTION, answer)
    if name in SILENT:
        assert cited == []
        return
    assert cited
    assert all(one.text in SHORT.split("\n") for one in cited)
    assert 0 < sum(one.share for one in cited) <= 1 + 1e-9
    assert engine.cite(session, QUESTION, []) == []


def test_citations_are_of_the_block_that_was_read(tmp_path: Path) -> None:
    engine = engine_of("llama")
    session = engine.session(engine.open(saved(made(engine), tmp_path / "a.gfc"), asking=True))
    for bird in BIRDS:
        question = f"Who is the {bird}?"
        answer = session.ask(question, max_tokens=4)
        (cited,) = engine.cite(session, question, answer.token_ids)
        assert f"The {bird} of the lake" in cited.passage
        assert (cited.first_line, cited.last_line) == (found_lines(session, question))
        assert LINES[cited.line - 1] == cited.text
        assert 0.98 < cited.share <= 1 + 1e-9  # a line break that ends the block belongs to the next line


def found_lines(session: Any, question: str) -> tuple[int, int]:
    found = session.reader.read(question).found[0]
    return found.first_line, found.last_line


@pytest.mark.parametrize("layout", ["whole", "blocks"])
def test_a_quote_stands_in_what_was_read(layout: str) -> None:
    engine = engine_of("llama", layout, context_length=4096)
    session = engine.session(made(engine))
    answer = session.ask(QUESTION, max_tokens=20, quote=True)
    assert answer.quote is not None
    line = LINES[answer.quote.line - 1]
    assert line[answer.quote.first_character - 1 : answer.quote.last_character] == answer.text != ""
    if layout == "blocks":
        first, last = found_lines(session, QUESTION)
        assert first <= answer.quote.line <= last
    assert engine.ask_many(session, [QUESTION, "Where?"], max_tokens=20, quote=True)[0].text == answer.text


def test_the_library_is_asked_for_weights_that_sum_to_one() -> None:
    engine = engine_of("llama", "whole")
    layers = library.new_cache(engine.model.network)
    library.forward(engine.model.network, torch.tensor([7, 8, 9]), layers)
    weights = library.attention(engine.model.network, torch.tensor([3, 4]), layers, 3)
    assert [tuple(one.shape[1:]) for one in weights] == [(2, 5)] * len(engine.model.layers)
    assert all(torch.allclose(one.sum(-1), torch.ones(())) for one in weights)
