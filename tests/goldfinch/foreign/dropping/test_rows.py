"""Keys and values dropped of caches of models of others, against a Llama and policies in this file's own plain torch."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gfcache import Coding, layout
from torch import Tensor

from goldfinch.caching.row_parts import Form
from goldfinch.engine.base import Start
from goldfinch.errors import GoldFinchError
from goldfinch.foreign.dropping.rows import without
from goldfinch.measure.choosing import Bounds, measured
from goldfinch.policies.dropping.named import DROPPERS, EXPECTED, Dropping
from tests.goldfinch.foreign.running.test_blocks import TEXT, engine_of
from tests.goldfinch.foreign.running.test_engine import behind
from tests.goldfinch.foreign.running.tiny import random_ids, tiny_engine

T, KEEP = 512, 0.2
COUNT = int(KEEP * T)
SHORT = 220
H2O = Dropping("h2o", 0.25)
QUESTION = random_ids(9, 1).tolist()
ABLE = [name for name in DROPPERS if name != EXPECTED]


class PlainLlama:
    """The tiny Llama, whole attention matrices and no cache. 4 query heads, 2 key-value heads."""

    def __init__(self, network: Any) -> None:
        self.weights, self.config = network.state_dict(), network.config

    def attended(
        self, ids: np.ndarray, hidden: list[Tensor] | None = None, asked: int = 0
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits (T, V), and of each layer weights (H, T, T) and values (G, T, D).

        Args:
            hidden: of each layer (G, T) bool, rows that the last `asked` tokens do not see.
        """
        w, config = self.weights, self.config
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        n, width = len(ids), config.head_dim
        x, found = w["model.embed_tokens.weight"][torch.from_numpy(ids)], []
        rate = config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2) / width)
        angle = torch.arange(n)[:, None] * rate
        cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()

        def normed(x: Tensor, name: str) -> Tensor:
            return w[name] * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + config.rms_norm_eps)

        def split(x: Tensor, name: str, count: int) -> Tensor:
            return (x @ w[name].T).view(n, count, width).transpose(0, 1)

        def rotated(x: Tensor) -> Tensor:
            one, other = x.chunk(2, -1)
            return x * cos + torch.cat([-other, one], -1) * sin

        for layer in range(config.num_hidden_layers):
            at = f"model.layers.{layer}."
            h = normed(x, at + "input_layernorm.weight")
            q = rotated(split(h, at + "self_attn.q_proj.weight", heads))
            k = rotated(split(h, at + "self_attn.k_proj.weight", groups)).repeat_interleave(heads // groups, 0)
            v = split(h, at + "self_attn.v_proj.weight", groups)
            scores = q @ k.transpose(1, 2) / math.sqrt(width)
            unseen = torch.ones(n, n, dtype=torch.bool).triu(1).repeat(heads, 1, 1)
            if hidden is not None:
                unseen[:, n - asked :] |= F.pad(hidden[layer], (0, asked)).repeat_interleave(heads // groups, 0)[
                    :, None
                ]
            weights = scores.masked_fill(unseen, -torch.inf).softmax(-1)
            found.append((weights, v))
            y = weights @ v.repeat_interleave(heads // groups, 0)
            x = x + y.transpose(0, 1).reshape(n, -1) @ w[at + "self_attn.o_proj.weight"].T
            h = normed(x, at + "post_attention_layernorm.weight")
            gate, up = (h @ w[f"{at}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
            x = x + (F.silu(gate) * up) @ w[at + "mlp.down_proj.weight"].T
        head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
        return normed(x, "model.norm.weight") @ head.T, found


def plainly_kept(policy: str, weights: Tensor) -> list[set[int]]:
    """Which rows each of the two key-value heads keeps, by loops over lists; weights (4, T, T)."""
    found = []
    for group in range(2):
        pair = weights[2 * group : 2 * group + 2].double().mean(0)
        if policy == "streaming":
            found.append({0, 1, 2, 3} | set(range(T - COUNT + 4, T)))
            continue
        last = COUNT // 2 if policy == "h2o" else 32
        scores = pair.sum(0).tolist()
        if policy == "snapkv":
            sums = pair[-32:].sum(0).tolist()[: T - 32]
            padded = [0.0, 0.0, *sums, 0.0, 0.0]
            scores = [sum(padded[j : j + 5]) / 5 for j in range(T - 32)]
        order = sorted(range(T - last), key=lambda j: -scores[j])
        found.append(set(order[: COUNT - last]) | set(range(T - last, T)))
    return found


def made(engine: Any, form: Form, tokens: int = SHORT, **start: Any) -> Any:
    return engine.prefill_from(Start(form=form, **start), random_ids(tokens))


def parts(cache: Any) -> list[Tensor]:
    return [part for held in cache.state.layers for part in (held.keys, held.values) if part is not None]


def equal(one: Any, other: Any) -> bool:
    rows = all(torch.equal(a, b) for a, b in zip(parts(one), parts(other), strict=True))
    pairs = zip(one.kept or (), other.kept or (), strict=True)
    return rows and all(a is b or np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_rows_of_an_independent_implementation(seed: int) -> None:
    engine = tiny_engine("llama", context_length=1024)
    ids, plain = random_ids(T, seed), PlainLlama(engine.model.network)
    _, layers = plain.attended(ids)
    cache = engine.prefill_from(Start(), ids)
    torch.testing.assert_close(behind(engine, cache, QUESTION), plain.attended(np.append(ids, QUESTION))[0][-1])
    for policy in ("h2o", "snapkv", "streaming"):
        kept = engine.chooser(cache, policy).kept(KEEP)
        for (weights, _), rows in zip(layers, kept, strict=True):
            assert [set(head) for head in rows.tolist()] == plainly_kept(policy, weights)
            assert (np.diff(rows, axis=1) > 0).all()
        if policy != "streaming":
            assert not np.array_equal(kept[0][0], kept[0][1])
            assert not np.array_equal(kept[0], kept[1])


@pytest.mark.parametrize("policy", ["h2o", "snapkv"])
def test_blocks_of_any_size_choose_the_same_rows(policy: str) -> None:
    found = []
    for block in (16, 63, T):
        engine = tiny_engine("llama", context_length=1024, block_tokens=block)
        found.append(engine.chooser(engine.prefill_from(Start(), random_ids(T)), policy).kept(KEEP))
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("policy", ABLE)
def test_questions_see_what_is_kept_at_its_place_and_nothing_else(policy: str) -> None:
    """As in one pass over document and question, in which the question's rows do not see what was dropped."""
    engine = tiny_engine("llama")
    small = made(engine, Form(dropping=Dropping(policy, KEEP)))
    hidden = []
    for rows in small.kept:
        mask = torch.ones(2, SHORT, dtype=torch.bool)
        hidden.append(mask.scatter_(1, torch.from_numpy(rows), False))
    ids = np.append(random_ids(SHORT), QUESTION)
    expected, _ = PlainLlama(engine.model.network).attended(ids, hidden, len(QUESTION))
    torch.testing.assert_close(behind(engine, small, QUESTION), expected[-1], rtol=1e-4, atol=1e-4)
    session = engine.session(small)
    assert session.chosen_path == f"{small.row_count} rows of each head are held of {SHORT} tokens"
    torch.testing.assert_close(session.continued(QUESTION), expected[-len(QUESTION) :], rtol=1e-4, atol=1e-4)
    answers = [session.ask(text, max_tokens=6).text for text in ("abc", "what of d?")]
    assert [answer.text for answer in engine.ask_many(session, ["abc", "what of d?"], max_tokens=6)] == answers


FORMS = [Form(dropping=Dropping(policy, 0.25)) for policy in ABLE] + [Form(Coding("step3"), dropping=H2O)]


def check(name: str, form: Form, path: Path, **how: Any) -> None:
    engine = tiny_engine(name, **how)
    warm, plain = made(engine, form), made(engine, Form(form.coding))
    header = warm.save(path)
    plain.save(path.with_name("plain.gfc"))
    gfcache.verify_cache(path, complete=True)
    assert header.numerics["dropping"] == str(form.dropping)
    assert header.kept_rows == warm.row_count == SHORT // 4
    cold = engine.open(path)
    assert equal(warm, cold)
    assert (cold.row_parts, cold.numerics, cold.state.dropped) == (warm.row_parts, warm.numerics, warm.state.dropped)
    assert torch.equal(behind(engine, warm), behind(engine, cold))
    assert not torch.equal(behind(engine, warm), behind(engine, plain))
    assert path.stat().st_size < path.with_name("plain.gfc").stat().st_size
    report = engine.replay(cold)
    assert (report.exact, report.difference) == (True, None)
    for shape, held, before in zip(engine.model.layers, warm.state.layers, plain.state.layers, strict=True):
        assert all(torch.equal(held.states[role], state) for role, state in before.states.items())
        if shape.kind == "sliding":
            assert torch.equal(held.keys, before.keys)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dropping}, {form.coding.rows}")
def test_cold_equals_warm(form: Form, tmp_path: Path) -> None:
    check("llama", form, tmp_path / "doc.gfc")


@pytest.mark.parametrize("name", ["gemma3_text", "falcon_h1", "jamba"])
def test_windows_and_states_stay(name: str, tmp_path: Path) -> None:
    check(name, Form(Coding("int8"), dropping=H2O), tmp_path / "doc.gfc")


@pytest.mark.gpu
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dropping}, {form.coding.rows}")
def test_cold_equals_warm_on_a_gpu(form: Form, tmp_path: Path) -> None:
    check("llama", form, tmp_path / "doc.gfc", dtype="bf16", device="cuda")


def test_dropping_of_a_file_is_dropping_at_once(tmp_path: Path) -> None:
    engine, form = tiny_engine("llama"), Form(Coding("step3"), dropping=H2O)
    made(engine, Form()).save(tmp_path / "plain.gfc")
    assert equal(engine.coded(engine.open(tmp_path / "plain.gfc"), form), made(engine, form))
    # Rows first, then codecs: a file without a codec is rounded without a model.
    made(engine, Form(dropping=H2O)).save(tmp_path / "small.gfc")
    gfcache.convert_cache(tmp_path / "small.gfc", tmp_path / "both.gfc", Coding("step3"))
    assert equal(engine.open(tmp_path / "both.gfc"), made(engine, form))
    gfcache.flatten_cache(tmp_path / "small.gfc", tmp_path / "flat.gfc")
    assert equal(engine.open(tmp_path / "flat.gfc"), made(engine, Form(dropping=H2O)))


def test_a_replay_tells_other_rows_and_values() -> None:
    engine = tiny_engine("llama")
    small, whole = made(engine, Form(dropping=H2O)), made(engine, Form())
    held = small.state.layers[1]
    altered = replace(small.state, layers=(small.state.layers[0], replace(held, values=held.values + 0.1)))
    assert "values of layer 1 differ" in str(engine.replay(replace(small, state=altered)).difference)
    liar = replace(engine.dropped(whole, Dropping("random", 0.25)), numerics=small.numerics)
    assert "kept_positions of layer 0 are not those that h2o 0.25 keeps" in str(engine.replay(liar).difference)


def test_nothing_goes_on_from_it(tmp_path: Path) -> None:
    engine, form = tiny_engine("llama"), Form(dropping=H2O)
    made(engine, form, SHORT - 40).save(tmp_path / "part.gfc")
    part = engine.open(tmp_path / "part.gfc")
    assert engine.reusable_tokens(part, random_ids(SHORT)) == 0
    assert equal(made(engine, form, base=part), made(engine, form))
    assert equal(made(engine, Form(), base=part), made(engine, Form()))


def test_a_receipt_and_bounds_choose_the_share(tmp_path: Path) -> None:
    engine = tiny_engine("llama", context_length=1024)
    whole = made(engine, Form())

    def size(cache: Any) -> int:
        return int(cache.file_bytes(tmp_path / "doc.gfc"))

    found = measured(engine, whole, Form(), Bounds(max_bytes=size(whole) * 2 // 3, policy="snapkv"), size)
    assert found.kept is not None
    assert found.receipt is not None
    assert found.receipt.mean_kl > 0
    assert size(found) <= size(whole) * 2 // 3
    chosen = Dropping.of(found.numerics.dropping)
    assert chosen is not None
    assert equal(found, engine.dropped(whole, chosen))


def test_lines_are_of_the_whole_document() -> None:
    engine = engine_of("llama", "whole", context_length=4096)
    prompt = engine.document(TEXT)
    whole = engine.prefill(prompt)
    small = engine.dropped(whole, Dropping("streaming", 0.1))
    session = engine.session(small)
    answer = session.ask("What?", max_tokens=4)
    citations = engine.cite(session, "What?", answer.token_ids)
    first = small.length - small.row_count
    before = engine.tokenizer.decode(small.token_ids[small.document_range[0] : first].tolist()).count("\n")
    assert citations
    assert all(one.line > before or one.line == 1 for one in citations)  # the first four rows are kept, too


def test_what_cannot_be_dropped_is_refused() -> None:
    for name, policy, why in (
        ("llama", "expected", "know their positions"),
        ("gemma2", "h2o", "attends in a way of its own"),
        ("mistral", "random", "keeps keys and values of every token"),
        ("mamba", "streaming", "keeps keys and values of every token"),
    ):
        engine = tiny_engine(name)
        assert why in str(engine.obstacle_to_dropping(policy))
        with pytest.raises(GoldFinchError, match=why):
            made(engine, Form(dropping=Dropping(policy, 0.5)))
    engine = tiny_engine("llama")
    for cache, why in (
        (made(engine, Form(dropping=H2O)), "dropped before"),
        (made(engine, Form(Coding("int8"))), "a codec has rounded its rows"),
    ):
        with pytest.raises(GoldFinchError, match=why):
            engine.coded(cache, Form(dropping=H2O))
    blocks = tiny_engine("llama", layout="blocks")
    assert "in blocks" in str(blocks.obstacle_to_dropping("h2o", random_ids(SHORT)))
    with pytest.raises(GoldFinchError, match="in blocks"):
        made(blocks, Form(dropping=H2O))
    whole = made(engine, Form())
    assert without(whole, engine.chooser(whole, "random").kept(1.0), H2O) is whole


def test_a_table_or_positions_that_break_the_rules_are_damage(tmp_path: Path) -> None:
    engine, path = tiny_engine("llama"), tmp_path / "doc.gfc"
    made(engine, Form(dropping=H2O)).save(path)
    with gfcache.read_cache(path) as file:
        header = file.header
        items = [gfcache.SectionData.of(section, file.array(section)) for section in header.sections]
    kept, *others = items
    assert kept.kind == layout.KEPT_POSITIONS
    assert kept.array.shape == (2, 2, SHORT // 4)
    other = kept.array.copy()
    other[1, 0, 3] = other[1, 0, 4]
    far = kept.array.copy()
    far[0, 1, -1] = SHORT
    for rule, rows in (
        ("R19", [replace(kept, array=other), *others]),
        ("R19", [replace(kept, array=far), *others]),
        ("R12", others),  # some rows, and nothing that says which
        ("R13", [kept, replace(kept, name="again"), *others]),
        ("R12", [kept, replace(kept, name="kept_positions/1", layer=1), *others]),
        ("R12", [replace(kept, array=kept.array[:1]), *others]),
        ("R12", [replace(kept, array=kept.array[0]), *others]),
        ("R12", [replace(kept, array=kept.array[..., 1:]), *others]),
        ("R12", [replace(kept, required=False), *others]),
    ):
        gfcache.write_cache(tmp_path / "bad.gfc", replace(header, sections=()), rows)
        with pytest.raises(gfcache.DamagedCache) as caught:
            gfcache.verify_cache(tmp_path / "bad.gfc")
        assert caught.value.rule == rule
