"""A GGUF file becomes a model directory that computes what its weights compute."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.others.tiny_models import config_json
from goldfinch.errors import ModelRefused, WeightsMismatch
from goldfinch.foreign import importing, library
from goldfinch.foreign.configuration import clean_config
from goldfinch.foreign.importing import import_foreign
from goldfinch.foreign.models import load
from goldfinch.foreign.prompts import document_ids
from tests.goldfinch.foreign.gguf_files import write_gguf

CONFIG = config_json("llama") | {"vocab_size": 263, "tie_word_embeddings": True}


def test_a_file_is_unpacked_once(tmp_path: Path) -> None:
    network = library.random_network(clean_config(CONFIG))
    half = {key: tensor.half() for key, tensor in library.published_tensors(network).items()}
    file = write_gguf(tmp_path / "tiny.gguf", CONFIG, half)
    card = import_foreign(file, tmp_path / "model", prompt="chat")
    file.unlink()
    model = load(card.path, dtype="f32")
    expected = library.network_of(clean_config(CONFIG), half)
    ids = torch.arange(20, 60)
    torch.testing.assert_close(library.forward(model.network, ids), library.forward(expected, ids), atol=1e-5, rtol=0.0)
    # Values that 16 bits hold stay in 16 bits.
    stored = load_file(card.path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} <= {torch.float16, torch.bfloat16}
    assert model.context_length == CONFIG["max_position_embeddings"]
    assert model.stop_token_ids == (2,)
    assert model.tokenizer is not None
    assert document_ids(model.tokenizer, model.config.prompts["plain"], "a")[0][0] == 1  # <|begin|>, as the file says
    ids_of_turn, (start, end) = document_ids(model.tokenizer, model.template, "<|end|><|turn|>")
    assert not set(ids_of_turn[start:end]) & set(range(6))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"intermediate_size": 1 << 19}, "describes"), ({"vocab_size": 1 << 20}, "describes")],
)
def test_a_network_that_is_larger_than_the_file_is_not_built(
    tmp_path: Path, change: dict[str, int], words: str
) -> None:
    network = library.random_network(clean_config(CONFIG))
    file = write_gguf(tmp_path / "tiny.gguf", CONFIG | change, library.published_tensors(network))
    with pytest.raises(WeightsMismatch, match=words):
        import_foreign(file, tmp_path / "model")


@pytest.mark.parametrize(
    ("config", "more", "error", "words"),
    [
        ({"num_hidden_layers": 1}, {}, WeightsMismatch, "weights, of which the model that it describes has"),
        ({}, {"blk__0__attn_gate__weight": np.ones(8, np.float32)}, WeightsMismatch, "of which the model"),
        ({}, {"rope_freqs__weight": np.full(4, 8.0, np.float32)}, ModelRefused, "scales its positions .rope_freqs"),
        ({}, {"llama__rope__scaling__type": "yarn"}, ModelRefused, "scales its positions .llama.rope.scaling.type"),
    ],
)
def test_what_the_library_would_leave_out_without_a_word(
    tmp_path: Path, config: dict[str, int], more: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Layers beyond those that the file names, tensors that have no place, the scaling of Llama 3.1."""
    network = library.random_network(clean_config(CONFIG))
    file = write_gguf(tmp_path / "tiny.gguf", CONFIG | config, library.published_tensors(network), **more)
    with pytest.raises(error, match=words):
        import_foreign(file, tmp_path / "model", prompt="plain")
    assert not (tmp_path / "model").exists()


def test_words_that_are_cut_in_an_unknown_way(tmp_path: Path) -> None:
    network = library.random_network(clean_config(CONFIG))
    file = write_gguf(tmp_path / "tiny.gguf", CONFIG, library.published_tensors(network), "something-new")
    with pytest.raises(ModelRefused, match="cuts text into words"):
        import_foreign(file, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.gguf"]


def test_what_a_killed_import_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights unpacked half way may have gigabytes; nobody else knows what they are."""
    network = library.random_network(clean_config(CONFIG))
    file = write_gguf(tmp_path / "tiny.gguf", CONFIG, library.published_tensors(network))
    out = tmp_path / "models" / "m"
    child = os.fork()
    if not child:
        monkeypatch.setattr(importing, "digests_of", lambda files: os.kill(os.getpid(), signal.SIGKILL))
        import_foreign(file, out)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path for path in out.parent.iterdir() if path.is_dir()]
    import_foreign(file, out)
    assert [path.name for path in out.parent.iterdir()] == ["m"]
