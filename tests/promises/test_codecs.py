"""What holds of caches holds with every codec: warm = cold, and resumed = whole, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gfcache
import pytest
import torch
from gfcache import Coding, layout
from gfcache.codecs import registry

from goldfinch import DocumentCache, LanguageModel, Session, load_model, open_cache
from goldfinch.caching.row_parts import Form, can_continue, normal, parts_of
from goldfinch.engine.base import Start
from goldfinch.engine.prefill import prefill_from
from goldfinch.engine.replay import replay_cache
from tests.goldfinch.states import assert_equal_caches, document

ROWS, STATES = registry.serving(layout.COMPRESSED_K), registry.serving(layout.WKV_STATE)
# Every codec of rows and every one of states, each once or more.
CODINGS = [Coding(rows, STATES[n % len(STATES)]) for n, rows in enumerate(ROWS)] + [
    Coding("step3"),
    Coding(state="int8"),
]
T, AT = 1400, 1024
QUESTION = [5, 9, 200, 31, 7]


def made(model: LanguageModel, coding: Coding, tokens: int = T, **start: object) -> DocumentCache:
    ids = document(model, T).to(model.device)[:, :tokens]
    form = start.pop("form", Form(coding))
    return prefill_from(Start(checkpoints=(AT,) if tokens > AT else (), form=form, **start), model, ids)  # type: ignore[arg-type]


def check(load: Callable[[], LanguageModel], coding: Coding, path: Path) -> None:
    model = load()
    warm, plain = made(model, coding), made(model, Coding())
    header = warm.save(path)
    assert Coding.of(header.numerics) == coding
    cold = open_cache(path, load())
    assert_equal_caches(warm, cold)
    assert cold.numerics == warm.numerics
    assert cold.row_parts == warm.row_parts
    one, other = Session(model, warm), Session(cold_model := load(), open_cache(path, cold_model))
    assert torch.equal(one.start(QUESTION)[0], other.start(QUESTION)[0])
    # Something is lost, or nothing of this was tested; of checkpoints nothing is.
    assert not torch.equal(one.start(QUESTION)[0], Session(model, plain).start(QUESTION)[0])
    assert_equal_caches(made(model, coding, AT + 1, base=cold), made(model, coding, AT + 1))


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_cold_equals_warm(dtype: torch.dtype, coding: Coding, imported: Callable[[str], Path], tmp_path: Path) -> None:
    check(lambda: load_model(imported("goldfinch_ratio2"), dtype=dtype), coding, tmp_path / "doc.gfc")


@pytest.mark.gpu
@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_cold_equals_warm_on_a_gpu(coding: Coding, imported: Callable[[str], Path], tmp_path: Path) -> None:
    check(
        lambda: load_model(imported("goldfinch_ratio2"), dtype=torch.bfloat16, device="cuda"),
        coding,
        tmp_path / "doc.gfc",
    )


@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_a_run_that_goes_on_from_a_rounded_cache_is_a_cold_one(
    coding: Coding, imported: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    part, whole = made(model, coding, AT + 200), made(model, coding)
    part.save(tmp_path / "part.gfc")
    resumed = made(model, coding, base=open_cache(tmp_path / "part.gfc", model))
    assert_equal_caches(resumed, whole)
    assert resumed.numerics == whole.numerics
    assert resumed.checkpoints[0].position == AT
    assert replay_cache(model, resumed).difference is None
    # With a state that was rounded at its end, a cache of whole blocks is no place to go on from.
    at_end = made(model, coding, AT)
    assert [c.position for c in at_end.positions] == ([] if coding.is_state_lossy else [AT])


@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_a_child_of_a_rounded_base_is_what_its_file_gives_back(
    coding: Coding, imported: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    made(model, coding, AT + 200).save(tmp_path / "base.gfc")
    base = open_cache(tmp_path / "base.gfc", model)
    for own in (coding, Coding("step2"), Coding()):
        child = made(model, own, form=Form(own, base, AT), base=base)
        child.save(tmp_path / "child.gfc", parent=(base, AT))
        read = open_cache(tmp_path / "child.gfc", model)
        assert_equal_caches(child, read)
        assert read.row_parts == child.row_parts
        assert replay_cache(model, read).difference is None


def test_replay_finds_an_altered_value_behind_a_codec(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    cache = made(model, Coding("step3", "int8"))
    assert cache.compressed_k is not None
    cache.compressed_k[0, 1111, 2] += 2 * cache.compressed_k.abs().max()
    assert "token 1111" in str(replay_cache(model, cache).difference)
    cache = made(model, Coding("step3", "int8"))
    cache.tail_hidden[0, 0, 0] += 1
    assert "tail_hidden" in str(replay_cache(model, cache).difference)


def test_which_rows_may_be_gone_on_from() -> None:
    plain, small = Coding(), Coding("step3")
    assert parts_of(plain, 100_000) == ()
    assert parts_of(small, 100_000) == ((0, "step3"), (65_536, "step3"))
    assert parts_of(small, 900, (), 512) == ((0, "raw"), (512, "step3"))
    assert parts_of(plain, 900, ((0, "step2"), (700, "int8")), 512) == ((0, "step2"), (512, "raw"))
    assert normal([(0, "raw"), (65_536, "raw"), (70_000, "int8")]) == ((0, "raw"), (70_000, "int8"))
    assert can_continue((), ((0, "step3"),))
    assert can_continue(((0, "step3"),), ((0, "step3"), (65_536, "step3")))
    assert not can_continue(((0, "step3"),), ())
    assert not can_continue(((0, "step3"),), ((0, "step2"),))
    assert not can_continue(((0, "raw"), (512, "step3")), ((0, "step3"),))


@pytest.mark.parametrize("name", ["llama_rope", "finchc2_gptalpha"])
@pytest.mark.parametrize("codec", ["int8", "step3", "kivi4", "flexgen4"])
def test_keys_and_values_of_attention_layers_are_rounded_too(
    name: str, codec: str, imported: Callable[[str], Path], tmp_path: Path
) -> None:
    model, path = load_model(imported(name)), tmp_path / "doc.gfc"
    ids = document(model, 200)
    plain, warm = (prefill_from(Start(form=Form(Coding(rows))), model, ids) for rows in ("raw", codec))
    header = warm.save(path)
    assert {s.codec for s in header.of_kind(layout.ATTENTION_KV)} == {codec}
    cold = open_cache(path, model)
    assert_equal_caches(warm, cold)
    assert cold.numerics == warm.numerics
    one, other, exact = (Session(model, cache).start(QUESTION)[0] for cache in (warm, cold, plain))
    assert torch.equal(one, other)
    assert not torch.equal(one, exact)
    assert replay_cache(model, cold).difference is None
    # Nothing goes on from what was rounded: more tokens are those of a cold run.
    assert cold.positions == ()
    longer = document(model, 230)
    form = Form(Coding(codec))
    again, new = (prefill_from(Start(base=base, form=form), model, longer) for base in (cold, None))
    assert_equal_caches(again, new)
    plain.save(tmp_path / "plain.gfc")
    gfcache.convert_cache(tmp_path / "plain.gfc", path, Coding(codec))
    assert_equal_caches(open_cache(path, model), warm)
