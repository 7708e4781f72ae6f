"""Codecs of keys and values: what was rounded is stored exactly, wherever it stands; no bytes do harm."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from gfcache import layout
from gfcache.codecs import registry
from gfcache.codecs.rotary import BITS, turned, turned_back, turns
from gfcache.codecs.tokens import Where
from gfcache.codecs.words import as_f32, from_f32

from tests.cache_format.small_basis import small_basis

NAMES = registry.serving(layout.KV_KEYS)
ROTARY = tuple(10000.0 ** -(np.arange(8) / 8))
BASIS = small_basis((0, 1), heads=3, channels=16)
KEYS = Where(layout.KV_KEYS, 0, 16, ROTARY, BASIS.of((0, 1), "keys"))
VALUES = Where(layout.KV_VALUES, 0, 16, (), BASIS.of((0, 1), "values"))
BOTH = Where(layout.ATTENTION_KV, 0, 16)
# Bits per value of 3,000 tokens of two layers, keys and values, headers included; those of FlexGen at 16 channels are
# what one short group costs.
MOST_BITS = {
    "bf16": 16.1, "f16": 16.1, "int8": 9.1, "int4": 5.1, "step4": 4.7, "step3.5": 4.2, "step3": 3.7, "step2.5": 3.2,
    "step2": 2.7, "step1.5": 2.3, "basis4": 4.7, "basis3.5": 4.2, "basis3": 3.7, "basis2.5": 3.2, "basis2": 2.7,
    "basis1.5": 2.3, "kivi4": 6.4, "kivi2": 4.4, "flexgen4": 6.2, "flexgen4padded": 10.2,
}  # fmt: skip


def sized(where: Where, tokens: int, dtype: str = "f32", seed: int = 0) -> np.ndarray:
    """Values of a section: keys as a model has them, most of each channel the same for all tokens, and turned."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((2, 3, tokens, 16)).astype(np.float32) * rng.uniform(0.5, 3, (2, 3, 1, 1))
    rows = rows + 4 * rng.standard_normal((2, 3, 1, 16))
    if where.rotary:
        turn = turns(where.rotary, where.first, tokens)
        rows = np.stack([np.stack([turned(plane.T, turn).T for plane in heads]) for heads in rows])
    if where.kind == layout.ATTENTION_KV:
        rows = rows.transpose(0, 2, 1, 3).reshape(2, tokens, 48)
    return np.ascontiguousarray(from_f32(rows.astype(np.float32), dtype))


def stored(array: np.ndarray, dtype: str, name: str, where: Where) -> tuple[str, bytes]:
    chosen, data = registry.encode(array, dtype, name, where)
    assert registry.decode(chosen, bytes(data), dtype, array.shape, where) == array.tobytes()
    return chosen, bytes(data)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("dtype", "where"), [("f32", KEYS), ("bf16", KEYS), ("bf16", VALUES), ("f64", BOTH), ("f16", BOTH)]
)
def test_what_was_rounded_is_stored_exactly(name: str, dtype: str, where: Where) -> None:
    if where.kind == layout.ATTENTION_KV and name in registry.BASED:
        return
    for tokens, first in ((1, 0), (3, 2), (5, 0), (127, 4096), (300, 0), (1025, 300)):
        there = where._replace(first=first)
        once = registry.rounded(given := sized(there, tokens, dtype), dtype, name, there)
        assert (once.dtype, once.shape) == (given.dtype, given.shape)
        stored(once, dtype, name, there)
        assert np.isfinite(as_f32(once, dtype)).all()


def test_every_codec_of_rows_has_one_of_keys_and_values() -> None:
    assert set(MOST_BITS) == set(NAMES) == set(registry.LOSSY)
    assert set(NAMES) - set(registry.BASED) == set(registry.serving(layout.ATTENTION_KV))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_rates_are_as_expected(name: str, dtype: str) -> None:
    size = count = 0
    for where in (KEYS, VALUES):
        once = registry.rounded(sized(where, 3000, dtype), dtype, name, where)
        chosen, data = stored(once, dtype, name, where)
        assert chosen == name or (dtype == "bf16" and name in ("bf16", "f16"))
        size, count = size + len(data), count + once.size
        if dtype == "f32" or not name.startswith(("kivi", "flexgen")):  # which find other extremes in rounded bf16
            assert np.array_equal(registry.rounded(once, dtype, name, where), once)
    assert 8 * size / count <= MOST_BITS[name]


def test_turning_back_is_what_makes_keys_small() -> None:
    given, costs = sized(KEYS, 3000), []
    for where in (KEYS, KEYS._replace(rotary=())):
        once = registry.rounded(given, "f32", "step3", where)
        bits = 8 * len(stored(once, "f32", "step3", where)[1]) / given.size
        costs.append(bits + 0.5 * np.log2(np.mean((once - given) ** 2)))  # at an error of one
    assert costs[0] < costs[1] - 0.5


@pytest.mark.parametrize("where", [KEYS, VALUES], ids=lambda w: w.kind)
def test_the_first_tokens_of_a_document_stay(where: Where) -> None:
    given = sized(where, 300)
    given[:, :, :4] *= 1000  # as those are that draw all attention
    once = registry.rounded(given, "f32", "step2", where)
    assert np.abs(once[:, :, :4] / given[:, :, :4] - 1).max() < 2**-8
    assert np.abs(once - given)[:, :, 4:].max() < 50  # and do not make the step of the others larger
    later = where._replace(first=2)
    once = registry.rounded(given, "f32", "step2", later)
    assert np.abs(once[:, :, :2] / given[:, :, :2] - 1).max() < 2**-8
    assert np.abs(once[:, :, 2:4] / given[:, :, 2:4] - 1).max() > 2**-8


@pytest.mark.parametrize("name", NAMES)
def test_a_writer_does_not_change_what_was_not_rounded(name: str) -> None:
    stored(sized(KEYS, 1100), "f32", name, KEYS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 3.25, -3e38, 1e-44])
def test_extreme_values_stay_finite_and_are_stored_exactly(name: str, value: float) -> None:
    for where in (KEYS, VALUES):
        where = where._replace(basis=small_basis((0,), 2, 16).of((0,), "keys"))
        given = np.full((1, 2, 200, 16), value, np.float32)
        given[:, 1, ::7] = 1e30
        once = registry.rounded(given, "f32", name, where)
        assert np.isfinite(once).all()
        stored(once, "f32", name, where)


@pytest.mark.parametrize("name", NAMES)
def test_kivi_leaves_its_residual_and_groups_by_tokens_and_by_channels(name: str) -> None:
    if not name.startswith("kivi"):
        return
    keys, values = sized(KEYS, 300), sized(VALUES, 300)
    changed = [
        np.abs(registry.rounded(given, "f32", name, where) / given - 1).max(axis=(0, 1, 3)) > 2**-10
        for given, where in ((keys, KEYS), (values, VALUES))
    ]
    assert changed[0].nonzero()[0].max() == 255  # 300 - 300 mod 128
    assert changed[1].nonzero()[0].max() == 171  # 300 - 128


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", [KEYS, VALUES], ids=lambda w: w.kind)
def test_damaged_blocks_are_told_or_give_other_values(name: str, where: Where) -> None:
    once = registry.rounded(sized(where, 1100), "f32", name, where)
    _, data = stored(once, "f32", name, where)
    rng = np.random.default_rng(1)
    for change in (data[:-1], data + b"\0", data[:3], b"", data[:8] + data[9:]):
        with pytest.raises(ValueError, match=r".+"):
            registry.decode(name, change, "f32", once.shape, where)
    for _ in range(60):
        at = int(rng.integers(min(len(data), 4000)))
        changed = data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]
        with contextlib.suppress(ValueError):
            assert len(registry.decode(name, changed, "f32", once.shape, where)) == once.nbytes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 3, 9, 16), (2, 3, 0, 16), (2, 3, 1 << 20, 16), (2, 3, 1, 1 << 24), (2, 3, 2, 0)])
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    once = registry.rounded(sized(VALUES, 1100), "f32", name, VALUES)
    _, data = registry.encode(once, "f32", name, VALUES)
    with pytest.raises(ValueError, match=r".+"):
        registry.decode(name, bytes(data), "f32", shape, VALUES)


def test_turns_are_sines_and_undo_each_other() -> None:
    turn = turns(ROTARY, 1_000_000, 500)
    angles = np.arange(1_000_000, 1_000_500) * np.array(ROTARY)[:, None]
    assert np.abs(turn.cosine / 2**BITS - np.cos(angles)).max() < 2**-BITS
    assert np.abs(turn.sine / 2**BITS - np.sin(angles)).max() < 2**-BITS
    codes = np.random.default_rng(0).integers(-30000, 30000, (17, 500))
    once = turned(codes, turn)
    assert np.abs(turned_back(once, turn) - codes).max() < 1e-6
    assert np.abs(turned_back(once, turn, np.float32) - codes).max() < 0.1
    assert np.array_equal(once * 2**BITS, np.rint(once * 2**BITS))
    assert np.array_equal(turned(codes, turn, 0.375), once * 0.375)
