"""Folders and files of strangers: each refused by name, before weights are read, with nothing run or fetched."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goldfinch.errors import (
    ConfigDamaged,
    GoldFinchError,
    ModelRefused,
    TokenizerDamaged,
    WeightsDamaged,
    WeightsMismatch,
)
from goldfinch.foreign import library
from goldfinch.foreign.gguf import read_header
from goldfinch.foreign.importing import import_foreign
from goldfinch.foreign.recognise import recognise
from tests.goldfinch.foreign.folders import write_folder

Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("others") / "whole")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is connected, or a name that is looked up, fails the test."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"the network was asked: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def change(**values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return spoil


def instead(name: str, data: bytes) -> Spoil:
    """A file with these bytes, which run nothing: code beside it would have to be imported to do harm."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return spoil


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n")


def remote_code(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    change(model_type="evil", auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})(folder)


def index_outside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def a_pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def a_config_pipe(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
LONG = "x" * 5000
# What is wrong, what the message says of it, and the error.
HOSTILE: dict[str, tuple[Spoil, str, type[GoldFinchError]]] = {
    "pickled weights": (only_pickled, "pickled weights", ModelRefused),
    "remote code": (remote_code, "code of its own, which gf never runs", ModelRefused),
    "unknown architecture": (change(model_type="gf_unheard_of"), "does not know", ModelRefused),
    "no architecture": (change(model_type=["llama"]), "does not know", ModelRefused),
    "a picture model": (change(model_type="vit"), "as a model of text", ModelRefused),
    "an adapter": (instead("adapter_config.json", b'{"base_model_name_or_path": "x/y"}'), "adapter", ModelRefused),
    "bitsandbytes": (change(quantization_config={"quant_method": "bitsandbytes"}), "bitsandbytes", ModelRefused),
    "gptq": (change(quantization_config={"quant_method": "gptq"}), "gptq", ModelRefused),
    "awq": (instead("quant_config.json", b"{}"), "quantised", ModelRefused),
    "an index that leaves": (index_outside, "beside it", WeightsDamaged),
    "a pointer for weights": (instead("model.safetensors", POINTER), "Git LFS pointer", ModelRefused),
    "a pointer for config.json": (instead("config.json", POINTER), "Git LFS pointer", ModelRefused),
    "a pipe for weights": (a_pipe, "regular file", GoldFinchError),
    "a pipe for config.json": (a_config_pipe, "regular file", GoldFinchError),
    "config.json nested without end": (instead("config.json", b"[" * 100_000), "nested", ConfigDamaged),
    "config.json of 2 MB": (instead("config.json", b" " * (2 << 20)), "bytes", ConfigDamaged),
    "layers without weights": (change(num_hidden_layers=900), "layers", WeightsMismatch),
    "layers without end": (change(num_hidden_layers=1 << 30), "num_hidden_layers", ConfigDamaged),
    "a width without weights": (change(hidden_size=4096), "hidden_size", WeightsMismatch),
    "a feed-forward without weights": (change(intermediate_size=1 << 19), "describes", WeightsMismatch),
    "heads without end": (change(num_attention_heads=1 << 20), "num_attention_heads", ConfigDamaged),
    "heads of another kind": (change(num_attention_heads="many"), "config.json", ConfigDamaged),
    "no heads": (change(num_attention_heads=0), "config.json", ConfigDamaged),
    "a long text": (change(hidden_act=LONG), "hidden_act", ConfigDamaged),
    "an activation that is none": (change(hidden_act="os.system"), "config.json", ConfigDamaged),
    "weights cut short": (lambda folder: os.truncate(folder / "model.safetensors", 4000), "weights", WeightsDamaged),
    "a header without end": (instead("model.safetensors", b"\xff" * 64), "header", WeightsDamaged),
    "a broken tokenizer": (instead("tokenizer.json", b'{"model": {"type": "Evil"}}'), "tokenizer", TokenizerDamaged),
    "a broken setting": (instead("tokenizer_config.json", b"{"), "tokenizer_config", ConfigDamaged),
    "a model folder of gf": (change(library="transformers"), "model folder of gf", ModelRefused),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_refused(whole: Path, tmp_path: Path, kind: str) -> None:
    spoil, words, error = HOSTILE[kind]
    folder = shutil.copytree(whole, tmp_path / "folder")
    spoil(folder)
    with pytest.raises((error, OSError) if error is GoldFinchError else error, match=words):
        import_foreign(folder, tmp_path / "out", prompt="plain")
    assert not (tmp_path / "out").exists()
    assert not (folder / "ran").exists()


def test_the_whole_folder_is_taken(whole: Path, tmp_path: Path) -> None:
    """What the others differ from, and without a network as well."""
    import_foreign(whole, tmp_path / "out", prompt="plain")
    assert (tmp_path / "out" / "config.json").exists()


def test_the_guard_notices(whole: Path) -> None:
    with socket.socket() as one, pytest.raises(AssertionError, match="network"):
        one.connect(("127.0.0.1", 9))
    assert library.library().utils.hub.is_offline_mode()
    assert recognise(whole).name == "whole"


def test_a_name_is_no_path(tmp_path: Path) -> None:
    """A name of the hub is not looked up there."""
    with pytest.raises(FileNotFoundError):
        import_foreign(Path("HuggingFaceTB/SmolLM2-135M"), tmp_path / "out")


def test_a_snapshot_of_the_hub_is_called_as_its_model(whole: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--Someone--Small-1B" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for file in whole.iterdir():
        (snapshot / file.name).symlink_to(file)
    assert recognise(snapshot).name == "Small-1B"


def gguf(*parts: bytes, tensors: int = 0, entries: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + b"".join(parts)


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


HOSTILE_GGUF = {
    "cut short": (b"GGUF\x03", "at most 1 are left"),
    "version 1": (gguf(version=1), "version is 1"),
    "tensors without end": (gguf(tensors=1 << 60), "tensors"),
    "entries without end": (gguf(entries=1 << 60), "entries"),
    "a key without end": (gguf(text(b"a", 1 << 40), entries=1), "text of"),
    "an array without end": (gguf(text(b"a"), struct.pack("<IIQ", 9, 8, 1 << 50), entries=1), "values of an array"),
    "an array in an array": (gguf(text(b"a"), struct.pack("<IIQ", 9, 9, 1), entries=1), "type 9"),
    "an unknown type": (gguf(text(b"a"), struct.pack("<I", 77), entries=1), "type 77"),
    "a tensor beyond the file": (
        gguf(text(b"t"), struct.pack("<IQIQ", 1, 1 << 50, 0, 0), tensors=1), "does not fit"),
    "tensors that share their bytes": (
        gguf(*(text(b"t%d" % n) + struct.pack("<IQIQ", 1, 500, 0, 0) for n in range(9)), tensors=9), "9 tensors of"),
    "two tensors of one name": (
        gguf(*(text(b"t") + struct.pack("<IQIQ", 1, 5, 0, 0),) * 2, tensors=2), "two tensors are called 't'"),
    "layers without end": (
        gguf(text(b"general.architecture"), struct.pack("<I", 8), text(b"llama"),
             text(b"llama.block_count"), struct.pack("<II", 4, 1 << 30), entries=2), "llama.block_count is 1073741824"),
    "tokens that are a number": (
        gguf(text(b"tokenizer.ggml.model"), struct.pack("<I", 8), text(b"gpt2"),
             text(b"tokenizer.ggml.tokens"), struct.pack("<II", 4, 7),
             text(b"tokenizer.ggml.token_type"), struct.pack("<II", 4, 7), entries=3), "lacks the tokens"),
    "a tensor of many axes": (gguf(text(b"t"), struct.pack("<I", 99), tensors=1), "axes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE_GGUF)
def test_a_hostile_gguf_is_refused(tmp_path: Path, kind: str) -> None:
    data, words = HOSTILE_GGUF[kind]
    (tmp_path / "model.gguf").write_bytes(data)
    with pytest.raises(WeightsDamaged, match=words):
        import_foreign(tmp_path / "model.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gguf_of_nothing_has_no_metadata(tmp_path: Path) -> None:
    """What the others differ from."""
    (tmp_path / "model.gguf").write_bytes(gguf(text(b"a"), struct.pack("<II", 4, 7), entries=1))
    assert read_header(tmp_path / "model.gguf") == ({"a": 7}, {})
    with pytest.raises(ModelRefused, match="cannot"):
        import_foreign(tmp_path / "model.gguf", tmp_path / "out")


def test_another_file_is_no_model(tmp_path: Path) -> None:
    for name, words in (("a.bin", "pickled"), ("a.safetensors", "neither"), ("a.txt", "neither")):
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(ModelRefused, match=words):
            recognise(tmp_path / name)
