"""gf beside what a user would pick instead, interleaved in one run; writes bench/results/peers.json.

    pip install -e '.[bench]'
    python bench/peers.py [--shape 12x768] [--lengths 512,2048,8192] [--repeats 5] [--only gf,transformers]

Peers that are not installed are named and left out. Weights are random: speed does not depend on them.
Llama and GoldFinch of one shape have the same number of layers, the same width and the same vocabulary.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from goldfinch.config import presets
from goldfinch.measure.conditions import conditions
from goldfinch.measure.speed import QUESTION_TOKENS, gate, spread
from goldfinch.model import LanguageModel
from goldfinch.model_directory import init_model, load_model

RESULTS = Path(__file__).parent / "results"
VOCABULARY = 65_536
SHAPES = {"12x768": (12, 768, 2048), "6x512": (6, 512, 1408)}  # layers, width, Llama's feed-forward width
ANSWER_TOKENS = 32


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

    def __init__(self, dtype: torch.dtype, directory: Path, folder: Path) -> None:
        super().__init__(f"gf {str(dtype).split('.')[1]}", folder)
        self.model: LanguageModel = load_model(directory, dtype=dtype)

    def prefill(self, ids: list[int]) -> object:
        from goldfinch import prefill

        return prefill(self.model, torch.tensor([ids]))

    def save(self, cache: Any) -> None:
        cache.save(self.file)

    def first_token(self, question: list[int]) -> Callable[[], None]:
        from goldfinch import Session, open_cache
        from goldfinch.session import decode_one_token

        logits, state = Session(self.model, open_cache(self.file, self.model)).start(question)
        box = [int(logits.argmax()), state]

        def step() -> None:
            logits, box[1] = decode_one_token(self.model, box[0], box[1])
            box[0] = int(logits.argmax())

        return step


class Transformers(Peer):
    """Hugging Face transformers' Llama with scaled-dot-product attention; cache in safetensors."""

    def __init__(self, dtype: torch.dtype, shape: str, folder: Path) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        super().__init__(f"transformers Llama {str(dtype).split('.')[1]}", folder)
        layers, width, ffn = SHAPES[shape]
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            num_key_value_heads=width // 64,
            intermediate_size=ffn,
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
    """llama.cpp's Llama in bf16 with flash attention, through llama-cpp-python."""

    def __init__(self, shape: str, folder: Path, context: int) -> None:
        from llama_cpp import Llama

        super().__init__("llama.cpp Llama bf16", folder)
        path = folder / f"llama-{shape}.gguf"
        if not path.exists():
            write_gguf(path, shape)
        threads = torch.get_num_threads()
        self.llama = Llama(
            str(path),
            n_ctx=context + 128,
            n_batch=512,
            n_ubatch=512,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=True,
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
        return int(np.ctypeslib.as_array(pointer, shape=(VOCABULARY,)).argmax())


def write_gguf(path: Path, shape: str) -> None:
    """A Llama of random bf16 weights as a GGUF file."""
    import gguf
    import numpy as np

    layers, width, ffn = SHAPES[shape]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(layers)
    writer.add_context_length(1 << 17)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(width // 64)
    writer.add_head_count_kv(width // 64)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(64)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")
    rng = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = torch.from_numpy(rng.standard_normal((rows, columns), dtype=np.float32) * 0.02).bfloat16()
        raw = values.view(torch.int16).numpy().view(np.uint8)
        writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)

    def vector(name: str) -> None:
        writer.add_tensor(name, np.ones(width, np.float32))

    matrix("token_embd.weight", VOCABULARY, width)
    matrix("output.weight", VOCABULARY, width)
    vector("output_norm.weight")
    for i in range(layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{i}.{part}.weight", width, width)
        matrix(f"blk.{i}.ffn_gate.weight", ffn, width)
        matrix(f"blk.{i}.ffn_up.weight", ffn, width)
        matrix(f"blk.{i}.ffn_down.weight", width, ffn)
        vector(f"blk.{i}.attn_norm.weight")
        vector(f"blk.{i}.ffn_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Rwkv(Peer):
    """The rwkv package's RWKV-6 (same depth and width), state in memory."""

    def __init__(self, dtype: str, shape: str, folder: Path) -> None:
        os.environ.setdefault("RWKV_JIT_ON", "1")
        from rwkv.model import RWKV

        super().__init__(f"rwkv package RWKV-6 {'bfloat16' if dtype == 'bf16' else 'float32'}", folder)
        config = presets()[f"finch-{shape}"]
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
        torch.save(cache, self.file)

    def first_token(self, question: list[int]) -> Callable[[], None]:
        state = torch.load(self.file, weights_only=True)
        out, state = self.model.forward(question, state)
        box = [int(out.argmax()), state]

        def step() -> None:
            out, box[1] = self.model.forward([box[0]], box[1])
            box[0] = int(out.argmax())

        return step


def make_peers(options: argparse.Namespace, directory: Path, folder: Path) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be had here, and why the others cannot."""
    longest = max(options.lengths)
    makers: dict[str, Callable[[], Peer]] = {
        "gf": lambda: Gf(torch.bfloat16, directory, folder),
        "gf-fp32": lambda: Gf(torch.float32, directory, folder),
        "transformers": lambda: Transformers(torch.bfloat16, options.shape, folder),
        "transformers-fp32": lambda: Transformers(torch.float32, options.shape, folder),
        "llama.cpp": lambda: LlamaCpp(options.shape, folder, longest),
        "rwkv": lambda: Rwkv("bf16", options.shape, folder),
    }
    peers, absent = [], {}
    for name, make in makers.items():
        if options.only and name not in options.only.split(","):
            continue
        try:
            peers.append(make())
        except Exception as error:
            absent[name] = f"{type(error).__name__}: {str(error)[:200]}"
            print(f"{name}: left out, {absent[name]}", flush=True)
    return peers, absent


def measure(peers: list[Peer], options: argparse.Namespace, note: Callable[[], None]) -> list[dict[str, Any]]:
    """Prefill, save, first token from file and decode of every peer at every length, interleaved by repeat."""
    generator = torch.Generator().manual_seed(0)
    question = torch.randint(0, VOCABULARY, (QUESTION_TOKENS,), generator=generator).tolist()
    rows: list[dict[str, Any]] = options.rows
    for length in options.lengths:
        ids = torch.randint(0, VOCABULARY, (length,), generator=generator).tolist()
        repeats = options.repeats if length <= options.full_repeats_up_to else options.long_repeats
        found: dict[str, dict[str, list[float]]] = {peer.name: {} for peer in peers}
        for repeat in range(repeats + 1):  # the first is the warm-up
            for peer in peers:
                if repeat == 0 and length > options.full_repeats_up_to:
                    continue
                figures = _once(peer, ids, question, length <= options.full_repeats_up_to)
                if repeat:
                    for name, value in figures.items():
                        found[peer.name].setdefault(name, []).append(value)
                gc.collect()
        for peer in peers:
            row = {"peer": peer.name, "tokens": length, "repeats": repeats}
            row |= {name: spread(values) for name, values in found[peer.name].items()}
            rows.append(row)
            print(
                json.dumps({k: round(v["median"], 2) if isinstance(v, dict) else v for k, v in row.items()}), flush=True
            )
        note()
    return rows


def _once(peer: Peer, ids: list[int], question: list[int], with_answer: bool) -> dict[str, float]:
    started = time.perf_counter()
    cache = peer.prefill(ids)
    figures = {"prefill_tok_s": len(ids) / (time.perf_counter() - started)}
    if not with_answer:
        return figures
    started = time.perf_counter()
    peer.save(cache)
    figures["save_ms"] = 1e3 * (time.perf_counter() - started)
    figures["file_bytes"] = float(peer.file.stat().st_size)
    del cache
    started = time.perf_counter()
    step = peer.first_token(question)
    figures["first_token_ms"] = 1e3 * (time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(ANSWER_TOKENS):
        step()
    figures["decode_tok_s"] = ANSWER_TOKENS / (time.perf_counter() - started)
    return figures


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="12x768", choices=sorted(SHAPES))
    parser.add_argument("--lengths", default="512,2048,8192", type=lambda t: [int(n) for n in t.split(",")])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long-repeats", type=int, default=3)
    parser.add_argument("--full-repeats-up-to", type=int, default=8192)
    parser.add_argument("--only", default="")
    parser.add_argument("--output", type=Path, default=RESULTS / "peers.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gf-peers-") as name:
        folder = Path(name)
        directory = folder / "model"
        init_model(f"goldfinch-{options.shape}", 0, directory)
        model = load_model(directory, dtype=torch.bfloat16)
        gate(model)
        peers, absent = make_peers(options, directory, folder)
        record: dict[str, Any] = {"what": "gf beside peers", "shape": options.shape, "conditions": conditions(model)}
        record |= {"packages": _versions(), "absent": absent, "rows": []}
        options.rows = record["rows"]

        def note() -> None:
            options.output.write_text(json.dumps(record, indent=2) + "\n")

        measure(peers, options, note)


def _versions() -> dict[str, str]:
    import importlib.metadata

    out = {}
    for package in ("torch", "transformers", "llama_cpp_python", "rwkv", "gguf"):
        try:
            out[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            out[package] = "absent"
    return out


if __name__ == "__main__":
    main()
