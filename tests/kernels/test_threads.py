"""How waiting threads wait is set before torch's OpenMP runtime reads it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from gfkernels import threads


def seen(code: str, **variables: str) -> str:
    """What the runtime says that it has read, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"} | variables, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("another OpenMP runtime")
    return done.stderr


@pytest.mark.parametrize(
    "code", ["import goldfinch.models.language_model", "import gfkernels.layer.native", "import gfkernels, torch"]
)
def test_whoever_loads_torch_spins_briefly(code: str) -> None:
    assert f"GOMP_SPINCOUNT = '{threads.SPIN_COUNT}'" in seen(code)


@pytest.mark.slow
def test_the_users_choice_stands() -> None:
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in seen("import goldfinch.models.language_model", OMP_WAIT_POLICY="PASSIVE")
    assert "GOMP_SPINCOUNT = '7'" in seen("import goldfinch.models.language_model", GOMP_SPINCOUNT="7")
    assert f"'{threads.SPIN_COUNT}'" not in seen("import goldfinch.models.language_model", OMP_WAIT_POLICY="ACTIVE")


def test_nothing_is_handed_down_that_had_no_effect() -> None:
    code = "import torch, goldfinch.models.language_model, os; assert not {'GOMP_SPINCOUNT', 'OMP_WAIT_POLICY'} & set(os.environ)"
    assert str(threads.SPIN_COUNT) not in seen(code)


def test_the_tests_themselves() -> None:
    assert set(threads.VARIABLES) & set(os.environ)
