"""Model directories and published files as a stranger might leave them, each with one thing wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Change = Callable[[Path], None]


def copied(source: Path, folder: Path, change: Change) -> Path:
    shutil.copytree(source, folder)
    change(folder)
    return folder


def other_file(name: str, make: Change) -> Change:
    """Something else in place of a file of the directory."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def card(**changes: Any) -> Change:
    """Other values in config.json: at the top, or of an object there by "config.n_layer"."""

    def change(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text())
        for name, value in changes.items():
            part, _, inner = name.rpartition("__")
            (values[part] if part else values)[inner] = value
        values["template_fingerprint"] = None
        (folder / "config.json").write_text(json.dumps(values))

    return change


def card_text(text: str) -> Change:
    return lambda folder: (folder / "config.json").write_text(text) and None


CARDS: dict[str, Change] = {
    **{f"n_layer {value!r}": card(config__n_layer=value)
       for value in (200_000, 2**31 - 1, -1, 1.5, "3", True, None, [3], 1000)},
    "d_model 2^40": card(config__d_model=2**40),
    "d_ffn 2^31-1": card(config__d_ffn=2**31 - 1),
    "vocab_size 2^31-1": card(config__vocab_size=2**31 - 1),
    "vocab_size 2^21": card(config__vocab_size=2**21),
    "head_dim 0": card(config__head_dim=0),
    "layer_ratio 10^9": card(config__layer_ratio=10**9),
    "time_mix list": card(config__time_mix=["finch"]),
    "rope 10^300": card(config__rope={"base": 1e300, "rescale": 1.0, "rebase": 1.0}),
    "an unknown field": card(config__colour="gold"),
    "config is a list": card(config=[1]),
    "config is null": card(config=None),
    "template is a text": card(template="x"),
    **{f"name {type(value).__name__} {n}": card(name=value)
       for n, value in enumerate((["a"], {"a": 1}, None, 7, "", "x" * 10_000, "a\x1b[2J", "a\nb", "\ud800", "\u202egfg"))},
    "a prefix of 20 MB": card(template__document_prefix="x" * 20_000_000),
    "a prefix of 100 kB": card(template__document_prefix="x" * 100_000),
    "half a pair": card(template__question_suffix="\udc00"),
    "a suffix that is a list": card(template__question_suffix=["a"]),
    "stop is a text": card(template__stop="x"),
    "stop holds numbers": card(template__stop=[1]),
    "stop holds nothing": card(template__stop=[""]),
    "a million stops": card(template__stop=["a"] * 10_000),
    "bos beyond the vocabulary": card(template__bos_token_id=512),
    "end beyond the vocabulary": card(template__end_token_id=2**40),
    "bos -1": card(template__bos_token_id=-1),
    "bos true": card(template__bos_token_id=True),
    "a tokenizer elsewhere": card(tokenizer_file="../../etc/passwd"),
    "a fingerprint that is a list": card(model_fingerprint=["a"]),
    "an unknown field at the top": card(run="rm -rf /"),
    "nested without end": card_text("[" * 900_000),
    "objects without end": card_text('{"a":' * 150_000),
    "NaN": card_text('{"name": NaN}'),
    "a number of a million digits": card_text('{"name": ' + "9" * 1_000_000 + "}"),
    "not UTF-8": lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{}") and None,
    "config.json is a pipe": other_file("config.json", os.mkfifo),
    "config.json is endless": other_file("config.json", lambda path: path.symlink_to("/dev/zero")),
    "config.json is a folder": other_file("config.json", lambda path: path.mkdir()),
    "config.json leads nowhere": other_file("config.json", lambda path: path.symlink_to("nothing")),
}  # fmt: skip


def tokenizer(edit: Callable[[dict[str, Any]], object]) -> Change:
    """An edited tokenizer.json; the card names its fingerprint."""

    def change(folder: Path) -> None:
        values = json.loads((folder / "tokenizer.json").read_text())
        edit(values)
        tokenizer_text(json.dumps(values))(folder)

    return change


def tokenizer_text(text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / "tokenizer.json").write_text(text)
        card(tokenizer_fingerprint=hashlib.sha256(text.encode()).hexdigest())(folder)

    return change


def added(*contents: str, first: int = 300) -> list[dict[str, Any]]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return [{"id": first + n, "content": content, **flags} for n, content in enumerate(contents)]


def set_in(path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def edit(values: dict[str, Any]) -> None:
        *parts, last = path.split(".")
        for part in parts:
            values = values[part]
        values[last] = value

    return edit


_GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 60}
_SLOW = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
TOKENIZERS: dict[str, Change] = {
    "padding 2^40": tokenizer(set_in("padding", {
        "strategy": {"Fixed": 2**40}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "x"})),
    "truncation": tokenizer(set_in("truncation", {
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0})),
    "replacements that grow": tokenizer(set_in("normalizer", {"type": "Sequence", "normalizers": [_GROWING] * 6})),
    "a hundred normalizers": tokenizer(set_in("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100})),
    "a slow pattern": tokenizer(set_in("pre_tokenizer", _SLOW)),
    "a slow pattern in a normalizer": tokenizer(set_in(
        "normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"})),
    "precompiled garbage": tokenizer(set_in(
        "normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAAgP////8AAAAA"})),
    "sequences in sequences": tokenizer(set_in(
        "pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": []}]})),
    "a part that is a text": tokenizer(set_in("pre_tokenizer", "ByteLevel")),
    "a part without a type": tokenizer(set_in("decoder", {"trim_offsets": True})),
    "Unigram": tokenizer(set_in("model", {"type": "Unigram", "unk_id": 2**40, "vocab": [["a", 0.0]]})),
    "a model that is null": tokenizer(set_in("model", None)),
    "an id of 2^31": tokenizer(set_in("model.vocab.ab", 2**31)),
    "an id of -1": tokenizer(set_in("model.vocab.ab", -1)),
    "an id of 1.5": tokenizer(set_in("model.vocab.ab", 1.5)),
    "an id twice": tokenizer(set_in("model.vocab.abcdefg", 5)),
    "an id beyond the embedding": tokenizer(set_in("model.vocab.abcdefg", 5000)),
    "a token of a megabyte": tokenizer(set_in("model.vocab." + "a" * 1_000_000, 400)),
    "a vocabulary that is a list": tokenizer(set_in("model.vocab", [1, 2])),
    "an empty vocabulary": tokenizer(set_in("model.vocab", {})),
    "no token for most bytes": tokenizer(set_in("model.vocab", {"a": 0, "b": 1})),
    "merges of nothing known": tokenizer(set_in("model.merges", [["xyzzy", "plugh"]])),
    "merges that are numbers": tokenizer(set_in("model.merges", [[1, 2]])),
    "a merge of three": tokenizer(set_in("model.merges", ["a b c"])),
    "dropout": tokenizer(set_in("model.dropout", 0.5)),
    "a prefix of every piece": tokenizer(set_in("model.continuing_subword_prefix", "\U0001f600")),
    "added texts, a hundred thousand": tokenizer(set_in("added_tokens", added(*map(str, range(100_000))))),
    "added texts, nested": tokenizer(set_in("added_tokens", added(*("a" * n for n in range(1, 4000))))),
    "an added text of nothing": tokenizer(set_in("added_tokens", added(""))),
    "an added text with an id of its own": tokenizer(set_in("added_tokens", added("xyzzy", first=450))),
    "an added text of half a pair": tokenizer(set_in("added_tokens", added("\ud800"))),
    "added tokens that are a text": tokenizer(set_in("added_tokens", "a")),
    "a pipe": other_file("tokenizer.json", os.mkfifo),
    "endless": other_file("tokenizer.json", lambda path: path.symlink_to("/dev/zero")),
    "leads nowhere": other_file("tokenizer.json", lambda path: path.symlink_to("nothing")),
    "nested without end": tokenizer_text("[" * 900_000),
    "empty": tokenizer_text(""),
}  # fmt: skip


def header(values: Any, *, length: int | None = None, body: bytes = b"") -> Change:
    """A .safetensors file of this header in place of the weights."""

    def change(folder: Path) -> None:
        text = values if isinstance(values, bytes) else json.dumps(values).encode()
        data = struct.pack("<Q", len(text) if length is None else length) + text + body
        (folder / "model.safetensors").write_bytes(data)

    return change


def edited_header(edit: Callable[[dict[str, Any]], object]) -> Change:
    """The weights' own header, edited, and their bytes."""

    def change(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        size = int.from_bytes(data[:8], "little")
        values = json.loads(data[8 : 8 + size])
        edit(values)
        header(values, body=data[8 + size :])(folder)

    return change


def sparse(length: int, size: int) -> Change:
    """A header that claims a length, in a file with a hole."""

    def change(folder: Path) -> None:
        with open(folder / "model.safetensors", "wb") as stream:
            stream.write(struct.pack("<Q", length) + b'{"a"')
            stream.truncate(size)

    return change


def index(values: Any) -> Change:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(values))
        (folder / "a.safetensors").write_bytes(b"x")

    return change


_ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
WEIGHTS: dict[str, Change] = {
    "a pipe": other_file("model.safetensors", os.mkfifo),
    "endless": other_file("model.safetensors", lambda path: path.symlink_to("/dev/zero")),
    "leads nowhere": other_file("model.safetensors", lambda path: path.symlink_to("nothing")),
    "a folder": other_file("model.safetensors", lambda path: path.mkdir()),
    "a header of 99 MB": sparse(99 << 20, 100 << 20),
    "a header of 2^63": header({}, length=2**63),
    "a header beyond the file": header({}, length=1000),
    "a file of three bytes": lambda folder: (folder / "model.safetensors").write_bytes(b"abc") and None,
    "a header that is a list": header([]),
    "a header nested without end": header(b"[" * 900_000),
    "a shape of 2^40": header({"emb.weight": _ONE | {"shape": [2**40, 2**40]}}, body=bytes(4)),
    "a shape of a million ones": header({"emb.weight": _ONE | {"shape": [1] * 1_000_000}}, body=bytes(4)),
    "a shape of -1": header({"emb.weight": _ONE | {"shape": [-1, -1]}}, body=bytes(4)),
    "a shape that is a text": header({"emb.weight": _ONE | {"shape": "1"}}, body=bytes(4)),
    "offsets of 2^62": header({"emb.weight": _ONE | {"data_offsets": [2**62, 2**62 + 4]}}, body=bytes(4)),
    "a tensor over another": header({"a": _ONE, "b": _ONE}, body=bytes(4)),
    "bytes of no tensor": header({"emb.weight": _ONE}, body=bytes(400)),
    "whole numbers": edited_header(lambda values: values["emb.weight"].update(dtype="I32")),
    "an unknown dtype": edited_header(lambda values: values["emb.weight"].update(dtype=["F32"])),
    "a tensor less": edited_header(lambda values: values.pop("ln_out.bias")),
    "another shape": edited_header(lambda values: values["head.weight"].update(shape=[64, 512])),
    "a layer more": edited_header(lambda values: values.update({"blocks.3.x": values.pop("ln_out.bias")})),
    "a layer a billion": edited_header(lambda values: values.update({"blocks.999999999.x": values.pop("ln_out.bias")})),
    "an index of a million": index({"weight_map": {f"t{n}": "a.safetensors" for n in range(500_000)}}),
    "an index of many files": index({"weight_map": {f"t{n}": f"{n}.safetensors" for n in range(10_000)}}),
    "an index that leads out": index({"weight_map": {"a": "../a.safetensors"}}),
    "an index of half a pair": index({"weight_map": {"a": "\ud800.safetensors"}}),
}  # fmt: skip


def archive(pickled: bytes, data: bytes = b"", compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    """A .pth with this pickle and the bytes of one storage."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as out:
            out.writestr("m/data.pkl", pickled)
            out.writestr("m/data/0", data)
            out.writestr("m/version", "3\n")

    return write


class Shown:
    """Pickled as a tensor that shows a storage as it is told."""

    def __init__(self, count: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = count, size, stride


def described(count: int, size: tuple[int, ...], stride: tuple[int, ...], data: bytes) -> Callable[[Path], None]:
    """A .pth of one tensor whose storage claims `count` numbers."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(value, Shown) else None

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Rebuilt):
                return torch._utils._rebuild_tensor_v2, (Shown(count, size, stride), 0, size, stride, False, None)
            return NotImplemented

    class Rebuilt:
        pass

    out = io.BytesIO()
    Pickler(out, protocol=2).dump({"emb.weight": Rebuilt()})
    return archive(out.getvalue(), data)


def saved(value: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path)


def _quantised() -> Any:
    return torch.quantize_per_tensor(torch.zeros(4, 4), 0.1, 0, torch.qint8)


PICKLES: dict[str, Callable[[Path], None]] = {
    "a bomb of zeros": lambda path: archive(b"\x80\x02}.", bytes(200 << 20), zipfile.ZIP_DEFLATED)(path),
    "a bomb of a pickle": lambda path: archive(bytes(100 << 20), b"", zipfile.ZIP_DEFLATED)(path),
    "five million marks": archive(b"\x80\x02" + b"(" * 5_000_000 + b"."),
    "a value kept under 2^31": archive(b"\x80\x02}r\xff\xff\xff\x7f."),
    "a storage beyond its bytes": described(2**30, (2**15, 2**15), (2**15, 1), bytes(16)),
    "one number shown a billion times": described(4, (2**15, 2**15), (0, 0), bytes(16)),
    "a meta tensor": saved({"emb.weight": torch.empty(2**20, 2**20, device="meta")}),
    "a sparse tensor": saved({"emb.weight": torch.zeros(4, 4).to_sparse()}),
    "a quantised tensor": lambda path: saved({"emb.weight": _quantised()})(path),
    "whole numbers": saved({"emb.weight": torch.zeros(4, 4, dtype=torch.int64)}),
    "a list": saved([torch.zeros(4)]),
    "a dictionary of lists": saved({"emb.weight": [torch.zeros(4)]}),
    "code": archive(pickle.dumps({"emb.weight": print}, protocol=2)),
    "the old form": lambda path: torch.save({"emb.weight": torch.zeros(4)}, path, _use_new_zipfile_serialization=False),
    "not an archive": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)) and None,
    "nothing": lambda path: path.write_bytes(b"") and None,
    "no pickle": lambda path: zipfile.ZipFile(path, "w").close(),
    "two million dictionaries": archive(b"\x80\x02" + b"}" * 2_000_000 + b"."),
    "a pickle cut short": archive(b"\x80\x02}q\x00("),
}  # fmt: skip
