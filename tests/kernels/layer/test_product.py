"""The matrix product in C, of numpy's rows: any shape and strides, the same bits however rows are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gfkernels.layer.product import added_times, product, times
from gfkernels.native import call
from gfkernels.native.build import unavailable

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
SHAPES = [(1, 1, 1), (2, 3, 5), (7, 64, 31), (13, 33, 32), (5, 0, 4), (0, 4, 4), (97, 160, 33), (203, 48, 64)]


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(found: Any, a: Any, b: Any) -> None:
    expected, most = a.astype(np.float64) @ b.astype(np.float64), np.abs(a).astype(np.float64) @ np.abs(b)
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= 1e-6 * most + 1e-12).all()


@pytest.mark.parametrize(("T", "K", "N"), SHAPES)
def test_it_is_the_product(T: int, K: int, N: int) -> None:
    x, matrix, wide = numbers(T, K), numbers(K, N, seed=1), numbers(T, K + 9, seed=2)
    close(times(x, matrix), x, matrix)
    close(times(x, np.ascontiguousarray(matrix.T).T), x, matrix)
    close(times(wide[:, 3 : 3 + K], matrix), wide[:, 3 : 3 + K], matrix)  # rows that lie apart
    close(times(x, numbers(K, 2 * N, seed=3)[:, ::2]), x, numbers(K, 2 * N, seed=3)[:, ::2])
    close(product(x[None], np.ascontiguousarray(matrix.T))[0], x, matrix)
    assert np.array_equal(added_times(numbers(T, N), x, matrix), numbers(T, N) + times(x, matrix))


def test_groups() -> None:
    x, matrices = numbers(9, 3, 8).swapaxes(0, 1), numbers(3, 8, 5, seed=1)
    found = times(x, matrices)
    for one, other, mine in zip(x, matrices, found, strict=True):
        close(mine, one, other)


def test_the_bits_do_not_depend_on_how_rows_are_cut_nor_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, matrix = numbers(300, 96), numbers(96, 70, seed=1)
    whole = times(x, matrix)
    for count in (1, 2, 5, 12, 97, 150):
        parts = [times(x[at : at + count], matrix) for at in range(0, 300, count)]
        assert np.array_equal(np.concatenate(parts), whole)
    for threads in (2, 3):
        monkeypatch.setattr(call, "threads", lambda threads=threads: threads)
        assert np.array_equal(times(x, matrix), whole)


def test_rows_of_torch_stay_with_torch() -> None:
    x, matrix = (torch.from_numpy(numbers(*shape)) for shape in ((4, 6), (6, 3)))
    with torch.no_grad():
        assert torch.equal(times(x, matrix), x @ matrix)
        assert torch.equal(product(x, matrix.T), torch.nn.functional.linear(x, matrix.T))
