"""The run folder of gf train: nothing in it is lost that training did not write, and one run writes it at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import gfcache
import pytest
import torch
from gfcache import CacheLocked, output_lock
from gfcache.files.locks import sweep
from safetensors.torch import load_file, save_file

from goldfinch import load_model
from goldfinch.errors import CheckpointError, ConfigError, CorpusDamaged, DeviceError, GoldFinchError, ModelChanged
from goldfinch.train.curve import draw_loss_curve
from goldfinch.train.log import append_entry, log_lines
from goldfinch.train.recipe import Recipe
from goldfinch.train.trainer import train
from goldfinch.weights.writing import init_model
from tests.full_disk import files_of_at_most


def test_a_folder_that_is_no_model_is_not_replaced(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "toy" / "thesis.txt"
    thesis.parent.mkdir()
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=1)  # an empty folder is nobody's
    thesis.write_text("four years")
    with pytest.raises(CheckpointError, match=r"thesis.txt"):
        train(recipe, corpora, tmp_path, compile_model=False)
    thesis.unlink()
    # What is put there while a run is under way.
    with pytest.raises(CheckpointError, match=r"thesis.txt"):
        train(recipe, corpora, tmp_path, compile_model=False, report=lambda entry: thesis.write_text("four years"))
    assert thesis.read_text() == "four years"
    thesis.unlink()
    train(recipe, corpora, tmp_path, compile_model=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "log.jsonl", "toy"]
    for name in ("file", "link"):
        path = tmp_path / name
        path.write_text("text") if name == "file" else path.symlink_to("nowhere")
        with pytest.raises(CheckpointError, match="not a folder"):
            train(replace(recipe, name=name), corpora, tmp_path, compile_model=False)


def test_what_a_killed_save_left_is_put_back_or_removed(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=1)
    model, kept = tmp_path / "toy", tmp_path / ".toy.my-notes"
    kept.mkdir()
    before = load_model(model).card.model_fingerprint
    for has_lock in (True, True, False):  # without: its disk failed, and it could not be put back
        model.rename(tmp_path / ".toy.gf-12-abcd_123.old")  # killed between the two renames
        (tmp_path / ".toy.gf-12-abcd_123.tmp").mkdir()
        if has_lock:
            (tmp_path / ".toy.lock").touch()
        sweep(model)
        assert load_model(model).card.model_fingerprint == before
        assert sorted(p.name for p in tmp_path.iterdir()) == [".toy.my-notes", "checkpoint.pt", "log.jsonl", "toy"]
    shutil.copytree(model, tmp_path / ".toy.gf-12-abcd_124.old")  # after them the disk failed
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".toy.my-notes", "checkpoint.pt", "log.jsonl", "toy"]


def test_a_recipe_without_a_stage_leaves_the_checkpoint_of_another_run(
    recipe: Recipe, corpora: Path, tmp_path: Path
) -> None:
    model = train(recipe, corpora, tmp_path / "run", compile_model=False)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    mean = replace(recipe, start=(str(model),), stages=())
    with pytest.raises(CheckpointError, match="another recipe"):
        train(mean, corpora, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    for _ in range(2):
        train(mean, corpora, tmp_path / "mean")
    assert [p.name for p in (tmp_path / "mean").iterdir()] == ["toy"]


def test_one_run_at_a_time(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    import threading

    refused: list[BaseException] = []

    def second() -> None:
        try:
            train(recipe, corpora, tmp_path, compile_model=False)
        except CacheLocked as error:
            refused.append(error)

    with output_lock(tmp_path / "checkpoint.pt"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert list(tmp_path.iterdir()) == []


def test_steps_after_the_last_save_are_logged_once(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=3)
    log = tmp_path / "log.jsonl"
    with open(log, "a") as stream:  # what a run logs before it is killed; a line that two wrote
        stream.write('{"step": 5}\n{"step": 6, "lo{"step": 6}\n\0\n{"step": 6, "lo')
    train(recipe, corpora, tmp_path, compile_model=False)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [3, 8]
    (tmp_path / "checkpoint.pt").unlink()  # from the start
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=2)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [2]


def test_a_damaged_checkpoint_is_named(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=1)
    path = tmp_path / "checkpoint.pt"
    data = path.read_bytes()
    foreign = tmp_path / "foreign.pt"
    torch.save(torch.zeros(2), foreign)
    for damaged in (data[: len(data) // 2], b"", b"X", b"a", foreign.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            train(recipe, corpora, tmp_path, compile_model=False)
        assert path.read_bytes() == damaged


def test_a_missing_gpu_is_named_before_anything_is_read(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cuda:7"):
        train(recipe, tmp_path / "no", tmp_path / "run", device="cuda:7")
    assert not (tmp_path / "run").exists()


def test_an_interrupted_replacement_leaves_the_old_model(
    recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    model = train(recipe, corpora, tmp_path, compile_model=False, stop_after=1).with_name("toy")
    before = load_model(model).card.model_fingerprint
    rename = os.replace

    def failing(source: Path, target: Path) -> None:
        if Path(target) == model and not str(source).endswith(".old"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(gfcache.CacheWriteError, match=r"cannot write these .* bytes: Input/output"):
        train(recipe, corpora, tmp_path, compile_model=False)
    assert load_model(model).card.model_fingerprint == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_full_disk_is_said_with_the_path_and_the_bytes_needed(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    """torch.save made a RuntimeError of it, the library of weights an error of its own: a bug of ours, as it looked."""
    with files_of_at_most(20_000):
        with pytest.raises(
            gfcache.CacheWriteError, match=r"checkpoint.pt: cannot write these [\d,]{7,} bytes: File too"
        ):
            train(recipe, corpora, tmp_path / "run", compile_model=False, stop_after=1)
        with pytest.raises(gfcache.CacheWriteError, match=r"m: cannot write these [\d,]{7,} bytes: File too large"):
            init_model("goldfinch-tiny", 1, tmp_path / "m")
    assert not [path for path in tmp_path.rglob(".*")]


def test_a_checkpoint_that_is_a_link_is_not_followed(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").symlink_to(tmp_path / "profile")
    with pytest.raises(CheckpointError, match="is a link"):
        train(recipe, corpora, tmp_path / "run", compile_model=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("name", ["log.jsonl", "tokenizer.json"])
def test_nothing_is_written_where_a_link_in_the_run_folder_leads(
    recipe: Recipe, corpora: Path, tmp_path: Path, name: str
) -> None:
    """A log that is a link had its lines put behind those of .bashrc."""
    (tmp_path / "run").mkdir()
    for there in (False, True):
        target = tmp_path / "profile"
        if there:
            target.write_text("export PATH\n")
        (tmp_path / "run" / name).unlink(missing_ok=True)
        (tmp_path / "run" / name).symlink_to(target)
        own = replace(recipe, tokenizer="") if name == "tokenizer.json" else recipe
        with contextlib.suppress(GoldFinchError, gfcache.CacheWriteError):
            train(own, corpora, tmp_path / "run", compile_model=False, stop_after=1)
        assert (target.read_text() == "export PATH\n") if there else not target.exists()


def test_pictures_and_records_take_the_place_of_links(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    append_entry(tmp_path / "log.jsonl", {"step": 1, "loss": 2.0, "answer_loss": 3.0})
    (tmp_path / "profile").write_text("export PATH\n")
    (tmp_path / "loss.png").symlink_to(tmp_path / "profile")
    with open(tmp_path / "log.jsonl", "a") as log:  # lines of somebody else
        log.write('{"step": 2}\n[]\n' + "[" * 100_000 + '\n{"step": 2, "loss": 1e999, "answer_loss": "x"}\n\xff\n')
    draw_loss_curve(tmp_path / "log.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "profile").read_text() == "export PATH\n"


def test_a_log_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="a link"):
        log_lines(tmp_path / "log.jsonl")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="a pipe"):
        log_lines(tmp_path / "pipe")


def test_a_hostile_checkpoint_takes_no_memory_and_does_not_wait(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    """torch unpacks whatever a compressed member holds, and waits for a pipe."""
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=1)
    path, packed = tmp_path / "checkpoint.pt", tmp_path / "packed"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in whole.infolist():
            bomb.writestr(member.filename, whole.read(member))
        folder = whole.namelist()[0].partition("/")[0]
        bomb.writestr(f"{folder}/data/999", b"\0" * (8 << 20))
    assert torch.load(packed, weights_only=True)["step"] == 1  # what torch thinks of it
    packed.replace(path)
    with pytest.raises(CheckpointError, match="damaged"):
        train(recipe, corpora, tmp_path, compile_model=False)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="damaged"):
        train(recipe, corpora, tmp_path, compile_model=False)
    path.unlink()
    torch.save({"model": 1, "optimizers": 2, "step": 0, "recipe": recipe.digest()}, path)
    with pytest.raises(CheckpointError, match="does not belong"):
        train(recipe, corpora, tmp_path, compile_model=False)


def test_a_start_that_was_changed_is_refused(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    """The trainer read the weights of a start as they lie there, with a card that says they are others."""
    model = train(recipe, corpora, tmp_path / "one", compile_model=False)
    weights = load_file(model / "model.safetensors")
    weights["head.weight"] = -weights["head.weight"]
    save_file(weights, model / "model.safetensors")
    again = replace(recipe, start=(str(model),))
    with pytest.raises(ModelChanged, match="not the model that its"):
        train(again, corpora, tmp_path / "two", compile_model=False)
    with pytest.raises(ModelChanged):
        train(recipe, corpora, tmp_path / "two", compile_model=False, start_from=[model])


def test_a_model_that_gf_did_not_write_is_not_replaced(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    """Its files have the names that gf gives; what tells them apart is the card."""
    theirs = tmp_path / "toy"
    theirs.mkdir()
    (theirs / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (theirs / "model.safetensors").write_bytes(b"months of training")
    with pytest.raises(CheckpointError, match="not as gf writes models"):
        train(recipe, corpora, tmp_path, compile_model=False)
    assert (theirs / "model.safetensors").read_bytes() == b"months of training"


@pytest.mark.parametrize("place", ["absolute", "above", "link"])
def test_a_recipe_makes_no_tokenizer_elsewhere(
    place: str, recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe may be anybody's, and what it names any file of the user's that is not there yet."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    (here / "link").symlink_to(elsewhere)
    name = {"absolute": str(elsewhere / "t.json"), "above": "../elsewhere/t.json", "link": "link/t.json"}[place]
    with pytest.raises(ConfigError, match="is made in the current folder"):
        train(replace(recipe, tokenizer=name), corpora, here / "run", compile_model=False, stop_after=1)
    assert list(elsewhere.iterdir()) == []
    train(replace(recipe, tokenizer="own/t.json"), corpora, here / "run", compile_model=False, stop_after=1)
    assert (here / "own" / "t.json").is_file()


def test_corpora_without_what_a_task_needs(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusDamaged, match="nothing for the task"):
        train(replace(recipe, corpora=()), corpora, tmp_path, compile_model=False)
