"""Folders of models of strangers, imported and asked with little memory and time: a sentence, or an answer."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.goldfinch.foreign.folders import write_folder
from tests.limited import Ended, run_limited

Spoil = Callable[[Path], object]
LOADED = ("transformers.models.llama.modeling_llama", "transformers.models.mamba.modeling_mamba",
          "goldfinch.foreign.importing", "jinja2.sandbox")  # fmt: skip


def edited(name: str, change: Callable[[Any], object]) -> Spoil:
    """A JSON file of the folder with a change made in place."""

    def spoil(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        change(values)
        (folder / name).write_text(json.dumps(values))

    return spoil


def config(**values: Any) -> Spoil:
    return edited("config.json", lambda found: found.update(values))


def setting(**values: Any) -> Spoil:
    return edited("tokenizer_config.json", lambda found: found.update(values))


def template(text: str) -> Spoil:
    return setting(chat_template=text)


def tokenizer(**values: Any) -> Spoil:
    return edited("tokenizer.json", lambda found: found.update(values))


def vocabulary(change: Callable[[dict[str, int]], object]) -> Spoil:
    return edited("tokenizer.json", lambda found: change(found["model"]["vocab"]))


def text_file(name: str, text: str) -> Spoil:
    return lambda folder: (folder / name).write_text(text)


def weights(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return spoil


def header(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Weights whose header says something else of the same bytes."""

    def spoil(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        values = json.loads(data[8 : 8 + size])
        change(values)
        body = json.dumps(values).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(body)) + body + data[8 + size :])

    return spoil


def sharded(shards: dict[str, str], make: Callable[[Path], object] = lambda folder: None) -> Spoil:
    def spoil(folder: Path) -> None:
        names = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").rename(folder / "first.safetensors")
        table = dict.fromkeys(names, "first.safetensors") | shards
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
        make(folder)

    return spoil


def linked(name: str, target: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return spoil


def folder_instead(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


SPLIT = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
GROWS = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 1_000_000}
CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAD/////" * 50}
LLAMA: dict[str, Spoil] = {
    "rope: factor without end": config(rope_scaling={"rope_type": "dynamic", "factor": 1e308}),
    "rope: yarn without its fields": config(rope_scaling={"rope_type": "yarn"}),
    "rope: llama3 of texts": config(rope_scaling={"rope_type": "llama3", "factor": "x", "low_freq_factor": [], "high_freq_factor": {}, "original_max_position_embeddings": None}),
    "rope: longrope with a million factors": config(rope_scaling={"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] * 100_000, "long_factor": [1.0] * 100_000}),
    "rope: a list": config(rope_scaling=[1, 2]),
    "rope: a type of its own": config(rope_scaling={"rope_type": "__import__('os')"}),
    "rope: theta 0": config(rope_theta=0),
    "rope: theta below 0": config(rope_theta=-1.0),
    "rope: theta a text": config(rope_theta="10000"),
    "rope: parameters without theta": config(rope_parameters={"rope_type": "default"}),
    "heads that do not divide": config(num_key_value_heads=3),
    "no key heads": config(num_key_value_heads=0),
    "an odd head": config(head_dim=7),
    "a head of nothing": config(head_dim=0),
    "epsilon below 0": config(rms_norm_eps=-1.0),
    "epsilon a text": config(rms_norm_eps="small"),
    "no positions": config(max_position_embeddings=0),
    "positions without end": config(max_position_embeddings=1 << 62),
    "a vocabulary without end": config(vocab_size=(1 << 31) - 1),
    "a vocabulary of 1": config(vocab_size=1),
    "padding outside the vocabulary": config(pad_token_id=10**9),
    "padding below 0": config(pad_token_id=-7),
    "ends without end": config(eos_token_id=list(range(100_000))),
    "an end below 0": config(eos_token_id=-1),
    "an end of another kind": config(eos_token_id={"a": 1}),
    "a beginning outside": config(bos_token_id=1 << 40),
    "a dtype that is none": config(torch_dtype="os.system", dtype="os.system"),
    "a dtype of half bytes": config(dtype="float4"),
    "an implementation of its own": config(_attn_implementation="someone/kernel", attn_implementation="someone/kernel"),
    "tied perhaps": config(tie_word_embeddings="maybe"),
    "layer types of another length": config(layer_types=["full_attention"]),
    "layer types without end": config(layer_types=["full_attention"] * 1_000_000),
    "a layer type of its own": config(layer_types=["evil", "full_attention"]),
    "windows below 0": config(sliding_window=-5, use_sliding_window=True, layer_types=["sliding_attention"] * 2),
    "per-layer settings nested": config(text_config={"text_config": {"text_config": {}}}),
    "architectures of code": config(architectures=["../../evil", "LlamaForCausalLM"]),
    "dropout": config(attention_dropout=1.0, hidden_dropout=1.0),
    "pretraining_tp": config(pretraining_tp=1 << 20),
    "labels without end": config(id2label={str(n): "x" for n in range(200_000)}),
    "return_dict false": config(return_dict=False, use_return_dict=False, output_attentions=True, output_hidden_states=True),
    "use_cache false": config(use_cache=False),
    "is_decoder false": config(is_decoder=False, is_encoder_decoder=True),
    "chunked feed-forward": config(chunk_size_feed_forward=3),
    "pruned heads": config(pruned_heads={"0": [0, 1]}),
    "a surrogate": text_file("config.json", '{"model_type": "llama", "x": "\\ud800"}'),
    "a NaN": text_file("config.json", '{"model_type": "llama", "rms_norm_eps": NaN}'),
    "another encoding": lambda folder: (folder / "config.json").write_bytes((folder / "config.json").read_text().encode("utf-16")),
    "template: a loop without end": template("{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}{{ messages[0].content }}"),
    "template: a text without end": template("{{ 'x' * 10000000000 }}{{ messages[0].content }}"),
    "template: doubling": template("{% set ns = namespace(a='x') %}{% for b in range(99) %}{% set ns.a = ns.a + ns.a %}{% endfor %}{{ ns.a }}{{ messages[0].content }}"),
    "template: a number without end": template("{{ 9 ** 9 ** 9 ** 9 }}{{ messages[0].content }}"),
    "template: padding": template("{{ '%9999999999d' % 1 }}{{ '{:>9999999999}'.format(1) }}{{ messages[0].content }}"),
    "template: centred": template("{{ 'a'.center(9999999999) }}{{ 'a' | center(9999999999) }}{{ messages[0].content }}"),
    "template: a list without end": template("{{ [0] * 9999999999 }}{{ messages[0].content }}"),
    "template: a macro that calls itself": template("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}{{ messages[0].content }}"),
    "template: out of the sandbox": template("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}"),
    "template: a file": template("{% include '/etc/passwd' %}{{ messages[0].content }}"),
    "template: raises": template("{{ raise_exception('no') }}"),
    "template: broken": template("{% for %}"),
    "template: without the message": template("hello"),
    "template: nested": template("{% if 1 %}" * 3000 + "{{ messages[0].content }}" + "{% endif %}" * 3000),
    "template: brackets": template("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}{{ messages[0].content }}"),
    "template: long": template("x" * 3_000_000 + "{{ messages[0].content }}"),
    "template: of another kind": setting(chat_template=[{"name": "default", "template": 7}, 3]),
    "template: many": setting(chat_template=[{"name": str(n), "template": "x"} for n in range(100_000)]),
    "template: the message a thousand times": template("{% for a in range(100000) %}{{ messages[0].content }}{% endfor %}"),
    "template: sorts for ever": template("{{ range(99999) | list | sort | groupby(0) }}{{ messages[0].content }}"),
    "settings: a class of its own": setting(tokenizer_class="../../evil", auto_map={"AutoTokenizer": ["evil.Evil", None]}),
    "settings: marks of another kind": setting(bos_token={"content": {"content": 3}}, eos_token=["<|end|>"]),
    "settings: an end that is no token": setting(eos_token="<|nothing|>"),
    "settings: a mark without end": setting(bos_token="x" * 1_000_000),
    "generation: ends without end": text_file("generation_config.json", json.dumps({"eos_token_id": list(range(-5, 100_000))})),
    "generation: a pipe": lambda folder: os.mkfifo(folder / "generation_config.json"),
    "generation: nested": text_file("generation_config.json", "[" * 200_000),
    "tokenizer: goes back for ever": tokenizer(pre_tokenizer=SPLIT),
    "tokenizer: grows": tokenizer(normalizer=GROWS),
    "tokenizer: precompiled garbage": tokenizer(normalizer=CHARSMAP),
    "tokenizer: ids without end": vocabulary(lambda vocab: vocab.update({"zz": (1 << 32) - 1})),
    "tokenizer: ids below 0": vocabulary(lambda vocab: vocab.update({"zz": -1})),
    "tokenizer: two of one id": vocabulary(lambda vocab: vocab.update({"zz": 7})),
    "tokenizer: nothing": vocabulary(lambda vocab: vocab.clear()),
    "tokenizer: ids beyond the model": vocabulary(lambda vocab: vocab.update({f"w{n}": 262 + n for n in range(9)})),
    "tokenizer: merges of nothing": edited("tokenizer.json", lambda t: t["model"].update(merges=[["q1", "q2"]])),
    "tokenizer: an empty added token": edited("tokenizer.json", lambda t: t["added_tokens"].append({**t["added_tokens"][0], "id": 299, "content": ""})),
    "tokenizer: dropout": edited("tokenizer.json", lambda t: t["model"].update(dropout=0.5)),
    "tokenizer: truncates": tokenizer(truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
    "tokenizer: pads": tokenizer(padding={"strategy": {"Fixed": 1_000_000_000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<|pad|>"}),
    "tokenizer: inserts without end": tokenizer(post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}}] * 100_000, "pair": [], "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [1], "tokens": ["<|begin|>"]}}}),
    "weights: half of them": weights(lambda tensors: [tensors.pop(name) for name in sorted(tensors)[::2]]),
    "weights: others beside": weights(lambda tensors: tensors.update({f"x{n}": tensors["model.norm.weight"].clone() for n in range(20_000)})),
    "weights: no number": weights(lambda tensors: tensors["model.norm.weight"].fill_(float("nan"))),
    "weights: infinite": weights(lambda tensors: tensors["model.embed_tokens.weight"].fill_(float("inf"))),
    "weights: turned": weights(lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.weight": tensors["model.layers.0.mlp.up_proj.weight"].T.contiguous()})),
    "weights: whole numbers": weights(lambda tensors: tensors.update({"model.norm.weight": tensors["model.norm.weight"].int()})),
    "weights: complex": weights(lambda tensors: tensors.update({"model.norm.weight": tensors["model.norm.weight"].bool()})),
    "weights: 8 bits": header(lambda rows: rows["model.norm.weight"].update(dtype="F8_E4M3", shape=[128])),
    "weights: rows that overlap": header(lambda rows: rows["model.norm.weight"].update(data_offsets=[0, 128])),
    "weights: shapes without end": header(lambda rows: rows["model.norm.weight"].update(shape=[1 << 40])),
    "weights: below 0": header(lambda rows: rows["model.norm.weight"].update(data_offsets=[-128, 0])),
    "weights: a folder": folder_instead("model.safetensors"),
    "weights: /dev/zero": linked("model.safetensors", "/dev/zero"),
    "config: /dev/zero": linked("config.json", "/dev/zero"),
    "tokenizer: /dev/zero": linked("tokenizer.json", "/dev/zero"),
    "settings: /dev/zero": linked("tokenizer_config.json", "/dev/zero"),
    "weights: round in circles": linked("model.safetensors", "model.safetensors"),
    "shards: a pipe": sharded({"x": "pipe.safetensors"}, lambda folder: os.mkfifo(folder / "pipe.safetensors")),
    "shards: a folder": sharded({"x": "more.safetensors"}, lambda folder: (folder / "more.safetensors").mkdir()),
    "shards: 100,000": sharded({f"x{n}": f"{n}.safetensors" for n in range(100_000)}),
    "shards: of another kind": sharded({"x": ["first.safetensors"]}),  # type: ignore[dict-item]
    "shards: a name with a NUL": sharded({"x": "a\0b.safetensors"}),
    "shards: above": sharded({"x": "../../../../etc/passwd"}),
}  # fmt: skip
MAMBA: dict[str, Spoil] = {
    "states without end": config(state_size=1 << 20),
    "no window": config(conv_kernel=0),
    "a window below 0": config(conv_kernel=-4),
    "a rank below 0": config(time_step_rank=-1),
    "a rank of a text": config(time_step_rank="many"),
    "expanded without end": config(expand=1e9),
    "expanded by nothing": config(expand=0),
    "no states": config(state_size=0),
}
# Kinds that may bear on the prompts that a model has, or on what it answers in them.
OF_PROMPTS = ("template", "settings", "generation", "tokenizer", "weights")
KINDS = {
    f"{of}: {name}": (of, spoil) for of, kinds in (("llama", LLAMA), ("mamba", MAMBA)) for name, spoil in kinds.items()
}
if os.environ.get("GF_ATTACK") != "all":  # each takes a second: a third in every run, all with `make attack`
    KINDS = dict(list(KINDS.items())[::3])


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Ended]]:
    """How the import of each folder ended, and then a question to the model where there was one."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "doc.txt").write_text("The tree is green. The house is red.\n" * 4)
    imports, asks = [], []
    for of in ("llama", "mamba"):
        write_folder(folder / of, of)
    honest: dict[str, tuple[str, Spoil]] = {of: (of, lambda path: None) for of in ("llama", "mamba")}
    for n, (name, (of, spoil)) in enumerate((KINDS | honest).items()):
        shutil.copytree(folder / of, folder / f"{n}")
        spoil(folder / f"{n}")
        # Which prompt is better, 24 questions find out; one, below, is enough of a configuration.
        prompt = [] if name in honest or name.partition(": ")[2].startswith(OF_PROMPTS) else ["--prompt", "plain"]
        imports.append(["model", "import", str(folder / f"{n}"), "-o", str(folder / f"out-{n}"), *prompt])
        asks.append(["ask", str(folder / "doc.txt"), "What is green?", "-m", str(folder / f"out-{n}"), "-n", "4"])
    first = run_limited(imports, folder, LOADED)
    served = [n for n, end in enumerate(first) if end.code == 0]
    second = dict(zip(served, run_limited([asks[n] for n in served], folder, LOADED), strict=True))
    names = (*KINDS, *honest)
    return {name: [first[n], *([second[n]] if n in second else [])] for n, name in enumerate(names)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_an_honest_folder_is_taken_and_answers_within_these_limits(kind: str, ended: dict[str, list[Ended]]) -> None:
    assert [end.code for end in ended[kind]] == [0, 0], ended[kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_strange_folder_ends_in_a_sentence_or_an_answer(kind: str, ended: dict[str, list[Ended]]) -> None:
    for end in ended[kind]:
        assert end.code in (0, 2, 4, 5, 6, 7, 8), (end.code, end.err[-800:])
        assert "Traceback" not in end.err, end.err[-800:]
        errors = [line for line in end.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == (end.code != 0), end.err[-800:]
        assert all(len(line) < 700 for line in errors), end.err[-800:]
