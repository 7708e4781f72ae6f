"""The embedded model, and prose to hide things in."""

from __future__ import annotations

import pytest

import goldfinch

PROSE = "The river ran past the mill. Nobody lived there any more. In spring the water rose to the door. " * 60


@pytest.fixture(scope="module")
def mini():
    return goldfinch.load_model()
