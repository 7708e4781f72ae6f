"""Batches made beforehand: the same ones, in small files, refused where they do not belong."""

from __future__ import annotations

import json
import lzma
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gfcache import CacheWriteError
from safetensors.numpy import save

from gfcli.app import run
from goldfinch import load_model
from goldfinch.errors import ConfigError, CorpusMissing, GoldFinchError
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.train import shards
from goldfinch.train.data import TrainingData
from goldfinch.train.recipe import Recipe
from goldfinch.train.shards import ShardReader, shard_ranges
from goldfinch.train.trainer import TEMPLATE, make_shards, train
from tests.conftest import SAMPLES
from tests.endless import KINDS, guarded, put

from .records import write_records
from .test_command import RECIPE

# Of the toy recipe: one of its steps fills a shard.
SMALL = 3 * 2 * 150


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_hold_the_batches(
    workers: int, recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_BYTES", 2 * SMALL)
    recipe = replace(recipe, packed=True)
    tokenizer = read_tokenizer(Path(recipe.tokenizer))
    files = list(make_shards(recipe, corpora, tmp_path, workers=workers))
    ranges = list(shard_ranges(recipe, tokenizer.vocab_size))
    assert len(files) == len(ranges) > 3
    assert [step for first, last in ranges for step in range(first, last)] == list(range(recipe.total_steps))
    assert all(len(lzma.decompress(file.read_bytes())) < 2 * SMALL + 600 for file in files)
    data, reader = TrainingData(corpora, recipe, tokenizer, TEMPLATE), ShardReader(tmp_path, recipe, tokenizer)
    for step in (0, 7, 3, 4, 1):
        for made, read in zip(data.batch(step), reader.batch(step), strict=True):
            assert made.dtype == read.dtype
            assert torch.equal(made, read)


def test_a_run_on_shards_ends_with_the_same_weights(
    recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the shards arrive, and without the corpora and the tokenizer's file."""
    monkeypatch.setattr(shards, "MAX_BYTES", 2 * SMALL)
    whole = train(recipe, corpora, tmp_path / "whole", compile_model=False)
    there, here = tmp_path / "all", tmp_path / "some"
    files = list(make_shards(recipe, corpora, there))
    here.mkdir()
    elsewhere = replace(recipe, tokenizer=str(Path("/no/such") / Path(recipe.tokenizer).name))
    with pytest.raises(CorpusMissing, match="tokenizer"):
        train(elsewhere, None, tmp_path / "run", shards=here, compile_model=False)
    (there / Path(recipe.tokenizer).name).rename(here / Path(recipe.tokenizer).name)
    with pytest.raises(CorpusMissing, match=files[0].name):
        train(elsewhere, None, tmp_path / "run", shards=here, compile_model=False)
    for brought in (files[:2], files[2:3], files[3:]):
        for file in brought:
            file.rename(here / file.name)
        made = train(elsewhere, None, tmp_path / "run", shards=here, compile_model=False)
        assert made.name == ("toy" if brought[-1] is files[-1] else "checkpoint.pt")
    assert load_model(made).card.model_fingerprint == load_model(whole).card.model_fingerprint


def test_other_and_damaged_shards_are_refused(
    recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = make_shards(recipe, corpora, tmp_path)
    tokenizer = read_tokenizer(Path(recipe.tokenizer))
    wider = replace(recipe, model=replace(recipe.model, d_ffn=128), learning_rate=1e-3)
    assert ShardReader(tmp_path, wider, tokenizer).batch(0)  # other models share them
    for other in (replace(recipe, seed=2), replace(recipe, answer_weight=2.0)):
        with pytest.raises(GoldFinchError, match="another recipe"):
            ShardReader(tmp_path, other, tokenizer).batch(0)
        with pytest.raises(GoldFinchError, match="another recipe"):
            list(make_shards(other, corpora, tmp_path))
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    monkeypatch.setattr(shards, "MAX_BYTES", 2 * SMALL)
    first, second, *_ = make_shards(recipe, corpora, swapped)
    second.write_bytes(first.read_bytes())  # the same recipe, other steps
    with pytest.raises(GoldFinchError, match="another recipe"):
        ShardReader(swapped, recipe, tokenizer).batch(int(second.name.split("-")[1]))
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="no batches"):
        list(make_shards(replace(recipe, stages=(), start=("x",)), corpora, tmp_path))
    content = file.read_bytes()
    short = save({"ids": np.zeros(8, np.uint16), "weights": np.zeros(7, np.uint8)}, _metadata(content))
    for damaged in (
        content[:-40],
        b"",
        content[:200] + b"\0\0\0" + content[203:],
        lzma.compress(b"\7" * 90),
        lzma.compress(b"\0" * 10**8),
        lzma.compress(short),
        lzma.compress(save({"ids": np.zeros(8, np.uint16)}, _metadata(content))),
    ):
        file.write_bytes(damaged)
        with pytest.raises(GoldFinchError, match="damaged"):
            ShardReader(tmp_path, recipe, tokenizer).batch(0)


def _metadata(content: bytes) -> dict[str, str]:
    plain = lzma.decompress(content)
    found: dict[str, str] = json.loads(plain[8 : 8 + int.from_bytes(plain[:8], "little")])["__metadata__"]
    return found


def test_nothing_is_mixed_or_replaced(recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch) -> None:
    """Neither shards of other corpora nor another tokenizer; a write that fails leaves no file."""
    folder = tmp_path / "shards"
    (file,) = make_shards(recipe, corpora, folder)
    other = tmp_path / "other"
    shutil.copytree(corpora, other)
    text = (SAMPLES / "treasure-island-ch1-3.txt").read_text().replace("e", "i")
    for name in recipe.corpora:
        write_records(other / f"{name}.jsonl.zst", [{"title": "b", "text": text}])
    with pytest.raises(GoldFinchError, match="other recipe, tokenizer, data"):
        list(make_shards(recipe, other, folder))
    place = folder / Path(recipe.tokenizer).name
    place.write_text("another")
    with pytest.raises(GoldFinchError, match="is another tokenizer"):
        list(make_shards(recipe, corpora, folder))
    assert place.read_text() == "another"
    place.unlink()
    file.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(CacheWriteError, match="No space"):
        list(make_shards(recipe, corpora, folder))
    assert list(folder.iterdir()) == []


def test_a_shard_that_is_damaged_costs_no_step(
    recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_BYTES", 2 * SMALL)
    files = list(make_shards(recipe, corpora, tmp_path / "shards"))
    content = files[1].read_bytes()
    files[1].write_bytes(content[:-9])
    with pytest.raises(GoldFinchError, match="damaged"):
        train(recipe, None, tmp_path / "run", shards=tmp_path / "shards", compile_model=False)
    first = int(files[1].name.split("-")[1])
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == first
    files[1].write_bytes(content)
    made = train(recipe, None, tmp_path / "run", shards=tmp_path / "shards", compile_model=False)
    whole = train(recipe, corpora, tmp_path / "whole", compile_model=False)
    assert load_model(made).card.model_fingerprint == load_model(whole).card.model_fingerprint


def test_writing_goes_on_where_it_was_cut(
    recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_BYTES", 2 * SMALL)
    writing = make_shards(recipe, corpora, tmp_path)
    first = next(writing)
    written = first.stat().st_mtime_ns
    writing.close()
    files = list(make_shards(recipe, corpora, tmp_path))
    assert first.stat().st_mtime_ns == written
    assert sorted(path.name for path in tmp_path.glob("steps-*")) == [file.name for file in files]


def test_the_command(
    corpora: Path, tiny_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.delenv("GF_DATA_DIR", raising=False)
    recipe, folder, out = tmp_path / "toy.toml", tmp_path / "shards", tmp_path / "run"
    recipe.write_text(RECIPE.format(tokenizer=tiny_tokenizer, more='evaluation = ["facts"]\nmax_shard_bytes = 100_000'))
    assert run(["train", str(recipe), "-o", str(folder), "--write-shards"]) == 2
    assert "no training data" in capsys.readouterr().err
    assert run(["train", str(recipe), "-o", str(folder), "--write-shards", "--data", str(corpora)]) == 0
    output = capsys.readouterr()
    assert output.out.strip() == str(folder)
    assert "wrote" in output.err
    command = ["train", str(recipe), "-o", str(out), "--shards", str(folder), "--no-compile"]
    assert run(command) == 0
    output = capsys.readouterr()
    assert "not evaluated" in output.err
    model = Path(output.out.strip())
    assert max(file.stat().st_size for file in model.glob("model-*.safetensors")) < 110_000
    assert run(["model", "verify", str(model)]) == 0
    assert run([*command, "--write-shards"]) == 2
    assert run(["train", str(recipe), "-o", str(folder), "--write-shards", "--steps", "1"]) == 2
    assert run(["train", str(recipe), "-o", str(out), "--shards", str(tmp_path / "none")]) == 4
    next(folder.glob("steps-*")).unlink()
    assert run(["train", str(recipe), "-o", str(tmp_path / "new"), "--shards", str(folder), "--no-compile"]) == 4
    assert "copy it there" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [*KINDS, "sparse"])
def test_what_never_ends_is_no_shard(kind: str, recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    (file,) = make_shards(recipe, corpora, tmp_path)
    if kind == "sparse":
        os.truncate(file, 1 << 42)
    else:
        put(file, kind)
    reader = ShardReader(tmp_path, recipe, read_tokenizer(Path(recipe.tokenizer)))
    with guarded(), pytest.raises(GoldFinchError, match="damaged"):
        reader.batch(0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_never_ends_is_no_tokenizer_beside_shards(
    kind: str, recipe: Recipe, corpora: Path, tmp_path: Path
) -> None:
    put(tmp_path / "tokenizer.json", kind)
    with guarded(), pytest.raises(OSError, match="expected a regular file"):
        list(make_shards(recipe, corpora, tmp_path))


def test_nothing_is_written_through_links(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "shards", tmp_path / "elsewhere"
    (file,) = make_shards(recipe, corpora, folder)
    for name in (file.name, "tokenizer.json"):
        (folder / name).unlink()
        (folder / name).symlink_to(elsewhere)
    list(make_shards(recipe, corpora, folder))
    assert not elsewhere.exists()
    assert not file.is_symlink()
