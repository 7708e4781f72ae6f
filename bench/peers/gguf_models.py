"""Llama and RWKV-6 models of random weights as GGUF files, for llama.cpp."""

from __future__ import annotations

from pathlib import Path

import torch

from .shapes import Shape


class _Model:
    """A GGUF file in the making: matrices in one precision, all that is small in float32, as their converter has it."""

    def __init__(self, path: Path, architecture: str, dtype: torch.dtype, shape: Shape, ffn: int, heads: int) -> None:
        import gguf
        import numpy as np

        self.writer, self.rng = gguf.GGUFWriter(str(path), architecture), np.random.default_rng(0)
        self.is_bf16 = dtype == torch.bfloat16
        self.bf16 = gguf.GGMLQuantizationType.BF16
        self.writer.add_block_count(shape.layers)
        self.writer.add_context_length(1 << 17)
        self.writer.add_embedding_length(shape.width)
        self.writer.add_feed_forward_length(ffn)
        self.writer.add_head_count(heads)
        self.writer.add_vocab_size(shape.vocabulary)
        self.writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16 if self.is_bf16 else gguf.LlamaFileType.ALL_F32)
        self.writer.add_tokenizer_model("no_vocab")

    def matrix(self, name: str, rows: int, columns: int) -> None:
        import numpy as np

        values = self.rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
        if not self.is_bf16:
            self.writer.add_tensor(f"{name}.weight", values)
            return
        raw = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint8)
        self.writer.add_tensor(f"{name}.weight", raw, raw_dtype=self.bf16)

    def small(self, name: str, *dimensions: int) -> None:
        import numpy as np

        values = self.rng.standard_normal(dimensions, dtype=np.float32) * 0.02
        self.writer.add_tensor(f"{name}.weight", values.astype(np.float32))

    def norm(self, name: str, width: int, *, bias: bool = False) -> None:
        import numpy as np

        self.writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        if bias:
            self.writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))

    def finish(self) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def write_llama(path: Path, shape: Shape, dtype: torch.dtype) -> None:
    """A Llama."""
    C = shape.width
    model = _Model(path, "llama", dtype, shape, shape.ffn, C // 64)
    model.writer.add_head_count_kv(C // 64)
    model.writer.add_layer_norm_rms_eps(1e-6)
    model.writer.add_rope_dimension_count(64)
    model.matrix("token_embd", shape.vocabulary, C)
    model.matrix("output", shape.vocabulary, C)
    model.norm("output_norm", C)
    for i in range(shape.layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            model.matrix(f"blk.{i}.{part}", C, C)
        model.matrix(f"blk.{i}.ffn_gate", shape.ffn, C)
        model.matrix(f"blk.{i}.ffn_up", shape.ffn, C)
        model.matrix(f"blk.{i}.ffn_down", C, shape.ffn)
        model.norm(f"blk.{i}.attn_norm", C)
        model.norm(f"blk.{i}.ffn_norm", C)
    model.finish()


def write_rwkv6(path: Path, shape: Shape, dtype: torch.dtype) -> None:
    """An RWKV-6 (Finch), feed-forward width 3.5 C as published."""
    C, ffn = shape.width, shape.width * 7 // 2
    model = _Model(path, "rwkv6", dtype, shape, ffn, 0)
    model.writer.add_layer_norm_eps(1e-5)
    model.writer.add_wkv_head_size(64)
    model.writer.add_time_mix_extra_dim(32)
    model.writer.add_time_decay_extra_dim(64)
    model.writer.add_rescale_every_n_layers(0)
    model.matrix("token_embd", shape.vocabulary, C)
    model.norm("token_embd_norm", C, bias=True)
    model.matrix("output", shape.vocabulary, C)
    model.norm("output_norm", C, bias=True)
    for i in range(shape.layers):
        _rwkv6_layer(model, f"blk.{i}.", C, ffn)
    model.finish()


def _rwkv6_layer(model: _Model, at: str, C: int, ffn: int) -> None:
    for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
        model.norm(at + name, C, bias=True)
    model.small(at + "time_mix_w1", 5 * 32, C)
    model.small(at + "time_mix_w2", 5, C, 32)
    model.small(at + "time_mix_lerp_x", 1, 1, C)
    model.small(at + "time_mix_lerp_fused", 5, 1, 1, C)
    model.small(at + "time_mix_first", C // 64, 64)
    model.small(at + "time_mix_decay", C)
    model.small(at + "time_mix_decay_w1", 64, C)
    model.small(at + "time_mix_decay_w2", C, 64)
    for name in ("key", "value", "receptance", "gate", "output"):
        model.matrix(f"{at}time_mix_{name}", C, C)
    model.small(at + "channel_mix_lerp_k", 1, 1, C)
    model.small(at + "channel_mix_lerp_r", 1, 1, C)
    model.matrix(at + "channel_mix_key", ffn, C)
    model.matrix(at + "channel_mix_value", C, ffn)
    model.matrix(at + "channel_mix_receptance", C, C)
