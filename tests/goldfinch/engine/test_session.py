"""Sampling, streaming and the Python API."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gfcache
import numpy as np
import pytest
import torch
from gfkernels import KernelError

import goldfinch
from goldfinch.caching.journal import reusable
from goldfinch.engine.answer import StreamedText
from goldfinch.engine.sampling import Sampling, choose_token
from goldfinch.engine.session import EAGER_TOKENS, decode_one_token
from goldfinch.errors import CacheMismatch, EmptyInput, GoldFinchError, TokenizerError
from goldfinch.text.prompt import document_token_ids
from tests.cache_format.craft import craft


def choices(sampling: Sampling, logits: torch.Tensor, count: int = 300) -> set[int]:
    generator = sampling.generator()
    return {choose_token(logits, sampling, generator) for _ in range(count)}


def test_sampling() -> None:
    logits = torch.tensor([0.0, 3.0, 2.9, -1.0, 2.0])
    assert choices(Sampling(), logits) == {1}
    assert choices(Sampling(temperature=1.0, top_k=2, seed=0), logits) == {1, 2}
    assert choices(Sampling(temperature=1.0, top_p=0.4, seed=0), logits) == {1}
    assert choices(Sampling(temperature=1.0, top_p=0.7, seed=0), logits) == {1, 2}
    assert choices(Sampling(temperature=5.0, seed=0), logits) == {0, 1, 2, 3, 4}
    for least in (1e-4, 1e-38, 1e-320):
        assert choices(Sampling(temperature=least, seed=0), logits, 3) == {1}


@pytest.mark.parametrize(
    "bad", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}]
)
def test_sampling_limits(bad: dict[str, float]) -> None:
    with pytest.raises(GoldFinchError, match="allowed"):
        Sampling(**bad)  # type: ignore[arg-type]


class Characters:
    """A tokenizer whose tokens are bytes."""

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def streamed(text: str, stops: tuple[str, ...] = ("\n",), strip: bool = True) -> tuple[list[str], bool]:
    out, stream = [], StreamedText(Characters(), stops, strip)
    for byte in text.encode():
        out.append(stream.add(byte))
        if stream.stopped:
            return out, True
    return [*out, stream.finish()], False


@pytest.mark.parametrize(
    ("text", "stops", "expected", "stopped"),
    [
        (" 48213\n\nQuestion", ("\n",), "48213", True),
        (" plain answer ", ("\n",), "plain answer", False),
        (" ünï😀 cödé", ("\n",), "ünï😀 cödé", False),
        (" one STO two STOP three", ("STOP",), "one STO two", True),
        (" ends with STO", ("STOP",), "ends with STO", False),
        ("   ", ("\n",), "", False),
        ("abcabd", ("abd", "x"), "abc", True),
    ],
)
def test_streamed_text(text: str, stops: tuple[str, ...], expected: str, stopped: bool) -> None:
    pieces, did_stop = streamed(text, stops)
    assert "".join(pieces) == expected
    assert did_stop == stopped
    assert all("\ufffd" not in piece for piece in pieces)


def test_raw_text_keeps_its_blanks() -> None:
    assert "".join(streamed("  a \n b ", (), strip=False)[0]) == "  a \n b "


def test_python_api(tiny_model: Path, tmp_path: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    assert model.config.model_type == "goldfinch"
    text = "The code of Harwick is 48213. " * 20
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text
    token_ids, _ = document_token_ids(model, text)
    seen: list[tuple[int, int]] = []
    cache = goldfinch.prefill(model, token_ids, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (token_ids.shape[1], token_ids.shape[1])
    cache.save(tmp_path / "doc.gfc")
    session = goldfinch.Session(model, goldfinch.open_cache(tmp_path / "doc.gfc", model))
    answer = session.ask("What is the code of Harwick?", max_tokens=6)
    assert answer.usage.document_tokens_computed == 0
    assert len(answer.token_ids) == answer.usage.generated_tokens <= 6
    assert "".join(session.stream("What is the code of Harwick?", max_tokens=6)) == answer.text
    ids = session.question_token_ids("What is the code of Harwick?")
    assert session.generate(ids, max_tokens=6)[: len(answer.token_ids)] == answer.token_ids
    logits, state = model(token_ids)
    assert logits.shape == (1, token_ids.shape[1], model.config.vocab_size)
    assert state.position == token_ids.shape[1]


def test_long_answers_go_on_in_a_static_decoder(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tokens, for as many as may follow; on the CPU there is none."""
    model = goldfinch.load_model(tiny_model)
    session = goldfinch.Session(model, goldfinch.prefill(model, document_token_ids(model, "A cat sat. " * 30)[0]))
    assert model.executor.decoder(session.document_state, 4) is None
    ids = session.question_token_ids("Who sat?")
    expected = session.generate(ids, max_tokens=20)
    assert len(expected) == 20
    made: list[int] = []

    class Decoder:
        def __init__(self, state, capacity: int) -> None:
            self.state, self.left = state, capacity
            made.append(capacity)

        def step(self, token: int) -> torch.Tensor:
            self.left -= 1
            assert self.left >= 0
            logits, self.state = decode_one_token(model, token, self.state)
            return logits

    monkeypatch.setattr(model.executor, "decoder", Decoder)
    assert session.generate(ids, max_tokens=EAGER_TOKENS) == expected[:EAGER_TOKENS]
    assert made == []
    assert session.generate(ids, max_tokens=20) == expected
    assert made == [20 - EAGER_TOKENS]


def test_a_prefilled_document_is_template_prefix_and_text(tiny_model: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    ids, (start, end) = document_token_ids(model, "some text")
    assert ids[0, 0] == model.card.template.bos_token_id
    assert model.tokenizer.decode(ids[0, start:end].tolist()) == "some text"
    with pytest.raises(EmptyInput):
        document_token_ids(model, " \n")
    with pytest.raises(EmptyInput):
        goldfinch.prefill(model, torch.zeros(1, 0, dtype=torch.int64))


def test_a_model_without_tokenizer_says_so(tmp_path: Path) -> None:
    from goldfinch.weights.writing import init_model

    init_model("goldfinch-tiny", 0, tmp_path / "bare")
    model = goldfinch.load_model(tmp_path / "bare")
    assert model.tokenizer is None
    with pytest.raises(TokenizerError, match="no tokenizer"):
        document_token_ids(model, "text")


def test_a_cache_of_another_shape_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    """Its fingerprints are the model's, its configuration and the sizes of its sections are not."""
    model = goldfinch.load_model(tiny_model)
    path, bad = tmp_path / "doc.gfc", tmp_path / "bad.gfc"
    cache = goldfinch.prefill(model, document_token_ids(model, "a document of some length")[0])
    cache.save(path)
    T = cache.length
    one_layer = {
        "wkv_state": np.zeros((1, 1, 64, 64)),
        "time_shift_state": np.zeros((1, 64)),
        "channel_shift_state": np.zeros((1, 64)),
    }
    for config, arrays in (
        ({"head_dim": 32}, {"wkv_state": np.zeros((2, 2, 32, 32))}),
        ({"n_layer": 2}, one_layer),
        ({"compression_ratio": 32}, {"compressed_k/0": np.zeros((T, 2))}),
    ):
        craft(path, bad, config=config, arrays=arrays)
        gfcache.verify_cache(bad, complete=True)
        with pytest.raises(CacheMismatch, match=next(iter(config))):
            goldfinch.open_cache(bad, model)
        assert reusable(bad, model) is None
    vocabulary = model.config.vocab_size + 1
    craft(path, bad, config={"vocab_size": vocabulary}, tokenizer={"fingerprint": None, "vocab_size": vocabulary})
    with pytest.raises(CacheMismatch, match="vocab_size"):
        goldfinch.open_cache(bad, model)


def test_states_of_another_shape_do_not_reach_the_c_kernels(tiny_model: Path) -> None:
    model = goldfinch.load_model(tiny_model)
    ids, _ = document_token_ids(model, "a document of some length")
    state = goldfinch.prefill(model, ids).state
    layer = replace(state.layers[0], wkv_state=torch.zeros(1, 2, 32, 32))
    wrong = replace(state, layers=(layer, *state.layers[1:]))
    for count in (1, 3):
        with pytest.raises(KernelError), torch.no_grad():
            model.run_prefill_layers(ids[:, :count], wrong)


def test_a_cache_serves_models_that_share_the_prefill_layers(tiny_model: Path, tmp_path: Path) -> None:
    """Another GOLD layer or head: prefill fingerprint equal, the cache still belongs."""
    from safetensors.torch import load_file

    from goldfinch.weights.directory import read_card
    from goldfinch.weights.writing import write_model_directory

    card = read_card(tiny_model)
    weights = load_file(tiny_model / "model.safetensors")
    weights["blocks.2.att.query.weight"] *= 1.5
    tuned = tmp_path / "tuned"
    written = write_model_directory(tuned, "tuned", card.config, weights, card.template, tiny_model / "tokenizer.json")
    assert written.prefill_fingerprint == card.prefill_fingerprint
    assert written.model_fingerprint != card.model_fingerprint
    model = goldfinch.load_model(tiny_model)
    ids, _ = document_token_ids(model, "a document of some length")
    goldfinch.prefill(model, ids).save(tmp_path / "doc.gfc")
    goldfinch.open_cache(tmp_path / "doc.gfc", goldfinch.load_model(tuned))
