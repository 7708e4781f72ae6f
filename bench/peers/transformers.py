"""Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .base import Peer
from .shapes import Shape


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
            attn_implementation="sdpa",  # type: ignore[call-arg, unused-ignore]
        )
        torch.manual_seed(0)
        self.model = LlamaForCausalLM(config).to(dtype).eval()  # type: ignore[arg-type]  # their decorator hides self

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
