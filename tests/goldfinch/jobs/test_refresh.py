"""Caches made anew in Python: stale ones, bases first, what cannot be renewed as library errors."""

from __future__ import annotations

from pathlib import Path

import gfcache
import pytest

import goldfinch
from goldfinch.errors import SourceGone
from goldfinch.jobs.batch import Batch
from goldfinch.jobs.destinations import Plan
from goldfinch.jobs.events import Failed, Planned, Written
from goldfinch.jobs.refresh import Refresh
from goldfinch.jobs.sources import find_sources
from goldfinch.library.freshness import FRESH, cache_state
from tests.conftest import SAMPLES

TEXT = (SAMPLES / "four-freedoms-1941.txt").read_text()


@pytest.fixture
def caches(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A base, a chapter that continues it, and a document of its own; the model is found by its fingerprint."""
    monkeypatch.setenv("GF_MODELS_DIR", str(tiny_model.parent))
    for name, text in (("base", TEXT[:2600]), ("chapter", TEXT[2600:3300]), ("alone", TEXT[:900])):
        (tmp_path / f"{name}.txt").write_text(text)
    model = goldfinch.load_model(tiny_model)
    sources = {name: find_sources([str(tmp_path / f"{name}.txt")]).documents for name in ("base", "chapter", "alone")}
    list(Batch(model, Plan(checkpoints="512")).events(sources["base"] + sources["alone"]))
    base = goldfinch.open_cache(tmp_path / "base.gfc", model)
    assert [type(e) for e in Batch(model, base=base).events(sources["chapter"])][1:] == [Written]
    return [tmp_path / f"{name}.gfc" for name in ("alone", "chapter", "base")]


def test_a_base_comes_before_what_continues_it(caches: list[Path], tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text(TEXT[:2500])
    planned = list(Refresh(dry_run=True).events(caches))
    assert [(type(e), e.path.stem) for e in planned if isinstance(e, Planned)] == [
        (Planned, "base"), (Planned, "chapter"),
    ]  # fmt: skip
    written = [event for event in Refresh().events(caches) if isinstance(event, Written)]
    assert [event.report.path.stem for event in written] == ["base", "chapter"]
    assert written[0].report.tokens_reused >= 512
    assert [cache_state(path)["state"] for path in caches] == [FRESH] * 3
    spaced = list(range(512, written[0].report.tokens, 512))  # as it was made
    assert gfcache.inspect_cache(tmp_path / "base.gfc")["checkpoints"] == spaced
    assert list(Refresh().events(caches)) == []


def test_what_cannot_be_renewed_fails_alone(caches: list[Path], tmp_path: Path) -> None:
    (tmp_path / "alone.txt").unlink()
    (tmp_path / "base.txt").write_text(TEXT[:2500])
    events = list(Refresh().events(caches))
    failed = [event for event in events if isinstance(event, Failed)]
    assert [event.path for event in failed] == [tmp_path / "alone.gfc"]
    assert isinstance(failed[0].error, SourceGone)
    assert failed[0].error.source == str(tmp_path / "alone.txt")
    assert sum(isinstance(event, Written) for event in events) == 2
