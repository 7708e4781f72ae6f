"""What codecs cost: measured, kept in the file, measured again; and chosen by it."""

from __future__ import annotations

from pathlib import Path

import gfcache
import numpy as np
import pytest
import torch
from gfcache import Coding, Divergence, Receipt

import goldfinch
from goldfinch.caching.coding import coded
from goldfinch.caching.row_parts import Form
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.errors import NoCodecFits
from goldfinch.measure.choosing import LADDER, Bounds, measured
from goldfinch.measure.divergence import CHOOSING, REPORTING, Yardstick, between
from tests.conftest import SAMPLES

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()[:1500]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> goldfinch.LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture(scope="module")
def engine(model: goldfinch.LanguageModel) -> GoldFinchEngine:
    return GoldFinchEngine(model)


@pytest.fixture(scope="module")
def computed(model: goldfinch.LanguageModel) -> goldfinch.DocumentCache:
    ids, own = goldfinch.document_token_ids(model, TEXT)
    return goldfinch.prefill(model, ids, document_range=own)


def test_the_divergence_of_known_distributions() -> None:
    p, q = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).double(), torch.tensor([[0.25, 0.75], [0.9, 0.1]]).double()
    found = between(p.log(), q.log())
    kl = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    assert found.mean_kl == pytest.approx(kl / 2)
    assert found.max_kl == pytest.approx(kl)
    assert (found.positions, found.flips) == (2, 1)


def test_coarser_codecs_cost_more_and_none_costs_nothing(engine, computed) -> None:
    yardstick = Yardstick(engine, computed)
    receipts = [
        yardstick.receipt(coded(computed, Form(c))) for c in (Coding(), Coding("int8"), Coding("step2", "int4"))
    ]
    assert receipts[0].mean_kl == 0
    assert not any(receipts[0].channel_errors)
    assert 0 < receipts[1].mean_kl < receipts[2].mean_kl
    assert receipts[1].document.positions == 256
    assert all(a < b for a, b in zip(receipts[1].channel_errors, receipts[2].channel_errors, strict=True))


def test_settings_are_chosen_by_other_positions_than_are_reported(engine, computed) -> None:
    yardstick, again, other = Yardstick(engine, computed), Yardstick(engine, computed), Yardstick(engine, computed, 1)
    drawn = yardstick._starts
    assert not set(drawn[CHOOSING]) & set(drawn[REPORTING])
    assert drawn == again._starts != other._starts
    questions = {draw: {tuple(ids) for ids, _ in yardstick._answers[draw]} for draw in (CHOOSING, REPORTING)}
    assert not questions[CHOOSING] & questions[REPORTING]


def test_a_divergence_is_that_of_asking(model, engine, computed) -> None:
    """Behind the first token of a passage: what a session on either cache predicts."""
    yardstick, rounded = Yardstick(engine, computed), coded(computed, Form(Coding("step2", "int4")))
    at = yardstick._starts[REPORTING][0]
    first = computed.token_ids[at : at + 1].tolist()
    logits = [
        goldfinch.Session(model, cache, read="all").start(first, copies=False)[0] for cache in (computed, rounded)
    ]
    one, other = (values[None].double().log_softmax(-1) for values in logits)
    known = yardstick._behind_passages(goldfinch.Session(model, rounded, read="all"), REPORTING)
    assert torch.allclose(known[0], other[0])
    assert between(one, other).mean_kl > 0


def test_bounds_choose(engine, computed, tmp_path: Path) -> None:
    def size(cache: goldfinch.DocumentCache) -> int:
        return cache.file_bytes(tmp_path / "x.gfc")

    costs = [Yardstick(engine, computed).receipt(coded(computed, Form(coding))).mean_kl for coding in LADDER]
    sizes = [size(coded(computed, Form(coding))) for coding in LADDER]
    assert sizes == sorted(sizes, reverse=True)
    everything = measured(engine, computed, Form(Coding()), Bounds(max_kl=10.0), size)
    assert everything.numerics.coding == LADDER[-1]
    for bound in (0.0, costs[3], costs[5] * 1.5):
        found = measured(engine, computed, Form(Coding()), Bounds(max_kl=bound), size)
        assert found.receipt is not None
        assert found.receipt.mean_kl <= bound
    small = measured(engine, computed, Form(Coding()), Bounds(max_bytes=sizes[4] + 8192), size)
    assert small.numerics.coding == LADDER[4]
    assert size(small) <= sizes[4] + 8192
    with pytest.raises(NoCodecFits, match="allowed: 1,000"):
        measured(engine, computed, Form(Coding()), Bounds(max_bytes=1000), size)
    with pytest.raises(NoCodecFits, match="within KL 0 has"):
        measured(engine, computed, Form(Coding()), Bounds(0.0, 1000), size)


def test_a_receipt_stays_in_the_file(model, engine, computed, tmp_path: Path) -> None:
    found = measured(engine, computed, Form(Coding("step3", "int8")), Bounds(), lambda _: 0)
    found.save(tmp_path / "doc.gfc")
    assert goldfinch.open_cache(tmp_path / "doc.gfc", model).receipt == found.receipt
    gfcache.convert_cache(tmp_path / "doc.gfc", tmp_path / "same.gfc", Coding("step3", "int8"))
    gfcache.convert_cache(tmp_path / "doc.gfc", tmp_path / "plain.gfc", Coding())
    for name in ("same", "plain"):  # of the same values
        with gfcache.read_cache(tmp_path / f"{name}.gfc") as file:
            assert gfcache.receipt_in(file) == found.receipt
    found = measured(engine, computed, Form(Coding("step3")), Bounds(), lambda _: 0)
    found.save(tmp_path / "rows.gfc")
    gfcache.convert_cache(tmp_path / "rows.gfc", tmp_path / "both.gfc", Coding("step3", "int8"))
    with gfcache.read_cache(tmp_path / "both.gfc") as file:
        assert gfcache.receipt_in(file) is None


def test_what_is_no_receipt_is_passed_over() -> None:
    half = Divergence(256, 0.25, 0.5, 3)
    receipt = Receipt(7, (1, 5), 16, half, half, (0.5,))
    values = receipt.to_array()
    assert Receipt.from_array(values) == receipt
    for broken in (values[:5], values[:0], values + 1, np.where(np.arange(15) == 2, 1e300, values)):
        assert Receipt.from_array(broken) is None


def test_a_document_of_a_few_tokens(model, engine) -> None:
    ids, own = goldfinch.document_token_ids(model, "One.")
    cache = goldfinch.prefill(model, ids, document_range=own)
    found = measured(engine, cache, Form(Coding("int8", "int8")), Bounds(), lambda _: 0)
    assert found.receipt is not None
    assert found.receipt.document.positions >= 16
