"""Files that are something else than weights, a configuration or a tokenizer are said to be what they are."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from gfcli.app import run
from goldfinch.errors import WeightsDamaged
from goldfinch.weights.files import read_weights

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 123456789\n".encode()
PAGE = b"<!DOCTYPE html><html><body>404: not found</body></html>"
# What a reader says in its own words, or advises and should not.
FOREIGN = ("Expecting", "char ", "weights_only", "pop from", "codec can't", "header's length", "KeyError", "Error(")
FILES = [
    (POINTER, "a pointer of Git LFS", "git lfs pull"),
    (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "a GGUF model", "gf model import"),
    (PAGE, "HTML", "again"),
    (b"These are weights.\n", "plain text", "again"),
    (b"", "empty", "again"),
]


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize(("data", "name", "step"), FILES, ids=[name for _, name, _ in FILES])
def test_weights_that_are_none(data: bytes, name: str, step: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{ending}"
    path.write_bytes(data)
    with pytest.raises(WeightsDamaged, match=f"it is {name}.*, expected weights") as found:
        read_weights(path)
    assert step in str(found.value.hint)
    assert not any(words in str(found.value) for words in FOREIGN)


@pytest.mark.parametrize(("data", "name"), [(POINTER, "a pointer of Git LFS"), (PAGE, "HTML"), (b"", "empty"),
                                            (b'{"n": 1', "not JSON (line 1, column 8)"), (b"\xff{", "not UTF-8")])  # fmt: skip
@pytest.mark.parametrize("part", ["config.json", "tokenizer.json"])
def test_a_damaged_model_folder(part: str, data: bytes, name: str, tiny_model: Path, tmp_path: Path, capsys) -> None:
    folder, text = tmp_path / "model", tmp_path / "a.txt"
    shutil.copytree(tiny_model, folder)
    (folder / part).write_bytes(data)
    text.write_text("The code is 48213.\n")
    assert run(["prefill", str(text), "-m", str(folder)]) == 6
    err = capsys.readouterr().err
    assert f"it is {name}" in err
    assert not any(words in err for words in FOREIGN)


def test_a_configuration_of_others(tmp_path: Path, capsys) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_size": 64}))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"")
    assert run(["model", "import", str(weights), "--config", str(config), "-o", str(tmp_path / "out")]) == 6
    err = capsys.readouterr().err
    assert "is a configuration of Hugging Face" in err
    assert f"without --config: gf model import {tmp_path}" in err


def test_a_file_is_no_model_folder(tmp_path: Path, capsys) -> None:
    text, file = tmp_path / "a.txt", tmp_path / "model.gguf"
    text.write_text("The code is 48213.\n")
    file.write_bytes(b"GGUF")
    assert run(["prefill", str(text), "-m", str(file)]) == 4
    assert f"{file} is a file, expected a model folder or name\nhint: gf model import {file}" in capsys.readouterr().err
