"""Medians and steps are found by counting and by samples: they are those that sorting and every value would give."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from gfcache.codecs.step import _exponent, common_exponent, common_step
from gfcache.codecs.words import byte_planes, from_byte_planes, middles
from gfcache.codecs.zstd import compressed, entropy_coded


@pytest.mark.parametrize("n", [1, 2, 3, 8, 1001])
@pytest.mark.parametrize("spread", [0, 1, 30, 30_000])
def test_middles_are_medians(n: int, spread: int) -> None:
    columns = np.random.default_rng(n).integers(-spread, spread + 1, (5, n)).astype(np.int32)
    columns[1] += 100
    assert np.array_equal(middles(columns), np.rint(np.median(columns, axis=1)))
    assert middles(columns).dtype == np.int32


@pytest.mark.parametrize("width", [1, 2])
def test_bytes_of_integers_are_theirs_again(width: int) -> None:
    columns = np.random.default_rng(0).integers(-(2 ** (8 * width - 1)), 2 ** (8 * width - 1), (3, 50))
    assert np.array_equal(from_byte_planes(byte_planes(columns, width), (3, 50), width), columns)
    assert byte_planes(np.array([[1, -2]]), 2) == b"\x01\xfe\x00\xff"


@pytest.mark.parametrize(
    "late", [0.0, 1.0, 2.0**-30, 2.0**-120, -(2.0**-149), 3 * 2.0**90, np.inf, np.nan, 3.0, 1.5, 12.0]
)
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("unit", [1.0, 2.0**-20, 3 * 2.0**-20, 2.0**100, 2.0**-126, 0.0])
def test_the_common_step_is_that_of_all_rows(unit: float, late: float) -> None:
    rows = np.random.default_rng(0).integers(-40, 40, (300, 12)).astype(np.float32) * np.float32(unit)
    rows[290, 3] = late
    exponent = common_exponent(rows)
    assert exponent == _exponent(rows)
    if np.isfinite(late):
        exact = [int(x) for x in np.ldexp(rows[rows != 0].astype(np.float64), 149)]  # whole, whatever float32 holds
        divisible = bool(exact) and all(x % (3 << (exponent + 149)) == 0 for x in exact)
        assert common_step(rows) == (exponent, 3 if divisible else 1)


@pytest.mark.parametrize("spread", [1.0, 1.5, 3.0, 40.0])
def test_entropy_coding_is_near_the_highest_level(spread: float) -> None:
    rng = np.random.default_rng(0)
    raw = np.rint(rng.standard_normal(1 << 17) * spread * rng.uniform(0.3, 1, (1 << 17))).astype(np.int8).tobytes()
    frame = entropy_coded(raw)
    assert zstandard.ZstdDecompressor().decompress(frame) == raw
    assert len(frame) <= 1.02 * len(compressed(raw, 19))
