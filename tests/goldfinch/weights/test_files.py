"""Weights in one file and in several; what cannot be read, or does not fit, is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from goldfinch.errors import CheckpointError
from goldfinch.weights.directory import find_model, read_card, weights_bytes_of
from goldfinch.weights.files import read_weights
from goldfinch.weights.loading import load_model, verify_model
from goldfinch.weights.writing import import_model, write_model_directory


class Payload:
    """An object whose unpickling would leave a trace."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('executed', 'w')",))


def test_a_pth_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open("evil.pth", "wb") as stream:
        pickle.dump({"emb.weight": Payload()}, stream)
    torch.save({"emb.weight": Payload()}, "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(CheckpointError):
            read_weights(Path(name))
    assert not Path("executed").exists()


def test_weights_in_several_files(tiny_model: Path, tmp_path: Path) -> None:
    """No file is larger than asked for; the model, its fingerprints and its size are the same, however it is read."""
    card = find_model(tiny_model)
    weights = read_weights(tiny_model / "model.safetensors")
    largest = max(tensor.nbytes for tensor in weights.values())
    most = 3 * largest
    out = tmp_path / "parts"
    write_model_directory(
        out, "parts", card.config, weights, card.template, tiny_model / "tokenizer.json", max_shard_bytes=most
    )
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert len(files) >= 3
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    for name in files:
        assert sum(tensor.nbytes for tensor in read_weights(out / name).values()) <= most
    assert not (out / "model.safetensors").exists()
    a, b = load_model(tiny_model), load_model(out)
    assert a.card.model_fingerprint == b.card.model_fingerprint
    assert all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())
    assert verify_model(b.card) == []
    (out / "model-stray-of-others.safetensors").write_bytes(b"x" * 999)
    assert weights_bytes_of(read_card(out)) == sum((out / name).stat().st_size for name in files)
    config = tmp_path / "config.json"
    config.write_text((out / "config.json").read_text())
    again = import_model(out / "model.safetensors.index.json", config, None, tmp_path / "whole")
    assert again.model_fingerprint == card.model_fingerprint
    assert (tmp_path / "whole" / "model.safetensors").is_file()
    (out / files[1]).unlink()
    assert weights_bytes_of(read_card(out)) is None
    with pytest.raises(FileNotFoundError):
        load_model(out)
    (out / "model.safetensors.index.json").unlink()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_model(out)


@pytest.mark.parametrize(
    "index", ["{", "[" * 90_000, "[]", "{}", '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {"a": 3}}']
)
def test_an_index_names_files_beside_it_only(index: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(CheckpointError, match="index"):
        read_weights(path)
