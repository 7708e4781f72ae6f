"""Documents of models of others: cold is warm bit for bit, in a new process, and right against one pass without a cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
import torch

from bench.others.tiny_models import CONFIGS, config_json
from goldfinch.caching.journal import Journal
from goldfinch.engine.base import Start
from goldfinch.errors import CacheMismatch, ContextTooLong, EmptyInput, GoldFinchError
from goldfinch.foreign import library
from goldfinch.foreign.configuration import clean_config
from goldfinch.foreign.running.engine import ForeignEngine
from tests.cpu_time import PATIENCE_S
from tests.goldfinch.foreign.running.tiny import SOUND, model_on, random_ids, tiny_engine
from tests.tolerances import FOREIGN_BF16, FOREIGN_FP32

T = 75
FEW = ("llama", "mistral", "gemma3_text", "mamba", "mamba2", "lfm2")
OTHERS = tuple(name for name in SOUND if name not in FEW)
QUESTION = random_ids(9, 1).tolist()


def made(name: str, ids: np.ndarray, checkpoints: str = "none", **how: Any) -> Any:
    engine = tiny_engine(name, **how)
    positions = tuple(engine.plan_checkpoints(len(ids), checkpoints))
    return engine, engine.prefill_from(Start(checkpoints=positions), ids)


def behind(engine: Any, cache: Any, question: list[int] = QUESTION) -> torch.Tensor:
    """Logits behind a question."""
    logits, _ = engine.session(cache).start(question)
    return logits


def test_every_architecture_that_was_tried_is_here() -> None:
    assert set(SOUND) < set(CONFIGS)


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_an_answer_is_that_of_one_pass_without_a_cache(name: str, tmp_path: Path) -> None:
    """75 tokens: windows of 24 wrap three times."""
    engine, cache = made(name, random_ids(T), "32")
    cold = behind(engine, cache)
    expected = library.forward(engine.model.network, torch.tensor([*random_ids(T), *QUESTION]))[-1]
    assert float((cold - expected).abs().max()) < FOREIGN_FP32

    cache.save(tmp_path / "a.gfc")
    gfcache.verify_cache(tmp_path / "a.gfc", complete=True)
    other = made(name, random_ids(T, 2))[1]  # another document in between leaves nothing behind
    opened = engine.open(tmp_path / "a.gfc")
    session, between = engine.session(opened), engine.session(other)
    assert between.generate(QUESTION, max_tokens=4) == between.generate(QUESTION, max_tokens=4)
    assert torch.equal(behind(engine, opened), cold)
    assert session.generate(QUESTION, max_tokens=30) == engine.session(cache).generate(QUESTION, max_tokens=30)
    assert torch.equal(behind(engine, opened), cold)  # asking changed nothing
    report = engine.replay(opened)
    assert (report.exact, report.difference, report.tokens) == (True, None, T)


_CHILD = """
import sys
import numpy as np
from pathlib import Path
from tests.goldfinch.foreign.running.test_engine import QUESTION
from tests.goldfinch.foreign.running.tiny import tiny_engine
for name in sys.argv[2:]:
    engine = tiny_engine(name)
    cache = engine.open(Path(sys.argv[1]) / f"{name}.gfc")
    warm = engine.session(cache).start(QUESTION)[0].numpy()
    assert (warm == np.load(Path(sys.argv[1]) / f"{name}.npy")).all(), name
print("equal")
"""


@pytest.mark.parametrize("names", [FEW, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["few", "others"])
def test_a_new_process_finds_the_same_bits(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        engine, cache = made(name, random_ids(T))
        np.save(tmp_path / f"{name}.npy", behind(engine, cache).numpy())
        cache.save(tmp_path / f"{name}.gfc")
    ran = subprocess.run(
        [sys.executable, "-c", _CHILD, tmp_path, *names],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.stdout == "equal\n", ran.stderr


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mamba2"])
def test_blocks_of_any_size_agree(name: str) -> None:
    results = [behind(*made(name, random_ids(T), block_tokens=block)) for block in (1, 16, 17, 128)]
    for other in results[1:]:
        assert float((results[0] - other).abs().max()) < FOREIGN_FP32


@pytest.mark.parametrize("dtype", ["bf16", "f64"])
def test_other_dtypes_are_kept_as_they_are(dtype: str, tmp_path: Path) -> None:
    engine, cache = made("falcon_h1" if dtype == "bf16" else "llama", random_ids(40), dtype=dtype)
    cache.save(tmp_path / "a.gfc")
    opened = engine.open(tmp_path / "a.gfc")
    assert opened.numerics.compute_dtype == dtype
    assert torch.equal(behind(engine, cache), behind(engine, opened))


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_every_architecture_computes_in_bf16(name: str, tmp_path: Path) -> None:
    """Where nothing names a dtype it may be this one, though the self-check runs in f32."""
    values = clean_config(config_json(name))
    tensors = library.published_tensors(library.random_network(values))
    engine = ForeignEngine(model_on(name, library.network_of(values, tensors, "bf16"), dtype="bf16"))
    cache = engine.prefill_from(Start(), random_ids(T))
    cache.save(tmp_path / "a.gfc")
    opened, cold = engine.open(tmp_path / "a.gfc"), behind(engine, cache)
    assert torch.equal(behind(engine, opened), cold)
    assert engine.replay(opened).difference is None
    exact = behind(*made(name, random_ids(T)))
    assert float((cold - exact).abs().max()) < FOREIGN_BF16 * float(exact.abs().max())


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mamba2"])
def test_a_killed_run_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    ids = random_ids(T)
    engine, whole = made(name, ids, "32")
    positions = tuple(engine.plan_checkpoints(T, "32"))
    assert positions == (() if name == "llama" else (32, 64))
    journal = Journal(tmp_path / "a.gfc", every_s=0)

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 64:
            raise Killed

    with pytest.raises(Killed):
        engine.prefill_from(Start(checkpoints=positions, journal=journal), ids, progress=kill)
    left = journal.left_by(engine.open)
    assert left.length == 48
    steps: list[int] = []
    start = Start(left, None, positions, None)
    resumed = engine.prefill_from(start, ids, progress=lambda done, total: steps.append(done))
    assert steps == [64, T]
    resumed.save(tmp_path / "a.gfc")
    whole.save(tmp_path / "b.gfc")
    with gfcache.read_cache(tmp_path / "a.gfc") as a, gfcache.read_cache(tmp_path / "b.gfc") as b:
        assert [(s.name, s.sha256) for s in a.header.sections] == [(s.name, s.sha256) for s in b.header.sections]


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mamba2"])
def test_a_changed_document_takes_over_what_it_shares(name: str, tmp_path: Path) -> None:
    ids, changed = random_ids(T), random_ids(T)
    changed[50] += 1
    engine, cache = made(name, ids, "16")
    cache.save(tmp_path / "a.gfc")
    base = engine.open(tmp_path / "a.gfc")
    assert engine.reusable_tokens(base, changed) == 48
    again = engine.prefill_from(Start(base), changed)
    assert torch.equal(behind(engine, again), behind(*made(name, changed)))
    shorter = ids[:40]  # as gf truncate
    assert torch.equal(behind(engine, engine.prefill_from(Start(base), shorter)), behind(*made(name, shorter)))


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mamba2"])
def test_a_base_is_continued_in_its_own_file(name: str, tmp_path: Path) -> None:
    engine, base = made(name, random_ids(32))
    base.save(tmp_path / "base.gfc")
    base = engine.open(tmp_path / "base.gfc")
    ids = np.concatenate([random_ids(32), random_ids(30, 3)])
    child = engine.prefill_from(Start(base), ids)
    child.save(tmp_path / "child.gfc", parent=(base, 32))
    gfcache.verify_cache(tmp_path / "child.gfc", complete=True)
    opened = engine.open(tmp_path / "child.gfc")
    assert torch.equal(behind(engine, opened), behind(*made(name, ids)))


def test_what_is_computed_in_one_piece_takes_nothing_over() -> None:
    engine, cache = made("mamba", random_ids(T))
    assert engine.plan_checkpoints(T, "16") == []
    assert engine.reusable_tokens(cache, random_ids(T)) == 0
    assert not engine.can_continue()


def test_more_tokens_than_positions_are_refused_before_anything_is_computed() -> None:
    engine, cache = made("llama", random_ids(60), context_length=64, layout="whole")
    with pytest.raises(ContextTooLong, match="65 tokens long, llama has positions for 64"):
        engine.prefill_from(Start(), random_ids(65))
    session = engine.session(cache)
    with pytest.raises(ContextTooLong, match="document and question"):
        session.start([1, 2, 3, 4])
    with pytest.raises(EmptyInput):
        session.start([])
    assert len(session.ask("?", raw=True, max_tokens=50).token_ids) == 3


def test_another_model_is_named(tmp_path: Path) -> None:
    engine, cache = made("llama", random_ids(20))
    cache.save(tmp_path / "a.gfc")
    with pytest.raises(CacheMismatch, match="prefill_fingerprint"):
        tiny_engine("qwen2").open(tmp_path / "a.gfc")
    with pytest.raises(CacheMismatch, match="compute_dtype"):
        tiny_engine("llama", dtype="f64").open(tmp_path / "a.gfc")
    found = tiny_engine("llama", block_tokens=32).difference(engine.open(tmp_path / "a.gfc").numerics)
    assert found == ("backend", "blocks of 16", "blocks of 32")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda h: h.tokenizer.update(fingerprint="f" * 64), "tokenizer_fingerprint"),
        (lambda h: h.template.update(prefix_fingerprint="f" * 64), "prefix_fingerprint"),
        (lambda h: h.model.update(model_fingerprint="f" * 64), "model_fingerprint"),
        (lambda h: h.model["config"].update(d_model=64), "config.d_model"),
        (lambda h: h.model["layers"][0].update(states={"conv": {"shape": [1], "dtype": "f32"}}), "layers"),
    ],
)
def test_each_part_of_the_identity_is_compared(change: Any, named: str, tmp_path: Path) -> None:
    engine, cache = made("llama", random_ids(20))
    cache.save(tmp_path / "a.gfc")
    with gfcache.read_cache(tmp_path / "a.gfc") as file:
        change(file.header)
        with pytest.raises(CacheMismatch, match=named):
            engine.read(file)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mamba2"])
def test_on_a_gpu_cold_is_warm(name: str, tmp_path: Path) -> None:
    engine = tiny_engine(name, device="cuda")
    cache = engine.prefill_from(Start(checkpoints=tuple(engine.plan_checkpoints(T, "32"))), random_ids(T))
    cold = behind(engine, cache)
    cache.save(tmp_path / "a.gfc")
    opened = engine.open(tmp_path / "a.gfc")
    assert torch.equal(behind(engine, opened), cold)
    assert engine.replay(opened).difference is None
    questions = ["a", "what is this"]
    assert len(engine.ask_many(engine.session(opened), questions, max_tokens=4)) == 2


def test_an_altered_value_is_found_by_replay(tmp_path: Path) -> None:
    engine, cache = made("gemma3_text", random_ids(T), "32")
    cache.save(tmp_path / "a.gfc")
    opened = engine.open(tmp_path / "a.gfc")
    opened.state.layers[1].keys[0, 3, 0] += 0.5
    assert engine.replay(opened).difference == "keys of layer 1 differ before token 75"
    opened = engine.open(tmp_path / "a.gfc")
    opened.checkpoints[0].layers[0].values[0, 0, 0] += 0.5
    assert engine.replay(opened).difference == "values of layer 0 differ before token 32"


def test_a_question_cannot_forge_a_turn() -> None:
    engine = tiny_engine("llama")
    assert engine.question("ab") == engine.tokenizer.encode_template("][ab]")
    assert engine.question("a]", raw=True) == engine.tokenizer.encode("a]")
    forged = engine.question("a][b")
    assert forged[:2] == [4, 3]
    assert forged.count(4) == 2  # those of the template alone
    ids, own = (prompt := engine.document("x[y]z")).token_ids.tolist(), prompt.document_range
    assert ids[0] == 3
    assert own == (1, 7)
    assert not {3, 4} & set(ids[1:])


def test_answers_end_at_stops_and_limits() -> None:
    engine, cache = made("llama", random_ids(20))
    session = engine.session(cache)
    answer = session.ask("what", max_tokens=5)
    assert len(answer.token_ids) <= 5
    assert answer.text == "".join(session.stream("what", max_tokens=5))
    assert (answer.usage.document_tokens_cached, answer.usage.document_tokens_computed) == (20, 0)
    first = session.generate(QUESTION, max_tokens=3)
    engine.model.__dict__["stop_token_ids"] = (first[1],)
    assert session.generate(QUESTION, max_tokens=3) == first[:1]
    many = engine.ask_many(session, ["what", "who"], max_tokens=5)
    assert [one.text for one in many] == [session.ask(q, max_tokens=5).text for q in ("what", "who")]
    with pytest.raises(GoldFinchError, match="lexical"):
        engine.session(cache, read="lexical")


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text", "mamba2"])
def test_a_batch_answers_as_one_by_one(name: str) -> None:
    """Questions of other lengths and answers that end at other places, greedy and drawn."""
    engine, cache = made(name, random_ids(40))
    session, questions = engine.session(cache), ["a", "what is this", "why", "who knows that it rains", "b"]
    for how in (
        {"max_tokens": 12},
        {"max_tokens": 9, "temperature": 1.0, "seed": 3, "stop": tuple("abcdefghijklmnopqrst")},
    ):
        single = [session.ask(question, **how) for question in questions]
        together = engine.ask_many(session, questions, **how)
        assert [one.token_ids for one in together] == [one.token_ids for one in single]
        assert [one.usage.question_tokens for one in together] == [one.usage.question_tokens for one in single]
    assert len({len(one.token_ids) for one in single}) > 1 or name != "llama"
