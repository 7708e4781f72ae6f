"""What arithmetic made a cache: its form in headers, and which differences count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import goldfinch
from goldfinch.caching.numerics import Numerics, check_parent_dtype, file_dtype, numerics_difference, numerics_of
from goldfinch.errors import CacheMismatch

HEADERS: list[dict[str, Any]] = [
    {"device": "cpu", "compute_dtype": "f32", "backend": "native", "threads": 2, "library": "torch 2.0"},
    {"device": "cuda", "compute_dtype": "bf16", "backend": "triton packed", "threads": None, "library": "torch 2.0"},
]


@pytest.mark.parametrize("values", HEADERS)
def test_the_form_of_headers_comes_back_as_it_was(values: dict[str, Any]) -> None:
    numerics = Numerics.from_dict(values)
    assert numerics.packed == (values["backend"] == "triton packed")
    assert numerics.backend in ("native", "triton")
    assert list(numerics.to_dict().items()) == list(values.items())


def test_a_header_may_tell_nothing_and_unknown_things() -> None:
    assert Numerics.from_dict({"colour": "gold"}) == Numerics()
    assert Numerics().to_dict() == dict.fromkeys(HEADERS[0])


def test_differences_that_change_bits(tiny_model: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    own = numerics_of(model)
    assert numerics_difference(own, model) is None
    assert numerics_difference(replace(own, library="torch 0"), model) is None
    assert numerics_difference(replace(own, threads=99), model) == ("threads", "99", str(own.threads))
    packed = replace(own, packed=True)
    assert numerics_difference(packed, model) == ("backend", f"{own.backend} packed", own.backend)
    assert numerics_difference(packed, model, packing=False) is None
    strange = replace(packed, backend="triton")
    assert numerics_difference(strange, model, packing=False) == ("backend", "triton packed", own.backend)


def test_a_parent_continues_in_its_own_dtype() -> None:
    check_parent_dtype(Numerics(compute_dtype="f32"), "f32")
    with pytest.raises(CacheMismatch, match="bf16"):
        check_parent_dtype(Numerics(compute_dtype="f32"), "bf16")


def test_names_of_dtypes() -> None:
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    assert [file_dtype(dtype) for dtype in dtypes] == ["f64", "f32", "f16", "bf16"]
