"""The programs that peers.py puts beside gf: each can prefill, save, and answer from what it saved.

Weights are random: speed does not depend on them. Llama, RWKV-6 and GoldFinch of one shape have the same number of
layers, the same width and the same vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gfkernels.threads  # noqa: F401

import torch

from bench.gguf_models import write_llama, write_rwkv6
from goldfinch.config import presets
from goldfinch.model import LanguageModel
from goldfinch.model_directory import load_model


@dataclass(frozen=True)
class Shape:
    """One size for all programs; `ffn` is Llama's feed-forward width, `model` gf's name or preset."""

    layers: int
    width: int
    ffn: int
    vocabulary: int
    model: str


SHAPES = {
    "12x768": Shape(12, 768, 2048, 65_536, "goldfinch-12x768"),
    "6x512": Shape(6, 512, 1408, 65_536, "goldfinch-6x512"),
    "gf-mini": Shape(6, 192, 512, 4_096, "gf-mini"),
}


class Peer:
    """One program at one precision: prefill, save, then answer from the file."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.file = name, folder / f"{name.replace(' ', '-')}.cache"

    def prefill(self, ids: list[int]) -> object:
        """Process a prompt up to the logits or state after its last token."""
        raise NotImplementedError

    def save(self, cache: object) -> None:
        """Write what `prefill` left to self.file."""
        raise NotImplementedError

    def first_token(self, question: list[int]) -> Callable[[], None]:
        """Read self.file, run the question to the first token; returns a function that decodes one more."""
        raise NotImplementedError


class Gf(Peer):
    """gf, library calls as the command line makes them."""

    def __init__(self, dtype: torch.dtype, model: str | Path, folder: Path) -> None:
        super().__init__(f"gf {str(dtype).split('.')[1]}", folder)
        self.model: LanguageModel = load_model(model, dtype=dtype)

    def prefill(self, ids: list[int]) -> object:
        from goldfinch import prefill

        return prefill(self.model, torch.tensor([ids]))

    def save(self, cache: Any) -> None:
        cache.save(self.file)

    def first_token(self, question: list[int]) -> Callable[[], None]:
        from goldfinch import Session, open_cache
        from goldfinch.session import decode_one_token

        logits, state = Session(self.model, open_cache(self.file, self.model)).start(question)
        box: list[Any] = [int(logits.argmax()), state]

        def step() -> None:
            logits, box[1] = decode_one_token(self.model, box[0], box[1])
            box[0] = int(logits.argmax())

        return step


class Transformers(Peer):
    """Hugging Face transformers' Llama with scaled-dot-product attention; cache in safetensors."""

    def __init__(self, dtype: torch.dtype, shape: Shape, folder: Path) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        super().__init__(f"transformers Llama {str(dtype).split('.')[1]}", folder)
        heads = shape.width // 64
        config = LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            intermediate_size=shape.ffn,
            max_position_embeddings=1 << 17,
            attn_implementation="sdpa",
        )
        torch.manual_seed(0)
        self.model = LlamaForCausalLM(config).to(dtype).eval()

    @torch.inference_mode()
    def prefill(self, ids: list[int]) -> object:
        from transformers import DynamicCache

        cache = DynamicCache()
        self.model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    def save(self, cache: Any) -> None:
        from safetensors.torch import save_file

        tensors = {f"{i}.{n}": getattr(layer, n) for i, layer in enumerate(cache.layers) for n in ("keys", "values")}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, self.file)

    @torch.inference_mode()
    def first_token(self, question: list[int]) -> Callable[[], None]:
        from safetensors.torch import load_file
        from transformers import DynamicCache

        tensors, cache = load_file(self.file), DynamicCache()
        for i in range(self.model.config.num_hidden_layers):
            cache.update(tensors[f"{i}.keys"], tensors[f"{i}.values"], i)
        box = [0]

        @torch.inference_mode()
        def run(ids: list[int]) -> None:
            out = self.model(torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            box[0] = int(out.logits[0, -1].argmax())

        run(question)
        return lambda: run([box[0]])


class LlamaCpp(Peer):
    """llama.cpp in bf16, keys and values in its default f16, through llama-cpp-python: a Llama or an RWKV-6.

    Flash attention is the faster setting for some figures and the slower one for others; it plays no part in an RWKV-6.
    """

    def __init__(self, kind: str, shape: Shape, folder: Path, context: int, *, flash: bool = True) -> None:
        from llama_cpp import Llama

        super().__init__(f"llama.cpp {kind} bf16{'' if flash else ', no flash attention'}", folder)
        self.shape, path = shape, folder / f"{kind}.gguf"
        {"Llama": write_llama, "RWKV-6": write_rwkv6}[kind](path, shape)
        threads = torch.get_num_threads()
        self.llama = Llama(
            str(path),
            n_ctx=context + 128,
            n_batch=512,
            n_ubatch=512,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=flash,
            verbose=False,
        )

    def prefill(self, ids: list[int]) -> object:
        self.llama.reset()
        self.llama.eval(ids)
        return None

    def save(self, cache: object) -> None:
        import ctypes

        import llama_cpp

        tokens = (ctypes.c_int32 * self.llama.n_tokens)(*self.llama.input_ids[: self.llama.n_tokens])
        ok = llama_cpp.llama_state_save_file(self.llama.ctx, str(self.file).encode(), tokens, self.llama.n_tokens)
        assert ok

    def first_token(self, question: list[int]) -> Callable[[], None]:
        import ctypes

        import llama_cpp

        capacity = self.llama.n_ctx()
        tokens, count = (ctypes.c_int32 * capacity)(), ctypes.c_size_t()
        ok = llama_cpp.llama_state_load_file(self.llama.ctx, str(self.file).encode(), tokens, capacity, count)
        assert ok
        self.llama.n_tokens = count.value
        self.llama.eval(question)
        box = [self._argmax()]

        def step() -> None:
            self.llama.eval([box[0]])
            box[0] = self._argmax()

        return step

    def _argmax(self) -> int:
        import llama_cpp
        import numpy as np

        pointer = llama_cpp.llama_get_logits_ith(self.llama.ctx, -1)
        return int(np.ctypeslib.as_array(pointer, shape=(self.shape.vocabulary,)).argmax())


class Rwkv(Peer):
    """The rwkv package's RWKV-6 (same depth and width), state in memory."""

    def __init__(self, dtype: str, shape: Shape, folder: Path) -> None:
        os.environ.setdefault("RWKV_JIT_ON", "1")
        from rwkv.model import RWKV

        super().__init__(f"rwkv package RWKV-6 {'bfloat16' if dtype == 'bf16' else 'float32'}", folder)
        config = replace(
            presets()["finch-12x768"],
            n_layer=shape.layers,
            d_model=shape.width,
            d_ffn=shape.width * 7 // 2,
            vocab_size=shape.vocabulary,
        )
        torch.manual_seed(0)
        weights = {k: v.clone() for k, v in LanguageModel(config).state_dict().items()}
        path = folder / "rwkv6.pth"
        if not path.exists():
            torch.save(weights, path)
        self.model = RWKV(model=str(path)[: -len(".pth")], strategy=f"cpu {dtype}")

    def prefill(self, ids: list[int]) -> object:
        state = None
        for start in range(0, len(ids), 512):
            _, state = self.model.forward(ids[start : start + 512], state)
        return state

    def save(self, cache: Any) -> None:
        # Some of the state are rows of larger tensors, and a saved view takes its whole storage with it.
        torch.save([tensor.clone() for tensor in cache], self.file)

    def first_token(self, question: list[int]) -> Callable[[], None]:
        state = torch.load(self.file, weights_only=True)
        out, state = self.model.forward(question, state)
        box = [int(out.argmax()), state]

        def step() -> None:
            out, box[1] = self.model.forward([box[0]], box[1])
            box[0] = int(out.argmax())

        return step
