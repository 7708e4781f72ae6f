"""Taking in a model of others (`gf model import PATH`): recognised, cleaned, checked, tried, and noted in a directory.

A folder is registered, not copied: the model directory leads to it. A GGUF file is unpacked once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gfcache.files.atomic import folder_beside
from gfcache.files.locks import output_lock, sweep
from gfcache.files.replace import replacing_folder

from goldfinch.errors import CheckpointError, ModelRefused, TokenizerDamaged
from goldfinch.measure.precision import quickest_dtype
from goldfinch.text.json_files import parse_json
from goldfinch.text.template import PromptTemplate
from goldfinch.text.tokenizer import BytePairTokenizer
from goldfinch.weights.directory import CONFIG_FILE, ModelCard, check_name, read_card
from goldfinch.weights.foreign_config import LIBRARY_CONFIG_FILE, ForeignConfig
from goldfinch.weights.headers import shapes_of_files
from goldfinch.weights.noted import note, state_of

from . import library
from .chat_template import render
from .configuration import check_counts, clean_config, with_window
from .directories import digests_of, fingerprint_of
from .prompt_choice import choose_prompt
from .prompts import chat_prompt, open_tokenizer, plain_template
from .recognise import Found, recognise
from .selfcheck import WINDOW, Check, check_network

BLOCK_TOKENS = 512
Told = Callable[[str], object]


@dataclass(frozen=True)
class _Prompts:
    """What the tokenizer and the templates of a model come to."""

    prompts: dict[str, PromptTemplate]
    stop_token_ids: tuple[int, ...]
    tokenizer: BytePairTokenizer | None


def import_foreign(
    path: Path,
    out: Path,
    *,
    name: str | None = None,
    copy: bool = False,
    prompt: str | None = None,
    told: Told = lambda text: None,
) -> ModelCard:
    """Make a model directory from a folder or a GGUF file of others.

    Args:
        out: the directory; nothing may be there.
        name: of the model; by default that of `out`.
        copy: copy the weights of a folder, instead of leading to them.
        prompt: "plain" or "chat"; by default the one that the model answers better with.
        told: takes words about what is being done, and what to know.

    Raises:
        FileNotFoundError: nothing at `path`.
        ModelRefused: not a model that gf takes, or one that fails its self-check.
        ConfigDamaged, WeightsDamaged, WeightsMismatch, TokenizerDamaged: as said there.
        CheckpointError: `out` exists.
        LibraryMissing: transformers is not installed.
    """
    sweep(out)
    if out.exists():
        raise CheckpointError(f"{out} exists already", hint="choose another output with -o, or remove it first")
    found = recognise(path)
    check_name(name or out.name)
    with ExitStack() as stack:
        if found.is_gguf:
            from .gguf import unpacked

            told("unpacking the GGUF file, once")
            found = unpacked(found, stack.enter_context(_beside(out)))
            copy = True
        library_config = clean_config(found.config)
        shapes = shapes_of_files(found.files)
        check_counts(library_config, shapes)
        told("computing digests of the weights")
        times, files = _times(found.files), digests_of(found.files)
        network, check = _tried(found, library_config, told)
        own = _prompts(found, library.sizes_of(library_config)["vocab_size"], told)
        layers = library.layers_of(network)
        if prompt is None and own.tokenizer is not None and (dtype := quickest_dtype("cpu")) != "f32":
            network = library.network_of(library_config, library.read_tensors(found.files), dtype)
        chosen, figures = _chosen(network, own, check, prompt, told)
        config = ForeignConfig(
            str(library_config["model_type"]), **library.sizes_of(library_config), layers=layers,
            folder=None if copy else str(found.files[0].parent), files=files,
            library_config_digest=hashlib.sha256(_json(library_config)).hexdigest(),
            stop_token_ids=own.stop_token_ids, schedule=check.schedule, block_tokens=BLOCK_TOKENS,
            check=check.figures, prompts=own.prompts, prompt=chosen, prompt_figures=figures,
        )  # fmt: skip
        card = _write(out, name or out.name, found, config, library_config, own)
        if _times(found.files) == times:  # else they are hashed again at the first load
            note(card, state_of(card))
        return card


def _times(files: Iterable[Path]) -> list[tuple[int, int, int]]:
    """What tells files that were hashed from those that were changed meanwhile."""
    return [(found.st_size, found.st_mtime_ns, found.st_ctime_ns) for found in (file.stat() for file in files)]


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A temporary folder under the lock of the output: what a killed import leaves of it, `sweep(out)` removes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with output_lock(out), folder_beside(out) as place:
        yield place


def _tried(found: Found, library_config: dict[str, Any], told: Told) -> tuple[Any, Check]:
    """The network in f32, and what its self-check saw."""
    tensors = library.read_tensors(found.files)
    network = library.network_of(library_config, tensors)
    told("checking that the model computes with a cache what it computes without")
    check = tried_network(network, library_config, tensors)
    if check.schedule != "blocks":
        told("this architecture computes a document in one piece only, and what follows token by token")
    return network, check


def tried_network(network: Any, library_config: Mapping[str, Any], tensors: Mapping[str, Any]) -> Check:
    """The self-check of a network in f32, its window made short in a copy.

    Raises:
        ModelRefused: see `check_network`.
    """
    windowed = None
    if any(layer.kind == "sliding" for layer in library.layers_of(network)):
        narrow = with_window(library_config, WINDOW)
        if narrow is None:
            raise ModelRefused(f"{library_config['model_type']} slides a window that gf cannot try with a short one")
        windowed = library.network_of(narrow, tensors)
    sizes = library.sizes_of(library_config)
    return check_network(
        network, windowed, vocab_size=sizes["vocab_size"], name=str(library_config["model_type"])
    )  # fmt: skip


def _prompts(found: Found, rows: int, told: Told) -> _Prompts:
    """The prompts that a model can use: plain, and its own for chats where it has one that can be rendered.

    Args:
        rows: of the model's embedding; tokens beyond them end nothing.
    """
    ends = [one for one in found.end_token_ids if one < rows]
    if found.tokenizer_file is None:
        told("the folder has no tokenizer.json: the model cannot read text")
        return _Prompts({}, tuple(ends), None)
    tokenizer = BytePairTokenizer(found.tokenizer_file, every_byte=False)
    added = {text: token_id for text, token_id in tokenizer.added_tokens.items() if token_id < rows}
    eos = added.get(found.special_texts.get("eos_token", ""))
    if eos is not None and eos not in ends:
        ends.append(eos)
    rendered = None
    if found.chat_template is not None:
        try:
            rendered = render(found.chat_template, found.special_texts)
        except ModelRefused as error:
            told(f"{error}; the plain prompt is used")
    if rendered is not None:
        end = min((at, text) for text in added if (at := rendered.turn_end.find(text)) >= 0 and text.strip()) \
            if any(text in rendered.turn_end and text.strip() for text in added) else None  # fmt: skip
        if end is not None and added[end[1]] not in ends:
            ends.append(added[end[1]])
    first = ends[0] if ends else None
    prompts = {"plain": plain_template(beginning_of(found, tokenizer), first)}
    if rendered is not None:
        prompts["chat"] = chat_prompt(rendered, first)
    return _Prompts(prompts, tuple(ends), open_tokenizer(found.tokenizer_file, prompts, ends, rows))


def beginning_of(found: Found, tokenizer: BytePairTokenizer) -> str:
    """Text of the token that the model's own tokenizer puts before every text; empty for none."""
    if found.begins_with_bos is False or found.tokenizer_file is None:
        return ""
    text = found.special_texts.get("bos_token", "")
    if found.begins_with_bos:
        return text if text in tokenizer.added_tokens else ""
    try:
        values = parse_json(found.tokenizer_file.read_bytes())
    except (OSError, ValueError) as error:
        raise TokenizerDamaged(f"cannot read the tokenizer {found.tokenizer_file}: {error}") from error
    processor = values.get("post_processor") or {}
    parts = processor.get("processors", [processor]) if isinstance(processor, dict) else []
    for part in parts if isinstance(parts, list) else []:
        single = part.get("single") if isinstance(part, dict) else None
        first = single[0] if isinstance(single, list) and single and isinstance(single[0], dict) else {}
        special = first.get("SpecialToken")
        if isinstance(special, dict) and special.get("id") in tokenizer.added_tokens:
            return str(special["id"])
    return ""


def _chosen(
    network: Any, own: _Prompts, check: Check, prompt: str | None, told: Told
) -> tuple[str, dict[str, str | float | None]]:
    """The name of the prompt to use, and the figures that say so."""
    if prompt is not None and prompt not in own.prompts:
        known = ", ".join(own.prompts) or "none, for it has no tokenizer"
        raise ModelRefused(f"--prompt is {prompt!r}, which this model does not have; it has: {known}")
    if prompt is not None or own.tokenizer is None:
        return prompt or "own", {}
    return choose_prompt(network, own.tokenizer, own.prompts, own.stop_token_ids, check.schedule, told=told)


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


def _write(
    out: Path, name: str, found: Found, config: ForeignConfig, library_config: Mapping[str, Any], own: _Prompts
) -> ModelCard:
    """Write the directory, whole or not at all."""
    fingerprint = fingerprint_of(library_config, config.files)
    template = own.prompts.get(config.prompt, PromptTemplate())
    card = ModelCard(
        name, config, template, fingerprint, fingerprint,
        None if own.tokenizer is None else "tokenizer.json",
        None if own.tokenizer is None else own.tokenizer.fingerprint, out,
    )  # fmt: skip
    needed = sum(size for size, _ in config.files.values()) if config.folder is None else None
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out, needed_bytes=needed) as folder:
        for file in found.files if config.folder is None else ():
            shutil.copyfile(file, folder / file.name)
        if found.tokenizer_file is not None:
            shutil.copyfile(found.tokenizer_file, folder / "tokenizer.json")
        (folder / LIBRARY_CONFIG_FILE).write_bytes(_json(library_config))
        (folder / CONFIG_FILE).write_text(replace(card, path=folder).to_json())
    return read_card(out)
