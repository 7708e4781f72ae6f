"""Methods by name, and which models can follow them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gfcache import Coding

from goldfinch.compare.methods import CODEC, DROPPING, FULL, READING, STANDARD, method_of, methods_of
from goldfinch.engine.goldfinch import GoldFinchEngine
from goldfinch.errors import GoldFinchError
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets
from goldfinch.policies.dropping.named import DROPPERS, Dropping


def test_the_full_cache_is_always_the_first() -> None:
    assert [one.name for one in methods_of(["int8", "h2o-0.25", "int8"])] == [FULL, "int8", "h2o-0.25"]
    assert [one.name for one in methods_of(["all"])] == list(STANDARD)
    assert {one.family for one in methods_of([READING])} == {FULL, READING}


def test_the_standard_ones_are_named_as_their_parts() -> None:
    """Each is what its name says, so that a name in a report can be given again."""
    for name, method in STANDARD.items():
        assert method_of(name) == method
        assert method.paper
    assert {one.form.dropping.policy for one in STANDARD.values() if one.form.dropping} == set(DROPPERS)
    assert all(one.in_a_file in STANDARD for one in STANDARD.values())
    assert len({one.settings for one in STANDARD.values()}) == len(STANDARD)


def test_others_by_their_parts() -> None:
    assert method_of("step2.5+bf16").form.coding == Coding("step2.5", "bf16")
    assert method_of("raw+int8").form.coding == Coding("raw", "int8")
    assert method_of("snapkv-.3").form.dropping == Dropping("snapkv", 0.3)
    assert method_of("h2o-0.1@question").in_a_file == "h2o-0.1"
    assert method_of("kivi2@question").form == method_of("kivi2").form
    assert method_of("kivi2@question").settings != method_of("kivi2").settings
    assert method_of("read-lexical-3").read_blocks == 3
    assert [method_of(n).family for n in ("int4", "random-0.9", "read-attention-2")] == [CODEC, DROPPING, READING]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "raw",
        "h2o",
        "h2o-0",
        "h2o-1.5",
        "h2o-0.2x",
        "read-lexical-0",
        "read-nobody",
        "int8+kivi4",
        "zstd",
        "random-0.5@question",
        "int8@question",
    ],
)
def test_what_is_no_method(name: str) -> None:
    with pytest.raises(GoldFinchError, match="a method is"):
        method_of(name)


@pytest.fixture(scope="module")
def engines(tiny_tokenizer: Path) -> dict[str, GoldFinchEngine]:
    torch.manual_seed(0)
    kinds = ("goldfinch", "llama", "finch")
    return {kind: GoldFinchEngine(LanguageModel(presets()[f"{kind}-tiny"])) for kind in kinds}


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("goldfinch", "int8", None), ("goldfinch", "h2o-0.5", None), ("goldfinch", "kivi4", None),
        ("llama", "int8", None), ("llama", "kivi2", None), ("llama", "h2o-0.5", None), ("llama", "expected-0.5", "rotates its keys"), ("finch", "h2o-0.5", "no attention layers"),
        ("finch", "int8", "keeps a state and no rows"), ("finch", "raw+int8", None),
        ("finch", "read-lexical", "no attention layers"), ("goldfinch", "read-lexical", "no tokenizer"),
    ],
)  # fmt: skip
def test_who_can_follow(kind: str, name: str, reason: str | None, engines: dict[str, GoldFinchEngine]) -> None:
    found = method_of(name).obstacle(engines[kind])
    assert found is None if reason is None else reason in (found or "")
