"""A question after a prefill equals all layers over all tokens: document, question and what follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from goldfinch import Session, load_model, prefill
from tests import tolerances
from tests.conftest import golden_folders
from tests.goldfinch.states import document

NAMES = sorted(golden_folders())
QUESTION = [5, 9, 200, 31, 7]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 64, 513])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_question_after_prefill_equals_all_layers_over_all_tokens(
    name: str, length: int, imported: Callable[[str], Path]
) -> None:
    """The tail property: K = 2G + 1 replayed tokens give the exact logits, for documents short and long."""
    model = load_model(imported(name), dtype=torch.float64)
    tokens = document(model, length)
    session = Session(model, prefill(model, tokens))
    for question in ([], [3], QUESTION):
        logits, state = session.start(question)
        everything = torch.cat([tokens, torch.tensor([question], dtype=torch.int64)], dim=1)
        whole, whole_state = model(everything)
        assert float((logits - whole[0, -1]).abs().max()) <= tolerances.TAIL_FP64
        # The continuation is exact too.
        following = torch.tensor([[11, 12, 13]])
        next_logits, _ = model(following, state)
        next_whole, _ = model(following, whole_state)
        assert float((next_logits - next_whole).abs().max()) <= tolerances.TAIL_FP64


@torch.no_grad()
def test_one_tail_token_fewer_is_noticed(imported: Callable[[str], Path]) -> None:
    """The limit is tight: with 2G - 1 tokens, as the paper states, the logits are wrong."""
    model = load_model(imported("finch_gold"), dtype=torch.float64)
    tokens = document(model, 64)
    cache = prefill(model, tokens)
    cache.tail_hidden = cache.tail_hidden[:, 2:]
    logits, _ = Session(model, cache).start([])
    whole, _ = model(tokens)
    assert float((logits - whole[0, -1]).abs().max()) > 1e-6


@pytest.mark.parametrize("name", [n for n in NAMES if "gold" in n])
def test_expanded_and_rebuilt_agree(name: str, imported: Callable[[str], Path]) -> None:
    model = load_model(imported(name))
    cache = prefill(model, document(model, 2500))  # more than two rebuild blocks
    expanded, rebuilt = Session(model, cache, memory_bytes=1 << 30), Session(model, cache, memory_bytes=0)
    assert expanded.expands
    assert not rebuilt.expands
    a, b = expanded.start(QUESTION)[0], rebuilt.start(QUESTION)[0]
    assert float((a - b).abs().max() / a.abs().max()) <= tolerances.PATHS_FP32


def test_questions_do_not_disturb_each_other(imported: Callable[[str], Path]) -> None:
    for name in ("goldfinch_ratio2", "llama_rope", "finchc2_gptalpha"):
        model = load_model(imported(name))
        session = Session(model, prefill(model, document(model, 100)))
        first = session.generate(QUESTION, max_tokens=8)
        session.generate([8, 8, 8, 8], max_tokens=8)
        assert session.generate(QUESTION, max_tokens=8) == first


def test_a_long_question_is_taken_in_blocks(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("goldfinch_ratio2"), dtype=torch.float64)
    tokens, question = document(model, 50), document(model, 1100, seed=9)
    logits, _ = Session(model, prefill(model, tokens)).start(question[0].tolist())
    with torch.no_grad():
        whole, _ = model(torch.cat([tokens, question], dim=1))
    assert float((logits - whole[0, -1]).abs().max()) <= tolerances.TAIL_FP64
