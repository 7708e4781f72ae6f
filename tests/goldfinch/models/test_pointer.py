"""The pointer: a distribution over words and copies, the same by every way to an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import goldfinch
from goldfinch.engine import batch_decode as batching
from goldfinch.engine.session import decode_one_token
from goldfinch.errors import ConfigError
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.memory import GoldMemory
from goldfinch.models.pointer import (
    MATCHED,
    NOTHING,
    RUNS,
    Layout,
    Pointing,
    Rows,
    in_runs,
    recent_tokens,
    tokens_before,
)
from goldfinch.models.state import ModelState
from tests import tolerances
from tests.executors import run_with

WIDTH = 16
QUESTIONS = [[5, 6, 7, 9], [8], [9, 10, 3, 3, 1, 4, 200, 7, 8, 1]]
BLOCKS = ((0, 1), (10, 24), (30, 41), (65, 70))


def with_pointer(model: LanguageModel, seed: int = 0, looks: int = 0) -> LanguageModel:
    """The model with a pointer whose weights are all random, and with its tokenizer and card."""
    torch.manual_seed(seed)
    pointing = LanguageModel(replace(model.config, pointer_width=WIDTH, pointer_looks=looks))
    pointing.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        for parameter in pointing.pointer.parameters():
            parameter.copy_(torch.randn(parameter.shape) * (0.3 if parameter.dim() > 1 else 0.5))
    pointing.tokenizer, pointing.card = model.tokenizer, model.card
    pointing.choose_executor(model._choose)
    return pointing.eval().requires_grad_(False)


@pytest.fixture
def plain(tiny_model: Path) -> LanguageModel:
    return goldfinch.load_model(tiny_model)


@pytest.fixture(params=[0, 2])
def model(plain: LanguageModel, request: pytest.FixtureRequest) -> LanguageModel:
    """With a pointer, whose rows look at the question once, or again and again."""
    return with_pointer(plain, looks=request.param)


def a_session(model: LanguageModel, memory_bytes: int = 1 << 30) -> goldfinch.Session:
    ids = torch.randint(2, model.config.vocab_size, (1, 70), generator=torch.Generator().manual_seed(0))
    return goldfinch.Session(model, goldfinch.prefill(model, ids), memory_bytes=memory_bytes, read="all")


def decoded(model: LanguageModel, state: ModelState, tokens: tuple[int, ...] = (3, 1, 4, 1)) -> Tensor:
    out = []
    for token in tokens:
        logits, state = decode_one_token(model, token, state)
        out.append(logits)
    return torch.stack(out)


def assert_alike(found: Tensor, expected: Tensor, tolerance: float = tolerances.SPLIT_FP32) -> None:
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_tokens_before_and_recent() -> None:
    ids = torch.tensor([[7, 8, 9]])
    before = tokens_before(ids)[0]
    assert before[0].tolist() == [NOTHING] * MATCHED
    assert before[2].tolist() == [8, 7] + [NOTHING] * (MATCHED - 2)
    recent = torch.arange(MATCHED)[None]  # the latest first
    assert recent_tokens(torch.tensor([[50, 51]]), recent)[0, 1].tolist() == [51, 50, *range(MATCHED - 2)]


def test_what_continues_the_last_tokens_is_known(model: LanguageModel) -> None:
    """Row 4 follows 1 2 3, row 8 only 3: counts 3 and 1, and none before the first row."""
    ids = torch.tensor([[1, 2, 3, 40, 41, 9, 3, 42]])
    before = tokens_before(ids)
    shape = (1, ids.shape[1], WIDTH)
    pointing = Pointing(ids, before, torch.zeros(shape), torch.zeros(1, ids.shape[1], 3), ids[:, :1])
    recent = torch.tensor([[[3, 2, 1] + [77] * (MATCHED - 3)]])
    _, matched = model.pointer.scores(torch.zeros(1, 1, model.config.d_model), pointing, recent)
    assert matched[0, 0].tolist() == [0, 0, 0, 3, 0, 0, 0, 1]


def test_runs_that_the_question_has_too() -> None:
    """Of the rows 1 2 3 9 2 3 2 1, the question 7 1 2 3 8 has 1 2 3 as a run of three, and 2 3 again as one of two."""
    rows, question = torch.tensor([1, 2, 3, 9, 2, 3, 2, 1]), torch.tensor([7, 1, 2, 3, 8])
    found = in_runs((rows[:, None] == question)[None])[0].int()
    assert found[:, RUNS.index(2)].tolist() == [1, 1, 1, 0, 1, 1, 0, 0]
    assert found[:, RUNS.index(3)].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    short = in_runs((rows[:1, None] == question[:2])[None])
    assert not short.any()
    assert short.shape == (1, 1, len(RUNS))


def test_lines_and_columns() -> None:
    """What of the marks stands in the line of each row, and in its column, by | and by comma; rows behind are padding."""
    text = ["a", "|", "b", "|\n", "c", ",", "|", "d", "\n", "e", "", ""]
    breaks = torch.tensor([["\n" in x for x in text]])
    separators = torch.stack([torch.tensor([[x.count(sign) for x in text]]) for sign in "|,"])
    layout = Layout.of(breaks, separators)
    assert layout.first[0].tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 4, 9, 9, 9]
    assert layout.last[0].tolist() == [3, 3, 3, 3, 8, 8, 8, 8, 8, 11, 11, 11]
    assert layout.columns[0, 0].tolist() == [0, 1, 1, 2, 0, 0, 1, 1, 1, 0, 0, 0]
    assert layout.columns[1, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0]
    marks = torch.zeros(1, len(text), 2)
    marks[0, 2, 0], marks[0, 4, 1] = 1.0, 1.0  # b, c
    line, bar, comma = layout.shares(marks)[0].split(2, dim=-1)
    assert line[:, 0].tolist() == [1] * 4 + [0] * 8
    assert line[:, 1].tolist() == [0] * 4 + [1] * 5 + [0] * 3
    assert bar[:, 0].tolist() == [float(column == 1) for column in layout.columns[0, 0]]
    assert comma[7].tolist() == [0, 0]
    assert comma[9].tolist() == [1, 1]


def test_a_pointer_that_is_grown_stays_as_it_was(plain: LanguageModel) -> None:
    """And each of its new parts learns: the last product of every one, which starts at zero, gets a gradient."""
    before = with_pointer(plain)
    after = LanguageModel(replace(before.config, pointer_looks=2))
    after.load_state_dict(before.state_dict(), strict=False)
    after.tokenizer, after.card = before.tokenizer, before.card
    after.choose_executor(before._choose)
    expected = a_session(before).start(QUESTIONS[0])[0]
    assert torch.equal(a_session(after.eval()).start(QUESTIONS[0])[0], expected)
    after.requires_grad_(True)
    ids, other = torch.randint(2, 200, (2, 1, 9)).unbind(0)
    rows = [Rows(x, after.embed(x).detach(), torch.randn(1, 9, after.config.d_compressed)) for x in (ids, other)]
    pointing = after.pointer.open(rows[0], tokens_before(ids), rows[1], tokens_before(other)[:, -1])
    pointing.keys.square().sum().backward()
    for look in (0, 1):
        for part in ("blend", "placed", "neighbours.0.mix", "neighbours.2.mix"):
            assert after.pointer.get_parameter(f"looks.{look}.{part}.weight").grad.abs().max() > 0


def test_a_mixture_is_a_distribution_and_copies_only_what_is_read(model: LanguageModel) -> None:
    session = a_session(model)
    state = session._expanded(BLOCKS)
    logits, state = session.start(QUESTIONS[0], state)
    assert float(logits.exp().sum()) == pytest.approx(1, abs=1e-5)
    pointing = state.pointing
    assert pointing is not None
    held = torch.cat([torch.arange(a, b) for a, b in BLOCKS])
    assert torch.equal(pointing.token_ids[0], session.cache.ids_on(model.device)[0, held])
    attention, gates, _ = model.pointer.shares(
        torch.randn(1, 1, model.config.d_model), pointing, pointing.recent[:, None]
    )
    assert float(attention.sum()) == pytest.approx(1, abs=1e-5)
    assert float(gates.exp().sum()) == pytest.approx(1, abs=1e-5)


def test_padding_changes_nothing(model: LanguageModel) -> None:
    session = a_session(model)
    states = [
        session.start(q, session._expanded(rows))[1]
        for q, rows in zip(QUESTIONS, (BLOCKS, None, BLOCKS[:2]), strict=True)
    ]
    pointings = [state.pointing for state in states]
    stacked = Pointing.stack([p for p in pointings if p is not None])
    stream = torch.randn(3, 1, model.config.d_model, generator=torch.Generator().manual_seed(1))
    together = model.pointer.mix(model.head, stream, stacked, stacked.recent[:, None])
    for n, alone in enumerate(pointings):
        assert alone is not None
        expected = model.pointer.mix(model.head, stream[n : n + 1], alone, alone.recent[:, None])
        assert_alike(together[n : n + 1], expected)
    chosen = stacked.select(torch.tensor([2]))
    assert_alike(model.pointer.mix(model.head, stream[2:], chosen, chosen.recent[:, None]), together[2:])


def test_together_equals_step_by_step(model: LanguageModel) -> None:
    _, state = a_session(model).start(QUESTIONS[0])
    with torch.no_grad():
        together, after = model(torch.tensor([[3, 1, 4, 1]]), state)
    assert_alike(decoded(model, state), together[0])
    assert after.pointing is not None
    assert after.pointing.recent[0, :4].tolist() == [1, 4, 1, 3]


@pytest.mark.parametrize("memory_bytes", [1 << 30, 0])
@pytest.mark.parametrize("executor", ["torch", "native"])
def test_executors_agree(
    executor: str, memory_bytes: int, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_with("reference", model, monkeypatch)
    expected = [decoded(model, a_session(model).start(question)[1]) for question in QUESTIONS]
    run_with(executor, model, monkeypatch)
    for question, logits in zip(QUESTIONS, expected, strict=True):
        assert_alike(decoded(model, a_session(model, memory_bytes).start(question)[1]), logits, tolerances.BATCH_FP32)


@pytest.mark.parametrize("rows", [None, BLOCKS])
def test_a_batch_equals_one_by_one(rows: tuple[tuple[int, int], ...] | None, model: LanguageModel) -> None:
    session = a_session(model)
    states = [session.start(question, session._expanded(rows))[1] for question in QUESTIONS]
    batch, tokens = batching._Batch.of(model, states), torch.tensor([[11], [12], [13]])
    with torch.no_grad():
        found, batch = batch.step(tokens)
        left, _ = batch.keep([0, 2]).step(torch.tensor([[4], [5]]))
    for n, state in enumerate(states):
        expected, state = decode_one_token(model, int(tokens[n]), state)
        assert_alike(found[n], expected, tolerances.BATCH_FP32)
        if n != 1:
            assert_alike(left[n // 2], decode_one_token(model, (4, 0, 5)[n], state)[0], tolerances.BATCH_FP32)


def test_a_cache_serves_the_model_with_and_without(plain: LanguageModel, model: LanguageModel, tmp_path: Path) -> None:
    """Warm = cold bit for bit; and prefill does not know of the pointer."""
    warm = a_session(model)
    warm.cache.save(tmp_path / "doc.gfc")
    cold = goldfinch.Session(model, goldfinch.open_cache(tmp_path / "doc.gfc", model), read="all")
    assert torch.equal(warm.start(QUESTIONS[0])[0], cold.start(QUESTIONS[0])[0])
    ids = torch.randint(2, model.config.vocab_size, (1, 70), generator=torch.Generator().manual_seed(0))
    cache = goldfinch.prefill(plain, ids)
    assert torch.equal(cache.compressed_k, warm.cache.compressed_k)  # type: ignore[arg-type]
    assert "pointer_width" not in plain.config.to_dict()


class InRanges:
    """Rows of an open file, of which only ranges can be taken (`goldfinch.caching.sections`)."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows, self.dtype, self.device, self.shape = rows, rows.dtype, rows.device, rows.shape

    def __getitem__(self, index: tuple[slice | int, slice]) -> torch.Tensor:
        assert isinstance(index[1], slice)
        return self.rows[index]


@pytest.mark.parametrize("rows", [None, BLOCKS])
def test_rows_may_stay_in_an_open_file(rows: tuple[tuple[int, int], ...] | None, model: LanguageModel) -> None:
    _, state = a_session(model, memory_bytes=0).start(QUESTIONS[0])
    document = replace(state.memory.document, rows=rows)
    pointed = [
        model.point(replace(state, memory=replace(state.memory, document=one))).pointing
        for one in (document, replace(document, compressed_k=InRanges(document.compressed_k)))
    ]
    for name, value in vars(pointed[0]).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(pointed[1], name)), name


def test_text_that_continues_is_not_copied(plain: LanguageModel, model: LanguageModel) -> None:
    with_it, without = a_session(model), a_session(plain)
    assert torch.equal(with_it.start(QUESTIONS[0], copies=False)[0], without.start(QUESTIONS[0])[0])
    assert not torch.equal(with_it.start(QUESTIONS[0])[0], without.start(QUESTIONS[0])[0])
    assert with_it.start([])[1].pointing is None
    assert (
        with_it.ask("word", raw=True, max_tokens=6).token_ids == without.ask("word", raw=True, max_tokens=6).token_ids
    )


def test_a_new_pointer_changes_little(plain: LanguageModel) -> None:
    fresh = LanguageModel(replace(plain.config, pointer_width=WIDTH)).eval().requires_grad_(False)
    fresh.load_state_dict(plain.state_dict(), strict=False)
    found, expected = (a_session(m).start(QUESTIONS[0])[0].softmax(-1) for m in (fresh, plain))
    assert 0 < float((found - expected).abs().sum()) < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype, model: LanguageModel, with_dtype: Callable) -> None:
    logits, _ = a_session(with_dtype(model, dtype)).start(QUESTIONS[0])
    assert logits.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(logits.exp().sum()) == pytest.approx(1, abs=1e-2)


@pytest.fixture
def with_dtype() -> Callable[[LanguageModel, torch.dtype], LanguageModel]:
    return lambda model, dtype: model.to(dtype)


def test_widths_that_are_refused(plain: LanguageModel) -> None:
    for width in (-1, 1.5, True, 1 << 20):
        with pytest.raises(ConfigError, match="pointer_width"):
            replace(plain.config, pointer_width=width)
    with pytest.raises(ConfigError, match="GOLD"):
        replace(plain.config, pointer_width=8, upper_time_mix=None)
    for looks in (-1, 1.5, True, 65):
        with pytest.raises(ConfigError, match="pointer_looks"):
            replace(plain.config, pointer_width=8, pointer_looks=looks)
    with pytest.raises(ConfigError, match="0 without a pointer"):
        replace(plain.config, pointer_looks=1)


def test_decoding_in_static_buffers(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from goldfinch.backends.triton.graph import StaticDecoder

    run_with("triton", model, monkeypatch)
    _, state = a_session(model).start(QUESTIONS[0])
    assert isinstance(state.memory, GoldMemory)
    decoder = StaticDecoder(model, model.executor, state, 3)
    for token in (3, 1, 4):
        expected, state = decode_one_token(model, token, state)
        assert_alike(decoder.step(token), expected)


@pytest.mark.gpu
def test_on_a_gpu(tiny_model: Path) -> None:
    """Step by step, as a graph, and as the CPU has it."""
    from goldfinch.backends.triton.graph import StaticDecoder

    on_cpu = with_pointer(goldfinch.load_model(tiny_model))
    expected = decoded(on_cpu, a_session(on_cpu).start(QUESTIONS[0])[1])
    model = with_pointer(goldfinch.load_model(tiny_model)).to("cuda")
    ids = torch.randint(2, model.config.vocab_size, (1, 70), generator=torch.Generator().manual_seed(0))
    session = goldfinch.Session(model, goldfinch.prefill(model, ids.cuda()), read="all")
    _, state = session.start(QUESTIONS[0])
    decoder = StaticDecoder(model, model.executor, state, 4)
    for n, token in enumerate((3, 1, 4, 1)):
        logits, state = decode_one_token(model, token, state)
        assert_alike(logits.cpu(), expected[n], 1e-3)
        assert_alike(decoder.step(token).cpu(), expected[n], 1e-3)


def test_what_a_pointer_finds_before_the_first_token(model: LanguageModel) -> None:
    """The best row's score, and the share of what it copies; nothing where nothing may be copied."""
    session = a_session(model)
    x, state = session._behind_question(QUESTIONS[0], session._expanded(BLOCKS))
    plain = session._behind_gold_layers(x, state, copies=False)
    assert model.found(*plain) == (0.0, 0.0)
    x, state = session._behind_gold_layers(x, state, copies=True)
    best, copied = model.found(x, state)
    stream, pointing = model.ln_out(x), state.pointing
    assert pointing is not None
    scores, _ = model.pointer.scores(stream, pointing, pointing.recent[:, None])
    attention, gates, _ = model.pointer.shares(stream, pointing, pointing.recent[:, None])
    assert best == float(scores.max())
    assert copied == pytest.approx(float(gates[0, 0].exp()[1]))
    row = int(attention[0, 0].argmax())
    token = int(pointing.token_ids[0, row])
    assert float(model.first_logits(x, state)[0, 0, token].exp()) >= copied * float(attention[0, 0, row]) - 1e-6
