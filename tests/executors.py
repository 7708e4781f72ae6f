"""One model through several executors."""

from __future__ import annotations

from functools import partial

import pytest

from goldfinch.backends.choose import choose_executor
from goldfinch.models.language_model import LanguageModel


def run_with(backend: str, model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """The model with its layers and the ops in them run by `backend`."""
    monkeypatch.setenv("GF_KERNELS", backend)
    model.choose_executor(partial(choose_executor, requested=backend))
    return model
