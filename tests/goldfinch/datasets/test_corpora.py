"""Where the corpora are found."""

from __future__ import annotations

import pytest

from goldfinch.datasets.corpora import data_directory
from goldfinch.errors import GoldFinchError


def test_missing_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GF_DATA_DIR", raising=False)
    with pytest.raises(GoldFinchError, match="no training data"):
        data_directory()
    with pytest.raises(GoldFinchError, match="does not exist"):
        data_directory("/no/such/folder")
