"""What holds of caches holds where rows were dropped: warm = cold, by block = held, replayed = made, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gfcache
import pytest
import torch
from gfcache import Coding, layout

from goldfinch import DocumentCache, LanguageModel, Session, load_model, open_cache
from goldfinch.caching.kept import dropped
from goldfinch.caching.row_parts import Form
from goldfinch.engine.base import Start
from goldfinch.engine.prefill import prefill_from
from goldfinch.engine.replay import replay_cache
from goldfinch.errors import GoldFinchError
from goldfinch.models.memory import GoldMemory
from goldfinch.policies.dropping.named import DROPPERS, Dropping
from tests.goldfinch.states import assert_equal_caches, document

T = 700
QUESTION = [5, 9, 200, 31, 7]
H2O = Dropping("h2o", 0.2)


def made(model: LanguageModel, form: Form = Form(dropping=H2O), **start: object) -> DocumentCache:
    return prefill_from(Start(form=form, **start), model, document(model, T).to(model.device))  # type: ignore[arg-type]


def logits(model: LanguageModel, cache: DocumentCache, **session: int) -> torch.Tensor:
    return Session(model, cache, **session).start(QUESTION)[0]


def check(load: Callable[[], LanguageModel], form: Form, path: Path) -> None:
    model = load()
    warm, plain = made(model, form), made(model, Form(form.coding))
    assert warm.kept is not None
    header = warm.save(path)
    assert header.numerics["dropping"] == str(form.dropping)
    plain.save(path.with_name("plain.gfc"))
    cold = open_cache(path, load())
    assert_equal_caches(warm, cold)
    assert (cold.kept, cold.numerics, cold.row_parts) == (warm.kept, warm.numerics, warm.row_parts)
    asking = open_cache(path, cold_model := load(), asking=True)
    assert torch.equal(logits(model, warm), logits(cold_model, asking))
    # Something is lost, or nothing of this was tested.
    assert not torch.equal(logits(model, warm), logits(model, plain))
    assert path.stat().st_size < path.with_name("plain.gfc").stat().st_size


FORMS = [Form(dropping=Dropping(name, 0.2)) for name in DROPPERS] + [Form(Coding("step3", "int8"), dropping=H2O)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dropping}, {form.coding.rows}")
def test_cold_equals_warm(form: Form, imported: Callable[[str], Path], tmp_path: Path) -> None:
    check(lambda: load_model(imported("goldfinch_ratio2")), form, tmp_path / "doc.gfc")


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dropping}, {form.coding.rows}")
def test_cold_equals_warm_on_a_gpu(form: Form, imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = imported("goldfinch_ratio2")
    check(lambda: load_model(model, dtype=torch.bfloat16, device="cuda"), form, tmp_path / "doc.gfc")


def test_questions_see_what_is_kept_and_nothing_else(imported: Callable[[str], Path]) -> None:
    """As in a cache of all rows whose other keys are masked, and whatever stood in the rows that are gone."""
    model = load_model(imported("goldfinch_ratio2"))
    whole, small = made(model, Form()), made(model)
    assert small.kept is not None
    state = Session(model, whole)._expanded(small.kept)
    masked = Session(model, whole).start(QUESTION, state)[0]
    torch.testing.assert_close(logits(model, small), masked, rtol=1e-4, atol=1e-5)
    assert whole.compressed_k is not None
    rubbish = replace(whole, compressed_k=torch.full_like(whole.compressed_k, 1e6))
    held = {t for start, end in small.kept for t in range(max(start - 1, 0), end)}
    for t in held:
        rubbish.compressed_k[:, t] = whole.compressed_k[:, t]  # type: ignore[index]
    again = dropped(model, rubbish, H2O)
    assert again.kept == small.kept
    assert torch.equal(logits(model, again), logits(model, small))


def test_keys_and_values_may_be_rebuilt_by_block(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    small = made(model)
    session = Session(model, small, memory_bytes=0)
    memory = session.document_state.memory
    assert isinstance(memory, GoldMemory)
    assert not memory.is_expanded
    torch.testing.assert_close(session.start(QUESTION)[0], logits(model, small), rtol=1e-4, atol=1e-5)


def test_replay_computes_and_chooses_again(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    for form in (Form(dropping=H2O), Form(Coding("step3", "int8"), dropping=H2O)):
        cache = made(model, form)
        report = replay_cache(model, cache)
        assert (report.difference, report.tokens, report.exact) == (None, T, True)
    assert cache.compressed_k is not None
    assert cache.kept is not None
    altered = replace(cache, compressed_k=cache.compressed_k + 0.1)
    token = max(cache.kept[0][0] - 1, 0)
    assert f"at token {token}" in str(replay_cache(model, altered).difference)
    plain = made(model)
    other = dropped(model, made(model, Form()), Dropping("random", 0.2))
    liar = replace(other, numerics=plain.numerics)
    assert "not those that h2o 0.2 keeps" in str(replay_cache(model, liar).difference)


def test_nothing_goes_on_from_it(imported: Callable[[str], Path]) -> None:
    """A longer document is computed from its tokens, and is that of a cold run."""
    model = load_model(imported("goldfinch_ratio2"))
    small, plain = made(model), made(model, Form())
    assert small.positions == ()
    assert small.checkpoints == ()
    assert_equal_caches(made(model, base=small), small)
    assert_equal_caches(made(model, Form(), base=small), plain)
    assert_equal_caches(made(model, base=plain), small)


def test_what_cannot_be_dropped_is_refused(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    with pytest.raises(GoldFinchError, match=r"dropped before \(h2o 0.2\)"):
        dropped(model, made(model), H2O)
    with pytest.raises(GoldFinchError, match="rounded its rows"):
        dropped(model, made(model, Form(Coding("int8"))), H2O)
    llama = load_model(imported("llama_rope"))
    with pytest.raises(GoldFinchError, match="the model rotates its keys"):
        made(llama, Form(dropping=Dropping("expected", 0.5)))
    small, model.tokenizer = made(model), object()
    with pytest.raises(GoldFinchError, match=r"'attention' cannot be followed.*h2o 0.2"):
        Session(model, small, read="attention")


def test_a_file_that_keeps_rows_holds_these_and_those_before_them(
    imported: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    small, whole = made(model, Form(dropping=Dropping("snapkv", 0.1))), made(model, Form())
    small.save(tmp_path / "small.gfc")
    with gfcache.read_cache(tmp_path / "small.gfc") as file:
        runs = file.array(file.header.of_kind(layout.KEPT_POSITIONS)[0]).tolist()
        rows, _ = gfcache.whole_array(file, layout.COMPRESSED_K)
    assert [tuple(run) for run in runs] == list(small.kept or ())
    tokens = sorted({t for start, end in runs for t in range(max(start - 1, 0), end)})
    assert whole.compressed_k is not None
    assert torch.equal(torch.from_numpy(rows.copy()), whole.compressed_k[0, tokens])
    gfcache.verify_cache(tmp_path / "small.gfc", complete=True)
