"""The speed of this machine, as plans use it."""

from __future__ import annotations

import pytest

from goldfinch.measure.profile import MachineProfile


def test_profiles_predict_linear_time() -> None:
    assert MachineProfile(1000.0, 0.5).seconds(2000) == pytest.approx(2.5)
