"""GGUF files of strangers, imported and asked with little memory and time: a sentence, or an answer."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from goldfinch.foreign import library
from goldfinch.foreign.configuration import clean_config
from tests.goldfinch.foreign.gguf_files import write_gguf
from tests.limited import Ended, run_limited

LOADED = ("transformers.models.llama.modeling_llama", "transformers.modeling_gguf_pytorch_utils", "gguf",
          "goldfinch.foreign.importing", "jinja2.sandbox")  # fmt: skip
CONFIG = {
    "model_type": "llama", "vocab_size": 263, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, LIST, U64, I64, F64 = range(13)
_LETTERS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


@dataclass
class Parts:
    """A GGUF file in parts, which need not fit each other.

    Attributes:
        entries: (type, value) by key; a list has the type of its values, too: (LIST, (type, values)); of any other
            type the value is given as bytes.
        tensors: name, axes, type, offset.
        data: of the tensors.
        counts: of tensors and entries, where they are not those of what follows.
        behind: bytes behind the header, in place of what aligns the data.
    """

    entries: dict[str, tuple[int, Any]]
    tensors: list[tuple[str, tuple[int, ...], int, int]]
    data: bytes
    magic: bytes = b"GGUF"
    version: int = 3
    counts: tuple[int | None, int | None] = (None, None)
    more: list[bytes] = field(default_factory=list)
    behind: bytes | None = None

    def __bytes__(self) -> bytes:
        tensors, entries = (given if given is not None else len(own) for given, own in
                            zip(self.counts, (self.tensors, self.entries), strict=True))  # fmt: skip
        head = self.magic + struct.pack("<IQQ", self.version, tensors, entries)
        for key, (kind, value) in self.entries.items():
            head += _text(key) + struct.pack("<I", kind) + _value(kind, value)
        head += b"".join(self.more)
        for name, axes, kind, offset in self.tensors:
            head += _text(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, kind, offset)
        return head + (b"\0" * (-len(head) % 32) if self.behind is None else self.behind) + self.data


def _text(text: str | bytes) -> bytes:
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if isinstance(value, bytes) and kind != TEXT:
        return value
    if kind == TEXT:
        return _text(value)
    if kind == LIST:
        of, values = value
        return struct.pack("<IQ", of, len(values)) + b"".join(_value(of, one) for one in values)
    return struct.pack(f"<{_LETTERS[kind]}", value)


def parts_of(path: Path) -> Parts:
    """An honest file in parts."""
    reader = gguf.GGUFReader(path)
    entries: dict[str, tuple[int, Any]] = {}
    for key, found in reader.fields.items():
        if not key.startswith("GGUF."):
            kind, value = int(found.types[0]), found.contents()
            entries[key] = (kind, (int(found.types[1]), value) if kind == LIST else value)
    tensors = [
        (one.name, tuple(int(n) for n in one.shape), int(one.tensor_type), int(one.data_offset - reader.data_offset))
        for one in reader.tensors
    ]
    return Parts(entries, tensors, path.read_bytes()[reader.data_offset :])


Spoil = Callable[[Parts], object]


def entry(key: str, kind: int, value: Any) -> Spoil:
    return lambda parts: parts.entries.update({key: (kind, value)})


def without(*keys: str) -> Spoil:
    return lambda parts: [parts.entries.pop(key) for key in keys]


def part(**values: Any) -> Spoil:
    def spoil(parts: Parts) -> None:
        for name, value in values.items():
            setattr(parts, name, value)

    return spoil


def tensor(number: int, **values: Any) -> Spoil:
    """Another name, axes, kind or offset of a tensor."""

    def spoil(parts: Parts) -> None:
        row = dict(zip(("name", "axes", "kind", "offset"), parts.tensors[number], strict=True)) | values
        parts.tensors[number] = row["name"], row["axes"], row["kind"], row["offset"]

    return spoil


def tokens(change: Callable[[list[Any]], object], key: str = "tokens") -> Spoil:
    return lambda parts: change(parts.entries[f"tokenizer.ggml.{key}"][1][1])


def template(text: str) -> Spoil:
    return entry("tokenizer.chat_template", TEXT, text)


KINDS: dict[str, Spoil] = {
    "another magic": part(magic=b"GGML"),
    "version 1": part(version=1),
    "version without end": part(version=(1 << 32) - 1),
    "the other byte order": part(version=3 << 24),
    "tensors without end": part(counts=((1 << 64) - 1, None)),
    "tensors: one more than there are": part(counts=(10**4, None)),
    "entries without end": part(counts=(None, (1 << 63) + 7)),
    "entries: one more than there are": part(counts=(None, 10**4)),
    "entries: fewer than there are": part(counts=(None, 3)),
    "no tensors": part(tensors=[], data=b""),
    "no entries": part(entries={}),
    "a key without end": part(more=[struct.pack("<Q", 1 << 62)], counts=(None, 10**3)),
    "a key of nothing": entry("", U32, 1),
    "a key of 100,000 characters": entry("k" * 100_000, U32, 1),
    "a key with codes": entry("\x1b]0;owned\x07\0", TEXT, "\x1b[31m"),
    "a text that is no text": entry("general.name", TEXT, b"\xff\xfe\x00\xd8"),
    "a text without end": entry("general.name", TEXT, b"x" * (1 << 21)),
    "a type that is none": entry("general.name", 13, b""),
    "a type without end": entry("general.name", (1 << 32) - 1, b""),
    "a list in a list": entry("general.tags", LIST, struct.pack("<IQ", LIST, 4) + struct.pack("<IQ", U8, 0) * 4),
    "a list without end": entry("general.tags", LIST, struct.pack("<IQ", U8, 1 << 60)),
    "a list of texts without end": entry("general.tags", LIST, struct.pack("<IQ", TEXT, (1 << 22) - 1)),
    "a list of nothing, two million times": entry("general.tags", LIST, struct.pack("<IQ", TEXT, 1 << 21) + bytes(1 << 24)),
    "a truth of 7": entry("tokenizer.ggml.add_bos_token", BOOL, b"\7"),
    "architecture: none": without("general.architecture"),
    "architecture: a number": entry("general.architecture", U32, 7),
    "architecture: a list": entry("general.architecture", LIST, (TEXT, ["llama"])),
    "architecture: unknown": entry("general.architecture", TEXT, "evil"),
    "architecture: a path": entry("general.architecture", TEXT, "../../../etc/passwd"),
    "architecture: another": entry("general.architecture", TEXT, "mamba"),
    "architecture: of experts": entry("general.architecture", TEXT, "qwen3moe"),
    "layers: none": entry("llama.block_count", U32, 0),
    "layers: without end": entry("llama.block_count", U32, (1 << 32) - 1),
    "layers: below 0": entry("llama.block_count", I32, -2),
    "layers: a text": entry("llama.block_count", TEXT, "two"),
    "layers: a broken number": entry("llama.block_count", F32, float("nan")),
    "layers: fewer": entry("llama.block_count", U32, 1),
    "layers: missing": without("llama.block_count"),
    "width: none": entry("llama.embedding_length", U32, 0),
    "width: another": entry("llama.embedding_length", U32, 17),
    "width: without end": entry("llama.embedding_length", U64, 1 << 62),
    "width: missing": without("llama.embedding_length"),
    "heads: none": entry("llama.attention.head_count", U32, 0),
    "heads: of each layer": entry("llama.attention.head_count", LIST, (U32, [2, 1])),
    "heads: without end": entry("llama.attention.head_count_kv", LIST, (U32, [1 << 31] * 1000)),
    "heads: that do not divide": entry("llama.attention.head_count_kv", U32, 3),
    "heads: of 0 keys": entry("llama.attention.head_count_kv", U32, 0),
    "inner width: without end": entry("llama.feed_forward_length", U32, (1 << 32) - 1),
    "inner width: of each layer": entry("llama.feed_forward_length", LIST, (U32, [24, 24])),
    "context: none": entry("llama.context_length", U32, 0),
    "context: without end": entry("llama.context_length", U64, (1 << 64) - 1),
    "epsilon: infinite": entry("llama.attention.layer_norm_rms_epsilon", F32, float("inf")),
    "epsilon: a text": entry("llama.attention.layer_norm_rms_epsilon", TEXT, "small"),
    "rope: base 0": entry("llama.rope.freq_base", F32, 0.0),
    "rope: base no number": entry("llama.rope.freq_base", F32, float("nan")),
    "rope: dimensions without end": entry("llama.rope.dimension_count", U32, (1 << 32) - 1),
    "rope: scaled": entry("llama.rope.scaling.factor", F32, 1e38),
    "vocabulary: larger": entry("llama.vocab_size", U32, 1 << 30),
    "alignment: none": entry("general.alignment", U32, 0),
    "alignment: of 3": entry("general.alignment", U32, 3),
    "alignment: without end": entry("general.alignment", U32, 1 << 31),
    "alignment: a text": entry("general.alignment", TEXT, "x"),
    "cut in parts": entry("split.count", U16, 4),
    "an adapter": entry("general.type", TEXT, "adapter"),
    "tokens: none": without("tokenizer.ggml.tokens"),
    "tokens: numbers": entry("tokenizer.ggml.tokens", LIST, (U32, list(range(263)))),
    "tokens: one text": entry("tokenizer.ggml.tokens", TEXT, "abc"),
    "tokens: fewer": tokens(lambda found: found.__delitem__(slice(100, None))),
    "tokens: more": tokens(lambda found: found.extend(f"w{n}" for n in range(20_000))),
    "tokens: all alike": tokens(lambda found: found.__setitem__(slice(None), ["x"] * len(found))),
    "tokens: of nothing": tokens(lambda found: found.__setitem__(5, "")),
    "tokens: codes": tokens(lambda found: found.__setitem__(5, "\x1b[2J")),
    "tokens: long": tokens(lambda found: found.__setitem__(5, "x" * 500_000)),
    "tokens: no text": tokens(lambda found: found.__setitem__(5, b"\xff\xff")),
    "token types: fewer": tokens(lambda found: found.pop(), "token_type"),
    "token types: unknown": tokens(lambda found: found.__setitem__(slice(None), [99] * len(found)), "token_type"),
    "token types: all control": tokens(lambda found: found.__setitem__(slice(None), [3] * len(found)), "token_type"),
    "merges: none": without("tokenizer.ggml.merges"),
    "merges: of nothing": entry("tokenizer.ggml.merges", LIST, (TEXT, ["q1 q2", "", " ", "a", "a b c"])),
    "merges: many": entry("tokenizer.ggml.merges", LIST, (TEXT, ["a b"] * 20_000)),
    "scores: no numbers": entry("tokenizer.ggml.scores", LIST, (F32, [float("nan")] * 263)),
    "words: sentencepiece without scores": entry("tokenizer.ggml.model", TEXT, "llama"),
    "words: a list": entry("tokenizer.ggml.pre", LIST, (TEXT, ["gpt-2"])),
    "words: of a kind that is none": entry("tokenizer.ggml.model", TEXT, "evil"),
    "words: no kind": without("tokenizer.ggml.model"),
    "words: a whole tokenizer beside": entry("tokenizer.huggingface.json", TEXT, "{" * 100_000),
    "end: outside": entry("tokenizer.ggml.eos_token_id", U32, 10**9),
    "end: below 0": entry("tokenizer.ggml.eos_token_id", I32, -1),
    "end: a text": entry("tokenizer.ggml.eos_token_id", TEXT, "2"),
    "beginning: outside": entry("tokenizer.ggml.bos_token_id", U64, (1 << 64) - 1),
    "template: a loop without end": template("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"),
    "template: out of the sandbox": template("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}"),
    "template: a number": entry("tokenizer.chat_template", U32, 3),
    "tensors: two of one name": lambda parts: parts.tensors.__setitem__(1, parts.tensors[0]),
    "tensors: a path": tensor(0, name="../../evil"),
    "tensors: a name without end": tensor(0, name="n" * 100_000),
    "tensors: no name": tensor(0, name=""),
    "tensors: a layer beyond": tensor(2, name="blk.99999999999.attn_q.weight"),
    "tensors: five axes": tensor(0, axes=(1, 1, 1, 16, 263)),
    "tensors: no axes": tensor(0, axes=()),
    "tensors: an axis of nothing": tensor(0, axes=(0, 263)),
    "tensors: axes that overflow": tensor(0, axes=(1 << 63, 1 << 63)),
    "tensors: axes of 2^32 twice": tensor(0, axes=(1 << 32, 1 << 32)),
    "tensors: turned": tensor(0, axes=(263, 16)),
    "tensors: a type that is none": tensor(0, kind=63),
    "tensors: a type without end": tensor(0, kind=(1 << 32) - 1),
    "tensors: a type that went": tensor(0, kind=4),
    "tensors: whole numbers": tensor(0, kind=26),
    "tensors: two bits": tensor(0, kind=10),
    "tensors: behind the end": tensor(0, offset=1 << 62),
    "tensors: at the very end": lambda parts: tensor(0, offset=len(parts.data) // 32 * 32)(parts),
    "tensors: at an odd place": tensor(0, offset=7),
    "tensors: all at one place": lambda parts: [tensor(n, offset=0)(parts) for n in range(len(parts.tensors))],
    "tensors: one is missing": lambda parts: parts.tensors.pop(3),
    "data: half of it": lambda parts: part(data=parts.data[: len(parts.data) // 2])(parts),
    "data: none": part(data=b""),
    "data: no number": lambda parts: part(data=np.full(len(parts.data) // 4, np.nan, "<f4").tobytes())(parts),
    "data: infinite": lambda parts: part(data=np.full(len(parts.data) // 4, np.inf, "<f4").tobytes())(parts),
    "data: not aligned": part(behind=b""),
}  # fmt: skip
if os.environ.get("GF_ATTACK") != "all":  # each takes a second: a third in every run, all with `make attack`
    KINDS = dict(list(KINDS.items())[::3])
# What stands in the place of a file.
PLACES: dict[str, Callable[[Path, Path], object]] = {
    "a pipe": lambda path, honest: os.mkfifo(path),
    "a folder": lambda path, honest: path.mkdir(),
    "/dev/zero": lambda path, honest: path.symlink_to("/dev/zero"),
    "round in circles": lambda path, honest: path.symlink_to(path),
    "nothing": lambda path, honest: path.write_bytes(b""),
    "four bytes": lambda path, honest: path.write_bytes(b"GGUF"),
    "a pointer of Git LFS": lambda path, honest: path.write_text(
        "version https://git-lfs.github.com/spec/v1\nsize 9\n"
    ),
    "a page of the web": lambda path, honest: path.write_text("<!DOCTYPE html><title>404</title>"),
    **{
        f"the first {share:.0%}": lambda path, honest, share=share: path.write_bytes(
            honest.read_bytes()[: int(share * honest.stat().st_size)]
        )
        for share in (0.01, 0.05, 0.1, 0.3, 0.99)
    },
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Ended]]:
    """How the import of each file ended, and then a question to the model where there was one."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "doc.txt").write_text("The tree is green. The house is red.\n" * 4)
    honest = folder / "honest.gguf"
    write_gguf(honest, CONFIG, library.published_tensors(library.random_network(clean_config(CONFIG))))
    names = ["honest", *KINDS, *PLACES]
    imports, asks = [], []
    for n, name in enumerate(names):
        path = folder / f"{n}.gguf"
        if name in PLACES:
            PLACES[name](path, honest)
        else:
            parts = parts_of(honest)
            KINDS.get(name, lambda parts: None)(parts)
            path.write_bytes(bytes(parts))
        prompt = [] if name == "honest" or name.startswith("template") else ["--prompt", "plain"]
        imports.append(["model", "import", str(path), "-o", str(folder / f"out-{n}"), *prompt])
        asks.append(["ask", str(folder / "doc.txt"), "What is green?", "-m", str(folder / f"out-{n}"), "-n", "4"])
    first = run_limited(imports, folder, LOADED)
    served = [n for n, end in enumerate(first) if end.code == 0]
    second = dict(zip(served, run_limited([asks[n] for n in served], folder, LOADED), strict=True))
    return {name: [first[n], *([second[n]] if n in second else [])] for n, name in enumerate(names)}


@pytest.mark.slow
def test_an_honest_file_is_taken_and_answers_within_these_limits(ended: dict[str, list[Ended]]) -> None:
    assert [end.code for end in ended["honest"]] == [0, 0], ended["honest"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, *PLACES])
def test_a_strange_file_ends_in_a_sentence_or_an_answer(kind: str, ended: dict[str, list[Ended]]) -> None:
    for end in ended[kind]:
        assert end.code in (0, 2, 4, 5, 6, 7, 8), (end.code, end.err[-800:])
        assert "Traceback" not in end.err, end.err[-800:]
        assert "\x1b" not in end.err + end.out
        errors = [line for line in end.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == (end.code != 0), end.err[-800:]
        assert all(len(line) < 700 for line in errors), end.err[-800:]


# Of which nothing can be made that was meant.
REFUSED = ("cut in parts", "an adapter", "a list of nothing", "data: n", "data: h", "tensors: t", *PLACES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in (*KINDS, *PLACES) if kind.startswith(REFUSED)])
def test_what_cannot_be_a_model_is_refused(kind: str, ended: dict[str, list[Ended]]) -> None:
    assert ended[kind][0].code in (2, 4, 5, 6), (ended[kind][0].code, ended[kind][0].err[-400:])
