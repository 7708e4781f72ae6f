"""The transformers library: the one file that knows its class and attribute names for models and configurations.

It is imported here alone, when a model of others is used, offline and without its hub of kernels. It is given no path:
weights are read by us and handed over, so no file beside them can redirect it. Tried with 5.24.

Notation: T tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goldfinch.errors import ConfigDamaged, LibraryMissing, ModelRefused, WeightsMismatch
from goldfinch.models.config import MOST
from goldfinch.weights.foreign_config import LayerShape

LOWEST, BELOW = (5, 24), (6,)
# Read by the library when it is imported.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "USE_HUB_KERNELS": "NO",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}  # fmt: skip
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f64": torch.float64}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MOST_BUFFER_BYTES = 1 << 28


def library() -> Any:
    """The transformers package, imported offline.

    Raises:
        LibraryMissing: not installed, or a version that gf does not know.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ[name] = value
    try:
        import transformers
    except ImportError as error:
        raise LibraryMissing("models of others are run by transformers, which is not installed") from error
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2] if part.isdigit())
    if not LOWEST <= version < BELOW:
        raise LibraryMissing(f"transformers is {transformers.__version__}, allowed: 5.24 up to below 6")
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    return transformers


def library_version() -> str:
    """The version of transformers; errors as of `library`."""
    return str(library().__version__)


def text_fields(model_type: object) -> frozenset[str] | None:
    """The fields of an architecture's configuration; None for one that the library does not know as a model of text."""
    mapping = library().CONFIG_MAPPING
    if not isinstance(model_type, str) or model_type not in mapping or model_type not in _causal_names():
        return None
    config_class = mapping[model_type]
    return frozenset(field.name for field in fields(config_class)) | frozenset(config_class.attribute_map)


def _causal_names() -> Mapping[str, str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def rotary_of(network: Any) -> list[float] | None:
    """The angle of each pair of channels (c, c + pairs) from one position to the next, by which keys are rotated.

    None where the library rotates other pairs, layers unlike each other, or nothing: codecs, and blocks to join, do
    without.
    """
    angles = [value for name, value in network.named_buffers() if name.endswith("inv_freq") and "original" not in name]
    rotate = getattr(sys.modules[type(network).__module__], "rotate_half", None)
    if len(angles) != 1 or rotate is None or rotate(torch.arange(1.0, 5.0)).tolist() != [-3.0, -4.0, 1.0, 2.0]:
        return None
    return [float(f"{angle:.9g}") for angle in angles[0].double().tolist()]


def config_of(values: Mapping[str, Any]) -> Any:
    """The library's configuration object of a clean config.json; for several media, the part for text alone.

    Raises:
        ConfigDamaged: values that its class does not take.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = {name: value for name, value in values.items() if name != "model_type"}
            return library().CONFIG_MAPPING[values["model_type"]](**given)
    except Exception as error:  # each class checks in its own way
        raise ConfigDamaged(f"transformers does not take this config.json: {_first_line(error)}") from error


def _class_of(config: Any) -> Any:
    return getattr(library(), _causal_names()[config.model_type])


def network_of(
    values: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: str = "f32", device: str = "cpu"
) -> Any:
    """The network of a clean configuration with these weights, in evaluation mode.

    Args:
        tensors: by published key; may share memory with a file.
        dtype: "f32", "bf16", "f64".

    Raises:
        ConfigDamaged: a configuration that cannot be built.
        WeightsMismatch: tensors that are missing, unknown, or of another shape: named.
    """
    config = config_of(values)
    _check_size(config, sum(tensor.numel() for tensor in tensors.values()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network, report = _class_of(config).from_pretrained(
                None, config=config, state_dict=dict(tensors), dtype=DTYPES[dtype], output_loading_info=True,
                ignore_mismatched_sizes=True, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            )  # fmt: skip
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise WeightsMismatch(f"transformers cannot load these weights: {_first_line(error)}") from error
    _check_report(report)
    return network.to(device).eval().requires_grad_(False)


def _check_report(report: Mapping[str, Any]) -> None:
    """Refuse what the library would fill with random values, or leave out, without a word."""
    for kind, what in (("missing_keys", "lack"), ("unexpected_keys", "hold, beyond the model,")):
        keys = sorted(map(str, report[kind]))
        if keys:
            raise WeightsMismatch(f"the weights {what} {keys[0]!r:.80} ({len(keys)} in all)", hint=_AS_PUBLISHED)
    if report["mismatched_keys"]:
        key, found, expected = sorted(report["mismatched_keys"])[0]
        raise WeightsMismatch(f"{key} has shape {tuple(found)}, expected {tuple(expected)}", hint=_AS_PUBLISHED)
    if report["error_msgs"]:
        raise WeightsMismatch(f"the weights cannot be taken: {report['error_msgs'][0]!s:.200}", hint=_AS_PUBLISHED)


_AS_PUBLISHED = "give the folder whole, as it was published; fine-tuned adapters have to be merged first"


def _check_size(config: Any, given: int) -> None:
    """Refuse a network that is much larger than the `given` numbers of its weights, before it takes memory."""
    network = empty_network(config)
    built = sum(parameter.numel() for parameter in network.parameters())
    if built > 2 * given + (1 << 20):
        raise WeightsMismatch(f"config.json describes {built:,} weights, the files hold {given:,}", hint=_AS_PUBLISHED)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in network.buffers())
    if buffers > _MOST_BUFFER_BYTES:
        raise ConfigDamaged(f"config.json asks for {buffers:,} bytes of tables, allowed: {_MOST_BUFFER_BYTES:,}")


def empty_network(config: Any) -> Any:
    """A network whose tensors have shapes and no memory.

    Raises:
        ConfigDamaged: it cannot be built.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _class_of(config)(config)
    except Exception as error:
        raise ConfigDamaged(f"transformers cannot build what config.json describes: {_first_line(error)}") from error


def random_network(values: Mapping[str, Any], seed: int = 0, scale: float = 0.2) -> Any:
    """A network with random weights, far enough from zero that each part of it matters: for checks and tests.

    Args:
        values: a clean configuration of a small model.
        scale: standard deviation of matrices.
    """
    torch.manual_seed(seed)
    config = config_of(values)
    network = _class_of(config)._from_config(config).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if parameter.dim() >= 2 and "A_log" not in name and parameter.is_floating_point():
            parameter.data.normal_(0.0, scale if "embed" not in name else 1.0)
    return network


def published_tensors(network: Any) -> dict[str, Tensor]:
    """The weights of a network by key, tied ones once."""
    tensors: dict[str, Tensor] = {}
    places: set[int] = set()
    for key, tensor in network.state_dict().items():
        if tensor.data_ptr() not in places or tensor.numel() == 0:
            places.add(tensor.data_ptr())
            tensors[key] = tensor.contiguous()
    return tensors


def new_cache(network: Any) -> Any:
    """An empty cache for one sequence, its layers as the configuration has them."""
    return library().DynamicCache(config=network.config)


def forward(
    network: Any, token_ids: Tensor, cache: Any = None, start: int = 0, *, last: bool = False, graph: bool = False
) -> Tensor:
    """Logits of tokens that follow those in a cache, which grows by them.

    Args:
        token_ids: (T,) int64.
        cache: of `new_cache`, or None for a pass without one.
        start: tokens before these: positions are always given, since some architectures guess them wrongly.
        last: logits of the last token alone, which spares V values for every other.
        graph: gradients can be taken with respect to what the cache holds.

    Returns:
        (T, V); (1, V) of the last.
    """
    given: dict[str, Any] = {"input_ids": token_ids[None].to(network.device), "use_cache": cache is not None}
    if "position_ids" in _arguments(network):
        given["position_ids"] = torch.arange(start, start + len(token_ids), device=network.device)[None]
    if cache is not None:
        given["cache"] = cache
    if last and "logits_to_keep" in _arguments(network):
        given["logits_to_keep"] = 1
    with torch.enable_grad() if graph else torch.inference_mode():
        logits: Tensor = network(**given).logits[0]
    return logits[-1:] if last else logits


def step(network: Any, token_ids: Tensor, cache: Any, positions: Tensor, mask: Tensor) -> Tensor:
    """Logits (B, V) after one more token each of several sequences whose rows a cache holds, the shorter ones padded.

    Args:
        token_ids: (B,) int64.
        cache: grows by a row each.
        positions: (B,) int64, of these tokens.
        mask: (B, rows) of all rows, the new ones included: 0 for padding.
    """
    given: dict[str, Any] = {"input_ids": token_ids[:, None], "cache": cache, "use_cache": True, "attention_mask": mask}
    if "position_ids" in _arguments(network):
        given["position_ids"] = positions[:, None]
    with torch.inference_mode():
        logits: Tensor = network(**given).logits[:, -1]
    return logits


def attention(network: Any, token_ids: Tensor, cache: Any, start: int) -> list[Tensor]:
    """What tokens that follow those in a cache attend to; the cache grows by them.

    Args:
        token_ids: (N,) int64.
        cache, start: as of `forward`.

    Returns:
        weights (H, N, S) of each layer with attention over its S rows, those of these tokens last.
    """
    given: dict[str, Any] = {"input_ids": token_ids[None].to(network.device), "cache": cache, "use_cache": True}
    if "position_ids" in _arguments(network):
        given["position_ids"] = torch.arange(start, start + len(token_ids), device=network.device)[None]
    usual = network.config._attn_implementation
    network.set_attn_implementation("eager")  # the others compute no weights
    try:
        with torch.inference_mode():
            found = network(**given, output_attentions=True).attentions
    finally:
        network.set_attn_implementation(usual)
    return [weights[0] for weights in found or () if weights is not None]


def _arguments(network: Any) -> Iterable[str]:
    return inspect.signature(network.forward).parameters


def layers_of(network: Any) -> tuple[LayerShape, ...]:
    """What each layer keeps, as three tokens leave it.

    Raises:
        ModelRefused: a layer that keeps something else than keys, values and states.
    """
    cache = new_cache(network)
    forward(network, torch.tensor([1, 2, 1]), cache)
    return tuple(_layer_shape(number, layer) for number, layer in enumerate(cache.layers))


# Attributes of the library's cache layers: those that hold what a layer keeps, and those that do not.
_TENSORS = frozenset(("keys", "values", "conv_states", "recurrent_states", "_sliding_window_tensor"))
_PLAIN = frozenset((
    "is_initialized", "sliding_window", "cumulative_length", "record_past", "device", "dtype", "number_of_states",
    "is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state", "conv_kernel_size",
))  # fmt: skip


def _layer_shape(number: int, layer: Any) -> LayerShape:
    unknown = sorted(set(vars(layer)) - _TENSORS - _PLAIN)
    if unknown:
        raise ModelRefused(f"layer {number} keeps {unknown[0]!r}, which gf does not know how to store")
    states: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for role, held in (("conv", "conv_states"), ("recurrent", "recurrent_states")):
        for index, state in (getattr(layer, held, None) or {}).items():
            if state is not None:
                name = role if index == 0 else f"{role}.{index}"
                states[name], dtypes[name] = tuple(state.shape[1:]), NAMES[state.dtype]
    keys: Any = getattr(layer, "keys", None)
    values: Any = getattr(layer, "values", None)
    if keys is None:
        return LayerShape("linear" if states else "none", states=states, state_dtypes=dtypes)
    window = getattr(layer, "sliding_window", None)
    return LayerShape(
        "full" if window is None else "sliding", keys.shape[1], keys.shape[-1], values.shape[-1], window,
        states, dtypes,
    )  # fmt: skip


def sizes_of(values: Mapping[str, Any]) -> dict[str, int]:
    """n_layer, d_model, vocab_size and context_length of a clean configuration."""
    config = config_of(values).get_text_config(decoder=True)
    length = getattr(config, "max_position_embeddings", None) or MOST["context_length"]
    return {
        "n_layer": config.num_hidden_layers, "d_model": config.hidden_size, "vocab_size": config.vocab_size,
        "context_length": int(length),
    }  # fmt: skip


def gguf_contents(folder: Path, name: str, elements: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights in f32 of a GGUF file, unpacked by the library.

    Args:
        folder: with the file `name`, and nothing else.
        elements: numbers that its tensors have in all.

    Raises:
        ModelRefused: the library cannot unpack it.
        ConfigDamaged, WeightsMismatch: its configuration describes a network that cannot be, or is much larger.
    """
    transformers = library()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # bars that cannot be switched off
            warnings.simplefilter("ignore")
            config = transformers.AutoConfig.from_pretrained(folder, gguf_file=name, local_files_only=True)
            _check_size(config, elements)
            network, report = _class_of(config).from_pretrained(
                folder, gguf_file=name, config=config, dtype=torch.float32, local_files_only=True,
                quantization_config=transformers.GgufConfig(dequantize=True), output_loading_info=True,
            )  # fmt: skip
    except (torch.OutOfMemoryError, MemoryError, ConfigDamaged, WeightsMismatch):
        raise
    except Exception as error:  # the library raises in many ways
        raise ModelRefused(
            f"transformers {library_version()} cannot unpack this GGUF file: {_first_line(error)}",
            hint="take the model's folder with safetensors",
        ) from error
    _check_report(report)
    return json.loads(network.config.to_json_string(use_diff=False)), published_tensors(network)


def gguf_tokenizer(folder: Path, name: str) -> str:
    """tokenizer.json of a GGUF file, made by the library; arguments and errors as of `gguf_contents`."""
    try:
        tokenizer = library().AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:
        raise ModelRefused(
            f"transformers {library_version()} cannot read the tokenizer of this GGUF file: {_first_line(error)}",
            hint="take the model's folder with safetensors and tokenizer.json",
        ) from error


def halves_of(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor in both formats of 16 bits."""
    return tensor.to(torch.bfloat16), tensor.to(torch.float16)


def read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Tensors of safetensors files by key, their memory that of the files."""
    from safetensors import safe_open

    tensors: dict[str, Tensor] = {}
    for path in files:
        with safe_open(path, "pt") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return tensors


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} {lines[0]:.200}" if lines else type(error).__name__
