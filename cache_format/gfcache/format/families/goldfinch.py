"""GoldFinch and its relatives: Finch and Finch-C2 below, GOLD, GPTAlpha or Llama attention above (SPEC section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gfcache import layout

from .base import Family, Place, SectionKind, Stands, fixed, in_state_dtype, in_token_dtype, on_model, optional


@dataclass(frozen=True)
class Dimensions:
    """The numbers of a configuration that sections follow from.

    Attributes:
        d_model, head_dim, vocab_size: as there.
        d_compressed: R, the width of compressed_k.
        n_finch, n_gold, n_attention: F recurrent layers, G GOLD layers, A attention layers that are not GOLD.
        attention_shifts: the attention layers have token shift.
    """

    d_model: int
    head_dim: int
    vocab_size: int
    d_compressed: int
    n_finch: int
    n_gold: int
    n_attention: int
    attention_shifts: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Dimensions:
        """Of a configuration as rule R7 leaves it."""
        n_layer, ratio, upper = config["n_layer"], config["layer_ratio"], config.get("upper_time_mix")
        n_lower = n_layer if upper is None else n_layer * (ratio - 1) // ratio
        n_gold = n_layer - n_lower if upper == "gold" else 0
        n_finch = n_lower if config.get("time_mix") in ("finch", "finch_c2") else 0
        n_attention = n_layer - n_finch - n_gold
        return cls(
            d_model=config["d_model"],
            head_dim=config["head_dim"],
            vocab_size=config["vocab_size"],
            d_compressed=config["d_model"] // config["compression_ratio"],
            n_finch=n_finch,
            n_gold=n_gold,
            n_attention=n_attention,
            attention_shifts=n_attention > 0 and config.get("time_mix") != "llama",
        )


def _wkv_shape(model: Dimensions, place: Place) -> tuple[int, ...]:
    return (model.n_finch, model.d_model // model.head_dim, model.head_dim, model.head_dim)


def _shift_shape(model: Dimensions, place: Place) -> tuple[int, ...]:
    return (model.n_finch, model.d_model)


def _tail_shape(model: Dimensions, place: Place) -> tuple[int, ...]:
    return (min(2 * model.n_gold + 1, place.position or place.tokens), model.d_model)


def _attention_shift_shape(model: Dimensions, place: Place) -> tuple[int, ...]:
    return (model.n_attention, model.d_model)


def _kept_shape(model: Dimensions, place: Place) -> tuple[int, ...] | None:
    """Of keys and values one set for each head of each layer. Of compressed_k, any runs."""
    return None if model.n_gold else (model.n_attention, model.d_model // model.head_dim, place.kept or 0)


def _attention_rows(model: Dimensions, place: Place) -> int:
    return place.tokens if place.kept is None or model.n_gold else place.kept


def _has_finch(model: Dimensions) -> bool:
    return model.n_finch > 0


def _has_attention_shifts(model: Dimensions) -> bool:
    return model.attention_shifts


_KINDS = (
    # Before all others: a reader that does not know it refuses the file by this name.
    SectionKind(
        layout.KEPT_POSITIONS,
        Stands.KEPT,
        _kept_shape,
        fixed("u32"),
        depends_on=lambda model: "prefill" if model.n_gold else "model",
        present=lambda model: model.n_gold > 0 or model.n_attention > 0,
        per_token=True,
        codec="zstd",
    ),
    SectionKind(
        layout.TOKEN_IDS,
        Stands.OWN_TOKENS,
        lambda model, place: (place.tokens - place.first_token,),
        in_token_dtype,
        per_token=True,
        codec="zstd",
    ),
    SectionKind(
        layout.COMPRESSED_K,
        Stands.CHUNKS,
        lambda model, place: (place.rows(layout.CHUNK_TOKENS), model.d_compressed),
        present=lambda model: model.n_gold > 0,
        per_token=True,
    ),
    SectionKind(layout.WKV_STATE, Stands.STATE, _wkv_shape, in_state_dtype, present=_has_finch),
    SectionKind(layout.TIME_SHIFT_STATE, Stands.STATE, _shift_shape, present=_has_finch),
    SectionKind(layout.CHANNEL_SHIFT_STATE, Stands.STATE, _shift_shape, present=_has_finch),
    SectionKind(
        layout.TAIL_HIDDEN,
        Stands.STATE,
        _tail_shape,
        depends_on=lambda model: "model" if model.n_attention else "prefill",
    ),
    SectionKind(
        layout.ATTENTION_KV,
        Stands.LAYERS,
        lambda model, place: (2, _attention_rows(model, place), model.d_model),
        depends_on=on_model,
        present=lambda model: model.n_attention > 0,
        layers=lambda model: range(model.n_finch, model.n_finch + model.n_attention),
        per_token=True,
    ),
    *(
        SectionKind(kind, Stands.END, _attention_shift_shape, depends_on=on_model, present=_has_attention_shifts)
        for kind in (layout.ATTENTION_TIME_SHIFT_STATE, layout.ATTENTION_CHANNEL_SHIFT_STATE)
    ),
    optional(
        layout.LAST_LOGITS,
        *layout.FLOAT_DTYPES,
        shape=lambda model, place: (model.vocab_size,),
        depends_on=on_model,
    ),
    optional(layout.ERROR_RECEIPT, *layout.FLOAT_DTYPES, depends_on=on_model),
    optional(layout.SOURCE_TEXT, "u8", per_token=True),
    optional(layout.DROPPED_TOKENS, "u32", per_token=True),
    optional(layout.DOCUMENT_INDEX, "u8", per_token=True, codec="zstd"),
    optional(layout.ROW_DIGESTS, "u8", per_token=True),
)

# Format 1.0 leaves model_type open: whatever no other family claims is read by these rules.
GOLDFINCH = Family("goldfinch", lambda model: True, lambda model: Dimensions.of(model["config"]), _KINDS)
