"""The configuration shared by every model type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar

from goldfinch.errors import ConfigError

T = TypeVar("T")

TIME_MIXES = ("finch", "finch_c2", "gptalpha", "llama")
UPPER_TIME_MIXES = ("gold", "gptalpha")
CHANNEL_MIXES = ("finch", "llama")
# The most of each that a model may have: several times those of the largest published ones, so that sizes computed from
# them are numbers that a machine can refuse for lack of memory. A configuration may come from a stranger.
MOST = {
    "n_layer": 1024, "d_model": 1 << 16, "d_ffn": 1 << 20, "vocab_size": 1 << 21, "head_dim": 4096,
    "layer_ratio": 1024, "compression_ratio": 1 << 16, "context_length": (1 << 31) - 1, "group_norm_divisor": 1 << 16,
}  # fmt: skip
MOST_LOOKS = 64
# Ranks of the low-rank parts, of all models alike.
SHIFT_LORA_RANK, DECAY_LORA_RANK, VALUE2_LORA_RANK = 32, 64, 64
_MOST_ROPE = 1e18


@dataclass(frozen=True)
class RopeConfig:
    """Rotary positions: f_i = (base * rebase) ** (-2i / head_dim) / rescale."""

    base: float = 10000.0
    rescale: float = 1.0
    rebase: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 1 / _MOST_ROPE <= value <= _MOST_ROPE:
                raise ConfigError(f"{name} of rope is {value!r:.40}, allowed: a positive number up to {_MOST_ROPE:.0e}")


@dataclass(frozen=True)
class ModelConfig:
    """One model of the family.

    Attributes:
        n_layer: layers in all.
        d_model: width C of the residual stream, a multiple of head_dim.
        head_dim: K = V, channels of one head.
        d_ffn: width of the channel mix.
        vocab_size: rows of the embedding.
        time_mix: kind of the lower layers: finch (RWKV-6), finch_c2, gptalpha or llama.
        upper_time_mix: kind of the upper layers: gold, gptalpha, or None when all layers are alike.
        channel_mix: finch or llama, of the lower layers (upper layers always use finch).
        layer_ratio: layers per upper layer; floor(n_layer * (ratio - 1) / ratio) layers are lower ones.
        compression_ratio: d_model / width of compressed_k.
        one_minus_w: Finch-C2 multiplies keys by 1 - w (paper eq. 7).
        second_value: Finch-C2 adds the data-dependent second value (paper eq. 10) in place of the bonus.
        rope: rotary positions of the attention layers, or None.
        context_length: tokens of one training sequence; longer documents get a warning.
        group_norm_divisor: the head norm of Finch uses eps = 1e-5 * divisor ** 2.
        pointer_width: D of the pointer that copies from the document's rows; 0 for none.
        pointer_looks: how often its rows look at the question again, knowing their neighbours.
    """

    n_layer: int
    d_model: int
    d_ffn: int
    vocab_size: int
    time_mix: str = "finch_c2"
    upper_time_mix: str | None = "gold"
    channel_mix: str = "finch"
    head_dim: int = 64
    layer_ratio: int = 3
    compression_ratio: int = 16
    one_minus_w: bool = True
    second_value: bool = True
    rope: RopeConfig | None = None
    context_length: int = 1024
    group_norm_divisor: int = 8
    pointer_width: int = 0
    pointer_looks: int = 0

    def __post_init__(self) -> None:
        def demand(holds: bool, field: str, expected: str) -> None:
            if not holds:
                raise ConfigError(f"{field} is {getattr(self, field)!r:.40}, allowed: {expected}")

        for field, most in MOST.items():
            value = getattr(self, field)
            holds = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most
            demand(holds, field, f"a positive whole number up to {most:,}")
        for field in ("one_minus_w", "second_value"):
            demand(isinstance(getattr(self, field), bool), field, "true or false")
        width = self.pointer_width
        whole = isinstance(width, int) and not isinstance(width, bool) and 0 <= width <= MOST["d_model"]
        demand(whole, "pointer_width", f"a whole number from 0 to {MOST['d_model']:,}")
        demand(not width or self.upper_time_mix == "gold", "pointer_width", "0 in a model without GOLD layers")
        looks, most = self.pointer_looks, MOST_LOOKS if width else 0
        whole = isinstance(looks, int) and not isinstance(looks, bool) and 0 <= looks <= most
        demand(whole, "pointer_looks", f"a whole number from 0 to {MOST_LOOKS}, 0 without a pointer")
        demand(self.rope is None or isinstance(self.rope, RopeConfig), "rope", "base, rescale and rebase, or null")
        # Looked for in tuples, not sets: a list or an object of a foreign file has no hash.
        demand(self.time_mix in TIME_MIXES, "time_mix", ", ".join(TIME_MIXES))
        demand(
            self.upper_time_mix in (None, *UPPER_TIME_MIXES), "upper_time_mix", ", ".join(UPPER_TIME_MIXES) + " or null"
        )
        demand(self.channel_mix in CHANNEL_MIXES, "channel_mix", ", ".join(CHANNEL_MIXES))
        demand(self.d_model % self.head_dim == 0, "d_model", f"a multiple of head_dim ({self.head_dim})")
        demand(self.head_dim % 2 == 0, "head_dim", "an even number")
        if self.upper_time_mix == "gold":
            demand(self.d_model % self.compression_ratio == 0, "compression_ratio", f"a divisor of {self.d_model}")
            demand(self.time_mix in ("finch", "finch_c2"), "time_mix", "finch or finch_c2 below GOLD layers")
            demand(self.n_lower > 0, "layer_ratio", "2 or more, so that Finch layers stand below the GOLD layers")

    @property
    def n_head(self) -> int:
        return self.d_model // self.head_dim

    @property
    def n_lower(self) -> int:
        """S: layers of kind `time_mix` (golden rule: floor(L (ratio - 1) / ratio))."""
        if self.upper_time_mix is None:
            return self.n_layer
        return self.n_layer * (self.layer_ratio - 1) // self.layer_ratio

    @property
    def n_finch(self) -> int:
        """Recurrent layers: the lower ones of Finch and Finch-C2 models."""
        return self.n_lower if self.time_mix in ("finch", "finch_c2") else 0

    @property
    def n_upper(self) -> int:
        return self.n_layer - self.n_lower

    @property
    def n_gold(self) -> int:
        return self.n_upper if self.upper_time_mix == "gold" else 0

    @property
    def n_attention(self) -> int:
        """Layers that keep keys and values of every token: GPTAlpha and Llama ones."""
        return self.n_layer - self.n_finch - self.n_gold

    @property
    def n_prefill(self) -> int:
        """Layers that prefill runs: all but the GOLD ones."""
        return self.n_layer - self.n_gold

    @property
    def tail_length(self) -> int:
        """K = 2G + 1 last tokens whose residual stream a cache keeps (1 without GOLD layers)."""
        return 2 * self.n_gold + 1

    @property
    def can_batch(self) -> bool:
        """Whether answers can share a batch: the prefill layers are all recurrent, and no key is rotated."""
        return self.n_finch == self.n_prefill and self.rope is None

    @property
    def gold_lora_rank(self) -> int:
        """Rank of the low-rank parts of keys and values in GOLD layers."""
        return max(self.d_model // 16, 64)

    @property
    def d_compressed(self) -> int:
        return self.d_model // self.compression_ratio

    @property
    def model_type(self) -> str:
        lower = self.time_mix
        if self.upper_time_mix == "gold":
            return "goldfinch" if lower == "finch_c2" else f"{lower}_gold"
        return lower if self.upper_time_mix is None else f"{lower}_{self.upper_time_mix}"

    def layer_kind(self, layer: int) -> str:
        return self.time_mix if layer < self.n_lower else str(self.upper_time_mix)

    def layer_channel_mix(self, layer: int) -> str:
        return self.channel_mix if layer < self.n_lower else "finch"

    def to_dict(self) -> dict[str, Any]:
        """By field; one that came later only where it says something, so that older models stay as they are."""
        values = asdict(self)
        return {key: value for key, value in values.items() if value or not key.startswith("pointer_")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build from our own field names.

        Raises:
            ConfigError: an unknown field, a missing one, or a value out of range.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"the configuration is {values!r:.40}, allowed: a JSON object")
        values = dict(values)
        if isinstance(values.get("rope"), dict):
            values["rope"] = from_fields(RopeConfig, values["rope"], "rope in the configuration")
        return from_fields(cls, values, "the configuration")


def from_fields(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """A dataclass from what a file says of its fields.

    Args:
        what: the file, or the part of it.

    Raises:
        ConfigError: an unknown field, a missing one, or a value that is no such thing.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r:.40} in {what}, known: {', '.join(sorted(known))}")
    needed = [name for name, f in known.items() if f.init and f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        raise ConfigError(f"{what} has no {', '.join(missing)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"a value of {what} is of the wrong kind ({error})") from error
