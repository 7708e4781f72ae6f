"""Documents in blocks: each answer is what the model says to prompt, block and question; warm is cold bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
import torch
from gfcache import layout

from goldfinch.caching.journal import Journal
from goldfinch.engine.base import Start
from goldfinch.errors import ContextTooLong, GoldFinchError, ModelRefused
from goldfinch.foreign import library
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.foreign.running.session import ForeignSession
from goldfinch.policies.base import Chosen, best_blocks
from goldfinch.policies.index import DocumentIndex
from tests.cache_format.craft import sections_of
from tests.goldfinch.foreign.running.tiny import model_on, network_of, random_ids
from tests.tolerances import FOREIGN_FP32

BIRDS = ("crane", "heron", "stork", "swift", "raven", "eagle")
PARTS = [
    f"Chapter {n} is about the {bird}. " + f"The {bird} of the lake is grey and old. " * 13
    for n, bird in enumerate(BIRDS)
]
TEXT = "\n\n".join(PARTS) + "\n"
QUESTION = "Who is the heron?"
TABLE = "name;hue;weight\n" + "".join(f"item {n};colour {n % 7};{n * 31} g\n" for n in range(60)) + "\n"


def engine_of(name: str, layout: str = "blocks", **how: Any) -> ForeignEngine:
    """An engine whose windows see a whole block: those of the tiny models are shorter."""
    network = network_of(name)
    how = {"context_length": 1024, "layout": layout, "block_tokens": 128} | how
    return ForeignEngine(model_on(name, network, **how))


def made(engine: ForeignEngine, text: str = TEXT, start: Start | None = None, progress: Any = None) -> Any:
    prompt = engine.document(text)
    ids = prompt.token_ids
    return engine.prefill_from(start or Start(), ids, document_range=prompt.document_range, progress=progress)


def saved(cache: Any, path: Path) -> Path:
    cache.save(path)
    return path


@pytest.fixture(params=["llama", "falcon_h1", "mamba"])
def engine(request: pytest.FixtureRequest) -> ForeignEngine:
    return engine_of(request.param)


WITH_STATES = (
    "falcon_h1",
    "mamba",
    "mamba2",
    "falcon_mamba",
    "lfm2",
    "granitemoehybrid",
    "qwen3_next",
    "bamba",
    "jamba",
)


@pytest.mark.parametrize("name", ["llama", "qwen3", *WITH_STATES])
def test_an_answer_is_that_of_the_model_to_prompt_block_and_question(name: str, tmp_path: Path) -> None:
    engine = engine_of(name)
    cache = made(engine)
    assert cache.length > 2 * engine.model.context_length
    assert len(cache.blocks.token_ids) == len(engine.session(cache).reader.index) >= len(PARTS)
    warm = engine.open(saved(cache, tmp_path / "a.gfc"), asking=True)
    for bird in BIRDS[:: 1 if name == "llama" else 3]:
        question = f"Who is the {bird}?"
        cold, session = engine.session(cache), engine.session(warm)
        reading = session.reader.read(question)
        ids = session.question_token_ids(question)
        logits, _ = session.start(ids, state=session.reader.state(reading))
        assert torch.equal(logits, cold.start(ids, state=cold.reader.state(reading))[0])
        block = cache.blocks.token_ids[reading.found[0].block]
        joint = [*engine.document(TEXT).token_ids[: cache.document_range[0]].tolist(), *block, *ids]
        expected = library.forward(engine.model.network, torch.tensor(joint))[-1]
        assert float((logits - expected).abs().max()) < FOREIGN_FP32
        answer = session.ask(question, max_tokens=12)
        assert answer.token_ids == cold.ask(question, max_tokens=12).token_ids
        assert answer.token_ids[0] == int(expected.argmax())
        assert bird in engine.tokenizer.decode(list(block))  # the block is the one that was meant
        assert answer.usage.document_tokens_computed == 0
    assert engine.replay(warm).difference is None


def test_only_the_blocks_that_are_read_leave_the_file(
    engine: ForeignEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(made(engine), tmp_path / "a.gfc")
    read: list[str] = []
    whole = gfcache.CacheFile.stored
    monkeypatch.setattr(gfcache.CacheFile, "stored", lambda self, s: (read.append(s.name), whole(self, s))[1])
    session = engine.session(engine.open(path, asking=True), read="lexical")
    session.ask(QUESTION, max_tokens=2)
    parts = {name.rpartition("/")[0] for name in read if name.startswith(("block_keys", "block_values", "block_state"))}
    rows = {name for name in read if name.rpartition("/")[0] in parts}
    found = session.reader.read(QUESTION).found[0].block
    start = sum(session.cache.identity["model"]["blocks"][: found + 1])
    assert rows == {f"{part}/{at}" for part in parts for at in (0, start)}
    assert (
        parts
        == {
            "llama": {"block_keys/0", "block_values/0"},
            "falcon_h1": {"block_keys/0", "block_values/0", "block_state/0/conv", "block_state/0/recurrent"},
            "mamba": {"block_state/0/conv", "block_state/0/recurrent"},
        }[engine.model.name]
    )


def test_a_heading_stands_before_each_part_of_a_table_and_a_line_break_behind_each_block() -> None:
    engine = engine_of("llama", context_length=2048)
    cache = made(engine, f"{TABLE}{'Prose without a line break at its end. ' * 40}")
    texts = [engine.tokenizer.decode(list(tokens)) for tokens in cache.blocks.token_ids]
    tables = [text for text in texts if ";colour" in text]
    assert len(tables) > 3
    assert all(text.startswith("name;hue;weight\n") for text in tables)
    assert all(text.endswith("\n") for text in texts)
    assert any(text.endswith(". \n") for text in texts)


def test_several_blocks_are_asked_and_the_likeliest_answer_given(engine: ForeignEngine) -> None:
    cache = made(engine)
    session = engine.session(cache, read_blocks=3)
    readings = session.reader.readings(QUESTION)
    assert len({reading.found[0].block for reading in readings}) == 3
    alone = []
    for reading in readings:
        ids, answering = session.begin(QUESTION, False, _sampling(), reading)
        for _ in session._decode(ids, answering):
            pass
        alone.append(answering.finish() or answering)
    best = max(alone, key=lambda one: one.usage.likelihood)
    answer = session.ask(QUESTION, max_tokens=8)
    assert answer.token_ids == best.token_ids
    assert session.reader.read(QUESTION) == best.usage.reading
    assert sum(candidate.read for candidate in session.reader.explained(QUESTION)) == 1


def _sampling() -> Any:
    from goldfinch.engine.sampling import Sampling

    return Sampling(max_tokens=8)


@pytest.mark.parametrize("name", ["llama", "falcon_h1"])
def test_a_batch_answers_as_one_by_one(name: str) -> None:
    engine = engine_of(name)
    cache, questions = made(engine), [f"Who is the {bird}?" for bird in BIRDS]
    for blocks in (1, 3):
        session = engine.session(cache, read_blocks=blocks)
        together = engine.ask_many(session, questions, max_tokens=8)
        alone = [session.ask(q, max_tokens=8) for q in questions]
        assert [one.token_ids for one in together] == [one.token_ids for one in alone]
        assert [one.usage.reading for one in together] == [one.usage.reading for one in alone]


def test_text_that_goes_on_follows_the_last_block(engine: ForeignEngine) -> None:
    cache = made(engine)
    session = engine.session(cache)
    answer = session.ask("And then", raw=True, max_tokens=4)
    assert answer.usage.reading.found[0].block == len(cache.blocks.token_ids) - 1
    ids = session.question_token_ids("And then", raw=True)
    assert session.generate(ids, max_tokens=4) == session.likeliest(ids, 4) == answer.token_ids


def test_equal_blocks_are_taken_over_wherever_they_stand(engine: ForeignEngine, tmp_path: Path) -> None:
    old = engine.open(saved(made(engine), tmp_path / "a.gfc"))
    text = "\n\n".join([PARTS[3], "Another part. " * 50, PARTS[0], PARTS[5]]) + "\n"
    ids = engine.document(text).token_ids
    kept = sum(len(PARTS[n]) for n in (0, 3, 5))
    assert kept < engine.reusable_tokens(old, ids) < kept + 20
    computed: list[int] = []
    forward = library.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "forward", lambda n, t, *a, **k: (computed.append(len(t)), forward(n, t, *a, **k))[1])
        again = made(engine, text, Start(old))
    assert sum(computed) < len("Another part. " * 50) + 40
    cold = made(engine, text)
    saved(again, tmp_path / "b.gfc")
    saved(cold, tmp_path / "c.gfc")
    assert _digests(tmp_path / "b.gfc") == _digests(tmp_path / "c.gfc")


def _digests(path: Path) -> list[tuple[str, str]]:
    with gfcache.read_cache(path) as file:
        return [(section.name, section.sha256) for section in file.header.sections]


def test_a_killed_run_goes_on_to_the_same_bits(engine: ForeignEngine, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.gfc", every_s=0)
    steps: list[int] = []

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        steps.append(done)
        if len(steps) == 4:
            raise Killed

    with pytest.raises(Killed):
        made(engine, start=Start(journal=journal), progress=kill)
    left = journal.left_by(engine.open)
    assert len(left.blocks.token_ids) == 3
    assert left.length == steps[2]
    resumed, whole = made(engine, start=Start(left)), made(engine)
    saved(resumed, tmp_path / "b.gfc")
    saved(whole, tmp_path / "c.gfc")
    assert _digests(tmp_path / "b.gfc") == _digests(tmp_path / "c.gfc")


def test_auto_keeps_the_whole_where_it_fits_and_blocks_where_it_does_not() -> None:
    engine = engine_of("llama", "auto")
    short = made(engine, PARTS[0])
    long = made(engine)
    assert (short.blocks, long.blocks is None) == (None, False)
    assert engine.most_tokens is None
    assert engine_of("llama", "whole").most_tokens == 1024
    with pytest.raises(ContextTooLong):
        made(engine_of("llama", "whole"))
    assert made(engine, PARTS[0], Start(long)).blocks is not None  # what is continued keeps its layout


def test_auto_keeps_whole_what_fits_a_small_context_or_has_windows_shorter_than_a_block() -> None:
    """75 of 256 tokens, and all but one of them: both fit, and the model that slides sees 23 tokens of a block."""
    for name, tokens, in_blocks in (("llama", 75, False), ("llama", 255, True), ("mistral", 255, False)):
        engine = engine_of(name, "auto", context_length=256)
        cache = engine.prefill_from(Start(), random_ids(tokens)) if not in_blocks else made(engine, "a bird. " * 31)
        assert (cache.blocks is not None) == in_blocks, name


def test_what_cannot_be_kept_in_blocks_is_named() -> None:
    with pytest.raises(ModelRefused, match="layers of mistral see 23"):
        made(engine_of("mistral"))
    with pytest.raises(ContextTooLong, match="a block of the document"):
        made(engine_of("llama", context_length=300))


def test_a_state_that_is_larger_than_keys_and_values_of_a_block_keeps_documents_whole() -> None:
    def narrow(layout: str) -> ForeignEngine:
        """An engine of a width of 1: 200 x 2 x 2 layers x 1 = 800 numbers are the most."""
        model = engine_of("falcon_h1", layout).model
        return ForeignEngine(replace(model, config=replace(model.config, d_model=1)))

    states = made(engine_of("falcon_h1"), PARTS[0]).blocks.rows_of(0)
    numbers = sum(state.numel() for held in states for state in held.states.values())
    assert numbers > 800
    with pytest.raises(ModelRefused, match=f"a state of {numbers:,} numbers, and 800 are"):
        made(narrow("blocks"))
    assert made(narrow("auto"), PARTS[0]).blocks is None
    with pytest.raises(ContextTooLong, match="positions for 1,024") as caught:
        made(narrow("auto"))
    assert f"a state of {numbers:,}" in str(caught.value.hint)


def test_states_are_not_joined(engine: ForeignEngine) -> None:
    cache = made(engine)
    if engine.model.name == "llama":
        assert engine_joins(engine, cache)
    else:
        with pytest.raises(GoldFinchError, match="states behind one block"):
            engine_joins(engine, cache)


def engine_joins(engine: ForeignEngine, cache: Any) -> bool:
    return ForeignSession(engine.model, cache, read_blocks=2, joined=True).reader.blocks == 2


def test_policies_that_cannot_be_followed_are_refused(engine: ForeignEngine) -> None:
    cache = made(engine)
    for policy in ("all", "attention", "nonsense"):
        with pytest.raises(GoldFinchError, match=policy):
            engine.session(cache, read=policy)
    with pytest.raises(GoldFinchError, match="allowed: 1 to 8"):
        engine.session(cache, read_blocks=9)


def test_blocks_by_other_rules_are_asked_as_they_stand_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may find other blocks; those of the file go on being found, read, cited and saved."""
    engine = engine_of("llama")
    path = saved(made(engine, TABLE + TEXT), tmp_path / "a.gfc")
    session = engine.session(engine.open(path), read="lexical")
    answers = {f"Who is the {bird}?": session.ask(f"Who is the {bird}?", max_tokens=4) for bird in BIRDS}
    monkeypatch.setattr("goldfinch.policies.blocks.LEAST", 2000)
    monkeypatch.setattr("goldfinch.policies.blocks.MOST", 3000)
    monkeypatch.setattr("goldfinch.policies.blocks.ROWS", 600)
    monkeypatch.setattr("goldfinch.policies.index._VERSION", 99)
    elsewhere = DocumentIndex(engine.tokenizer, engine.document(TABLE + TEXT).token_ids[session.cache.state.position :])
    cache = engine.open(path)
    other = engine.session(cache, read="lexical")
    assert len(elsewhere) < len(other.reader.index) == len(cache.blocks.token_ids)
    assert np.array_equal(other.reader.index.places.rows(), cache.blocks.places)
    assert other.reader.index.texts == session.reader.index.texts
    for question, answer in answers.items():
        again = other.ask(question, max_tokens=4)
        assert again.token_ids == answer.token_ids
        assert again.usage.reading == answer.usage.reading
        found = elsewhere.found(best_blocks("lexical", elsewhere, question, 1)[0].block, 1.0)
        chosen = engine.session(cache, read=Chosen("lexical", (found,))).reader.read(question).found[0]
        first = elsewhere.found(found.block, 0.0).rows[-1][0]
        assert chosen.rows[-1][0] <= first < chosen.rows[-1][1]
    cache.index = None
    again = saved(cache, tmp_path / "b.gfc")
    assert _digests(again) == [(name, digest) for name, digest in _digests(path) if name != "document_index"]


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [("llama", layout.BLOCK_VALUES, "values of layer 1"), ("mamba", layout.BLOCK_STATE, "conv state of layer 1")],
)
def test_an_altered_value_is_found_by_replay(name: str, kind: str, said: str, tmp_path: Path) -> None:
    engine = engine_of(name)
    path = saved(made(engine), tmp_path / "a.gfc")
    header, rows = sections_of(path)
    section = next(row for row in rows if row.kind == kind and row.token_start)
    altered = section.array.copy()
    altered.reshape(-1)[-1] += 0.5
    rows[rows.index(section)] = gfcache.SectionData(**{**vars(section), "array": altered})
    gfcache.write_cache(tmp_path / "b.gfc", header, rows)
    assert f"{said} differ" in str(engine.replay(engine.open(tmp_path / "b.gfc")).difference)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda model: model["blocks"].append(3), "R1[23]"),
        (lambda model: model["blocks"].pop(), "R1[23]"),
        (lambda model: model["blocks"].reverse(), "R1[23]"),
        (lambda model: model.update(blocks=[0]), "R7"),
        (lambda model: model.update(blocks="all"), "R7"),
        (lambda model: model["layers"][0].update(states={"conv": {"shape": [1], "dtype": "f32"}}), "R13"),
        (lambda model: model.pop("blocks"), "R1[23]"),
    ],
)
def test_a_file_whose_blocks_do_not_fit_is_damaged(change: Any, rule: str, tmp_path: Path) -> None:
    path = saved(made(engine_of("llama")), tmp_path / "a.gfc")
    header, rows = sections_of(path)
    change(header.model)

    def write_and_read() -> None:
        gfcache.write_cache(tmp_path / "b.gfc", header, rows)
        gfcache.verify_cache(tmp_path / "b.gfc")

    with pytest.raises((gfcache.UnwritableCache, gfcache.DamagedCache), match=rule):
        write_and_read()


@pytest.mark.parametrize(
    "places",
    [
        lambda places: places[:, [1, 0, 2, 3]] + np.array([0, 1, 0, 0], np.uint32),
        lambda places: places + np.array([0, 0, 0, 1 << 20], np.uint32),
        lambda places: places * np.array([1, 1, 0, 1], np.uint32),
        lambda places: np.zeros_like(places),
    ],
)
def test_places_that_are_not_those_of_the_blocks_are_damaged(places: Any, tmp_path: Path) -> None:
    path = saved(made(engine_of("llama")), tmp_path / "a.gfc")
    header, rows = sections_of(path)
    n = next(n for n, row in enumerate(rows) if row.kind == layout.BLOCK_PLACES)
    rows[n] = gfcache.SectionData(**{**vars(rows[n]), "array": places(rows[n].array).astype(np.uint32)})
    gfcache.write_cache(tmp_path / "b.gfc", header, rows)
    with pytest.raises(gfcache.DamagedCache, match="R17"):
        gfcache.verify_cache(tmp_path / "b.gfc")


@pytest.mark.gpu
def test_on_a_gpu_cold_is_warm(tmp_path: Path) -> None:
    engine = engine_of("llama", device="cuda")
    cache = made(engine)
    warm = engine.open(saved(cache, tmp_path / "a.gfc"), asking=True)
    one, other = (engine.session(c).ask(QUESTION, max_tokens=8) for c in (cache, warm))
    assert one.token_ids == other.token_ids
    assert engine.replay(warm).difference is None
