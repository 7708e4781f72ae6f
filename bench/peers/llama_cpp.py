"""llama.cpp through llama-cpp-python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from .base import Peer
from .gguf_models import write_llama, write_rwkv6
from .shapes import Shape


class LlamaCpp(Peer):
    """llama.cpp, keys and values in its default f16, through llama-cpp-python: a Llama or an RWKV-6.

    Flash attention is the faster setting for some figures and the slower one for others; it plays no part in an RWKV-6.
    """

    def __init__(
        self, kind: str, dtype: torch.dtype, shape: Shape, folder: Path, context: int, *, flash: bool = True
    ) -> None:
        from llama_cpp import Llama

        precision = {torch.bfloat16: "bf16", torch.float32: "float32"}[dtype]
        super().__init__(f"llama.cpp {kind} {precision}{'' if flash else ', no flash attention'}", folder)
        self.shape, path = shape, folder / f"{kind}-{precision}.gguf"
        {"Llama": write_llama, "RWKV-6": write_rwkv6}[kind](path, shape, dtype)
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
