"""Renewing caches: by their own model, with the positions asked for, whatever they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import gfcache
import pytest

from gfcli.app import run
from tests.gfcli.commands.three_caches import TEXT


@pytest.mark.usefixtures("named_model")
def test_only_the_model_that_made_a_cache_renews_it(folder: Path, tiny_model: Path, capsys, monkeypatch) -> None:
    """One that shares the layers of prefill may answer from it, but must not put its own name on it."""
    from goldfinch.weights.directory import read_card
    from goldfinch.weights.files import read_weights
    from goldfinch.weights.writing import write_model_directory

    card = read_card(tiny_model)
    weights = read_weights(tiny_model / "model.safetensors")
    tuned = weights | {"head.weight": weights["head.weight"] + 0.1}
    write_model_directory(folder / "tuned", "tuned", card.config, tuned, card.template, tiny_model / "tokenizer.json")
    (folder / "t.txt").write_text(TEXT[:900])
    assert run(["prefill", "t.txt", "-m", "./tuned", "-q"]) == 0
    before = (folder / "t.gfc").read_bytes()
    (folder / "t.txt").write_text(TEXT[:1000])
    capsys.readouterr()
    assert run(["refresh", "t.gfc"]) == 3
    err = capsys.readouterr().err
    assert "GF_MODELS_DIR" in err
    assert "-m" not in err
    assert (folder / "t.gfc").read_bytes() == before
    assert run(["ask", "--cache", "t.gfc", "-n", "2", "What?"]) == 0
    assert "shares only the prefill layers" in capsys.readouterr().err
    monkeypatch.setenv("GF_MODELS_DIR", str(folder))
    assert run(["refresh", "t.gfc"]) == 0


def test_a_cache_that_does_not_name_its_dtype_is_refreshed(folder: Path) -> None:
    from tests.cache_format.craft import craft

    craft(folder / "b.gfc", folder / "b.gfc", numerics={})
    (folder / "b.txt").write_text(TEXT[:2600])
    assert run(["refresh", "b.gfc"]) == 0


def test_positions_asked_for_are_made_beside_a_cache_that_lacks_them(folder: Path, capsys) -> None:
    """From what the old file holds before the first of them; with auto, any of its positions will do."""

    def prefill(*arguments: str) -> dict[str, object]:
        assert run(["prefill", "a.txt", "-m", "tiny", "--jsonl", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    cold = [512 * n for n in range(1, 7)]
    for name, spacing, expected in (
        ("some", "1024", cold[1::2]), ("all", "512", cold), ("none", "none", []), ("again", "512", cold),
    ):  # fmt: skip
        report = prefill("--checkpoints", spacing)
        assert (report["status"], gfcache.inspect_cache("a.gfc")["checkpoints"]) == ("ok", expected), name
        assert prefill("--checkpoints", spacing)["status"] == "fresh"
    (folder / "cold").mkdir()
    assert run(["prefill", "a.txt", "-m", "tiny", "-q", "--checkpoints", "512", "-o", "cold/"]) == 0
    assert run(["diff", "a.gfc", "cold/a.gfc"]) == 0
    capsys.readouterr()
    assert prefill("--checkpoints", "auto")["status"] == "ok"  # more than auto allows
    assert prefill("--checkpoints", "1024")["status"] == "ok"
    assert prefill("--checkpoints", "2048")["tokens_reused"] == 3072  # all that are asked for stand in the file
    (folder / "a.txt").write_text(TEXT[:6000])
    assert prefill("--checkpoints", "auto")["tokens_reused"] == 2048
    assert prefill("--checkpoints", "auto")["status"] == "fresh"
