"""What the section table must be for a header's configuration: dtypes, shapes, completeness (SPEC rules R11 to R13)."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from gfcache import layout

from .header import Header, Section, demand


class Shape:
    """The few numbers of a model configuration that sections follow from.

    Args:
        config: as rule R7 leaves it.

    Attributes:
        d_model, head_dim, vocab_size: as there.
        d_compressed: width of compressed_k.
        n_finch, n_gold, n_attention: recurrent layers, GOLD layers, attention layers that are not GOLD.
        attention_shifts: the attention layers have token shift.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        n_layer, ratio, upper = config["n_layer"], config["layer_ratio"], config.get("upper_time_mix")
        n_lower = n_layer if upper is None else n_layer * (ratio - 1) // ratio
        self.d_model, self.head_dim, self.vocab_size = config["d_model"], config["head_dim"], config["vocab_size"]
        self.d_compressed = self.d_model // config["compression_ratio"]
        self.n_gold = n_layer - n_lower if upper == "gold" else 0
        self.n_finch = n_lower if config.get("time_mix") in ("finch", "finch_c2") else 0
        self.n_attention = n_layer - self.n_finch - self.n_gold
        self.attention_shifts = self.n_attention > 0 and config.get("time_mix") != "llama"


def check_table(header: Header) -> None:
    """Refuse a section table that breaks R11, R12 or R13. Sections that this version does not know are passed over.

    Raises:
        HeaderError: a rule does not hold.
    """
    shape, dtype = Shape(header.model["config"]), header.compute_dtype
    for section in header.sections:
        if section.is_known:
            _check_storage(section)
            _check_values(header, shape, dtype, section)
    _check_tokens(header, shape)
    _check_states(header, shape)


def _check_storage(section: Section) -> None:
    """R11: few dimensions, as many bytes as the shape says, stored plausibly."""
    stored, raw, name, shape = section.stored_bytes, section.raw_bytes, f"section {section.name!r}", section.shape
    found = f"{name} of shape {shape!r:.60}"
    demand(len(shape) <= layout.MAX_DIMENSIONS, "R11", found, f"at most {layout.MAX_DIMENSIONS} dimensions")
    # numpy multiplies the axes that are not empty, and refuses what overflows.
    demand(math.prod(n or 1 for n in shape) < 1 << 60, "R11", found, "below 2^60 values")
    expected = math.prod(shape) * layout.DTYPES[section.dtype]
    demand(raw == expected, "R11", f"{name} of {raw} bytes", f"{expected} from the shape")
    if section.codec == "raw":
        demand(stored == raw, "R11", f"{name} of {stored} bytes stored raw", raw)
    else:
        demand(stored > 0, "R11", f"{name} compressed to nothing", "1 byte or more")
    limit = layout.MAX_EXPANSION * stored + layout.EXPANSION_SLACK_BYTES
    demand(raw <= limit, "R11", f"{name} of {raw} bytes", f"at most {limit}")


def _check_values(header: Header, shape: Shape, compute_dtype: str | None, section: Section) -> None:
    """R12: dtype, shape, position and dependence of a section are those of its kind."""
    name, kind = f"section {section.name!r}", section.kind
    dtypes = _expected_dtypes(kind, compute_dtype, shape.vocab_size)
    demand(section.dtype in dtypes, "R12", f"{name} in {section.dtype}", " or ".join(dtypes))
    if kind in layout.STATE_KINDS:
        at = section.position
        demand(at is not None and 0 < at <= header.tokens, "R12", f"{name} at token {at}", f"1 to {header.tokens}")
    expected = expected_shape(header, section)
    demand(expected in (None, section.shape), "R12", f"{name} of shape {section.shape}", expected)
    on_model = kind in (layout.ATTENTION_KV, *layout.ATTENTION_SHIFT_KINDS, layout.LAST_LOGITS, layout.ERROR_RECEIPT)
    on_model = on_model or (kind == layout.TAIL_HIDDEN and shape.n_attention > 0)
    depends_on = "model" if on_model else "prefill"
    demand(section.depends_on == depends_on, "R12", f"{name} that depends on {section.depends_on}", depends_on)
    holds = section.required or kind in layout.OPTIONAL_KINDS
    demand(holds, "R12", f"{name} that is not required", "required")


def _expected_dtypes(kind: str, compute_dtype: str | None, vocab_size: int) -> tuple[str, ...]:
    """The dtypes that a kind may be stored in (SPEC 3)."""
    if kind == layout.TOKEN_IDS:
        return ("u16",) if vocab_size <= 1 << 16 else ("u32",)
    if kind == layout.WKV_STATE:
        return ("f64",) if compute_dtype == "f64" else ("f32",)
    if kind in layout.COMPUTE_KINDS:
        return (compute_dtype,) if compute_dtype in layout.COMPUTE_DTYPES else layout.COMPUTE_DTYPES
    return {layout.SOURCE_TEXT: ("u8",), layout.DROPPED_TOKENS: ("u32",)}.get(kind, layout.FLOAT_DTYPES)


def expected_shape(header: Header, section: Section) -> tuple[int, ...] | None:
    """The shape that the configuration implies for a section (SPEC 3), None for kinds it does not fix."""
    kind, shape = section.kind, Shape(header.model["config"])
    if kind == layout.TOKEN_IDS:
        return (header.tokens - header.first_token,)
    if kind == layout.COMPRESSED_K:
        rows = min(layout.CHUNK_TOKENS, header.tokens - (section.token_start or 0))
        return (max(rows, 0), shape.d_compressed)
    if kind == layout.WKV_STATE:
        return (shape.n_finch, shape.d_model // shape.head_dim, shape.head_dim, shape.head_dim)
    if kind in layout.RECURRENT_KINDS:
        return (shape.n_finch, shape.d_model)
    if kind == layout.TAIL_HIDDEN:
        return (min(2 * shape.n_gold + 1, section.position or header.tokens), shape.d_model)
    if kind == layout.ATTENTION_KV:
        return (2, header.tokens, shape.d_model)
    if kind in layout.ATTENTION_SHIFT_KINDS:
        return (shape.n_attention, shape.d_model)
    return (shape.vocab_size,) if kind == layout.LAST_LOGITS else None


def _check_tokens(header: Header, shape: Shape) -> None:
    """R13: token ids are there once; compressed_k, with GOLD layers, covers the file's own part without gaps."""
    first, covered = header.first_token, header.first_token
    ids = header.of_kind(layout.TOKEN_IDS)
    demand(len(ids) == 1, "R13", f"{len(ids)} token_ids sections", 1)
    demand((ids[0].token_start or 0) == first, "R13", f"token_ids from token {ids[0].token_start}", first)
    for chunk in sorted(header.of_kind(layout.COMPRESSED_K), key=lambda s: s.token_start or 0):
        demand((chunk.token_start or 0) == covered, "R13", f"compressed_k from token {chunk.token_start}", covered)
        covered += chunk.shape[0]
    expected = header.tokens if shape.n_gold else first
    demand(covered == expected, "R13", f"compressed_k up to token {covered}", expected)


def _check_states(header: Header, shape: Shape) -> None:
    """R13: wherever a state stands, all of it stands there, once; and one stands at the end, if any does."""
    T = header.tokens
    found: dict[int, list[str]] = defaultdict(list)
    for section in header.sections:
        if section.is_known and section.kind in layout.STATE_KINDS:
            found[section.position or 0].append(section.kind)
    layers = sorted(s.layer or 0 for s in header.of_kind(layout.ATTENTION_KV))
    if not found and not layers:
        return  # a file to look at, as the example of SPEC 11: see CacheFile.check_complete
    needed = [layout.TAIL_HIDDEN, *(layout.RECURRENT_KINDS if shape.n_finch else ())]
    at_end = needed + list(layout.ATTENTION_SHIFT_KINDS if shape.attention_shifts else ())
    for position in {*found, T}:
        kinds, expected = sorted(found[position]), sorted(at_end if position == T else needed)
        what = f"{', '.join(kinds) or 'no state':.200} at token {position}"
        demand(kinds == expected, "R13", what, ", ".join(expected))
    # The configuration may claim 2^31 layers: their number is compared before their list is made.
    first, count = shape.n_finch, shape.n_attention
    holds = len(layers) == count and layers == list(range(first, first + count))
    demand(holds, "R13", f"attention_kv of layers {layers!s:.100}", f"{count} layers from {first} on")
    alone = len(found) == 1 and header.parent is None
    demand(alone or not layers, "R13", "checkpoints or a parent beside attention_kv", "neither")
