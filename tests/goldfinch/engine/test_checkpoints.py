"""Going on from a checkpoint equals a cold run bit for bit, and takes over what it promises."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from goldfinch import load_model, open_cache, prefill
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.engine.checkpoints import (
    AUTO_SHARE,
    MOST_CHECKPOINTS,
    checkpoint_bytes,
    plan_checkpoints,
    reusable_tokens,
)
from goldfinch.errors import GoldFinchError
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets
from tests.conftest import golden_folders
from tests.goldfinch.states import assert_equal_caches, document

RECURRENT = [name for name in sorted(golden_folders()) if "llama" not in name and "gptalpha" not in name]


def saved(cache: DocumentCache, path: Path, model: LanguageModel) -> DocumentCache:
    cache.save(path)
    return open_cache(path, model)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_changed_end_is_computed_from_the_checkpoint(
    name: str, imported: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load_model(imported(name))
    tokens = document(model, 1800)
    base = saved(prefill(model, tokens, checkpoints=[512, 1024, 1536]), tmp_path / "a.gfc", model)
    assert [c.position for c in base.checkpoints] == [512, 1024, 1536]
    changes = {1300: 1024, 1536: 1536, 1799: 1536, 511: 0, 512: 512, 0: 0}
    for first_changed, expected in changes.items():
        edited = tokens.clone()
        edited[0, first_changed:] = (edited[0, first_changed:] + 1) % model.config.vocab_size
        assert reusable_tokens(base, edited[0].numpy()) == expected
        update = prefill(model, edited, base=base, checkpoints=[1024])
        cold = prefill(model, edited, checkpoints=[1024])
        assert_equal_caches(update, cold)
        assert [c.position for c in update.checkpoints] == [1024]


def test_grown_and_shortened_documents(imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    tokens = document(model, 3000)
    base = saved(prefill(model, tokens[:, :1536], checkpoints=[512]), tmp_path / "a.gfc", model)
    assert (
        reusable_tokens(base, tokens[0].numpy()) == 1536
    )  # the end of a document at a block boundary is a checkpoint too
    assert_equal_caches(prefill(model, tokens, base=base), prefill(model, tokens))
    for length in (512, 700, 1536):
        assert_equal_caches(prefill(model, tokens[:, :length], base=base), prefill(model, tokens[:, :length]))


def test_what_is_taken_over_is_not_computed(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    tokens = document(model, 1800)
    base = prefill(model, tokens, checkpoints=[1536])
    seen: list[int] = []
    prefill(model, tokens, base=base, progress=lambda done, _: seen.append(done))
    assert seen == [1800]


def test_planned_positions() -> None:
    config = presets()["goldfinch-12x768"]
    assert plan_checkpoints(config, 100_000, "none") == []
    assert plan_checkpoints(config, 5000, "1000") == [1024, 2048, 3072, 4096]
    assert plan_checkpoints(config, 512, "512") == []
    assert plan_checkpoints(presets()["llama-12x768"], 100_000, "auto") == []
    positions = plan_checkpoints(config, 100_000, "auto")
    assert positions
    assert positions[-1] == 99_840
    gaps = [b - a for a, b in pairwise(positions)]
    assert gaps == sorted(gaps, reverse=True)  # densest near the end
    per_token = 100_000 * (2 + 4 * config.d_compressed)
    assert len(positions) * checkpoint_bytes(config) <= AUTO_SHARE * per_token
    for bad in ("many", "0", "-5"):
        with pytest.raises(GoldFinchError, match="allowed"):
            plan_checkpoints(config, 1000, bad)


def test_no_more_checkpoints_than_a_header_holds() -> None:
    from gfcache import Header, Section, layout

    config, most = presets()["goldfinch-tiny"], MOST_CHECKPOINTS
    assert len(plan_checkpoints(config, 512 * most + 1, "512")) == most
    with pytest.raises(GoldFinchError, match=r"12,001 checkpoints .* allowed: 12,000") as caught:
        plan_checkpoints(config, 512 * (most + 1) + 1, "512")
    assert "one every 513 tokens" in str(caught.value.hint)
    far = 1 << 40  # the most tokens that a file may have
    row = Section(f"channel_shift_state@{far}", layout.CHANNEL_SHIFT_STATE, "bf16", (100, 10_000), "raw", "prefill",
                  True, far, 2_000_000, 2_000_000, "a" * 64, position=far)  # fmt: skip
    one, two = (len(Header(far, {}, {}, {}, {}, "", "", sections=(row,) * n).to_json()) for n in (1, 2))
    assert 4 * most * (two - one) < 0.99 * layout.MAX_HEADER_BYTES


def test_checkpoint_bytes_are_those_of_the_file(imported: Callable[[str], Path], tmp_path: Path) -> None:
    import gfcache

    model = load_model(imported("goldfinch_ratio2"))
    prefill(model, document(model, 600), checkpoints=[512]).save(tmp_path / "a.gfc")
    rows = [s for s in gfcache.inspect_cache(tmp_path / "a.gfc")["sections"] if s["name"].endswith("@512")]
    assert sum(s["raw_bytes"] for s in rows) == checkpoint_bytes(model.config)


def test_positions_off_the_blocks_are_a_mistake(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    for position in (0, 100, 1024):
        with pytest.raises(ValueError, match="multiples of 512"):
            prefill(model, torch.zeros(1, 1024, dtype=torch.int64), checkpoints=[position])


def test_a_cache_opened_in_another_dtype_is_written_in_that(imported: Callable[[str], Path], tmp_path: Path) -> None:
    import gfcache

    models = [load_model(imported("goldfinch_ratio2"), dtype=dtype) for dtype in (torch.float32, torch.float64)]
    prefill(models[0], document(models[0], 600)).save(tmp_path / "a.gfc")
    open_cache(tmp_path / "a.gfc", models[1]).save(tmp_path / "b.gfc")
    assert gfcache.verify_cache(tmp_path / "b.gfc", complete=True).compute_dtype == "f64"
