"""Which weights a model of Finch-C2 and GOLD layers has, without building its modules.

Notation: C d_model, F d_ffn, R = C / compression_ratio, V vocab_size, H heads, D pointer width.
"""

from __future__ import annotations

from goldfinch.models.config import DECAY_LORA_RANK, SHIFT_LORA_RANK, VALUE2_LORA_RANK, ModelConfig

from .pointing import (
    DILATIONS,
    GATES,
    LOOK_DILATIONS,
    MARKS,
    MATCHED,
    QUESTION_DILATIONS,
    RUNS,
    SEPARATORS,
)

Shape = tuple[int, ...]


def light_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Shapes by published key, as `Stack` has them, of a model of time_mix finch_c2 with GOLD layers."""
    C, V, R = config.d_model, config.vocab_size, config.d_compressed
    shapes: dict[str, Shape] = {"emb.weight": (V, C), "head.weight": (V, C)}
    shapes |= {"w_kv_cache_a.weight": (R, C), "w_kv_cache_b.weight": (C, C + R)}
    shapes |= _norms(("ln_out", "blocks.0.ln0"), C)
    for layer in range(config.n_layer):
        place = f"blocks.{layer}"
        shapes |= _norms((f"{place}.ln1", f"{place}.ln2"), C)
        parts = _finch(config) if layer < config.n_lower else _gold(config)
        shapes |= {f"{place}.att.{name}": shape for name, shape in parts.items()}
        shapes |= {f"{place}.ffn.time_maa_{name}": (1, 1, C) for name in "kr"}
        shapes[f"{place}.ffn.key.weight"], shapes[f"{place}.ffn.value.weight"] = (config.d_ffn, C), (C, config.d_ffn)
        shapes[f"{place}.ffn.receptance.weight"] = (C, C)
    if config.pointer_width:
        shapes |= {f"pointer.{name}": shape for name, shape in _pointer(config).items()}
    return shapes


def _norms(names: tuple[str, ...], width: int) -> dict[str, Shape]:
    return {f"{name}.{part}": (width,) for name in names for part in ("weight", "bias")}


def _finch(config: ModelConfig) -> dict[str, Shape]:
    C = config.d_model
    groups = ("r", "k", "v", "w", "v2")
    return {
        **{f"time_maa_{name}": (1, 1, C) for name in ("x", *groups)},
        "time_maa_w1": (C, len(groups) * SHIFT_LORA_RANK),
        "time_maa_w2": (len(groups), SHIFT_LORA_RANK, C),
        "time_decay": (1, 1, C),
        "time_decay_w1": (C, DECAY_LORA_RANK),
        "time_decay_w2": (DECAY_LORA_RANK, C),
        "time_faaaa": (config.n_head, config.head_dim),
        "time_value2_w1": (C, VALUE2_LORA_RANK),
        "time_value2_w2": (VALUE2_LORA_RANK, C),
        **{f"{name}.weight": (C, C) for name in ("receptance", "key", "value", "output")},
        **_norms(("ln_x",), C),
    }


def _gold(config: ModelConfig) -> dict[str, Shape]:
    C, rank = config.d_model, config.gold_lora_rank
    return {
        **{f"time_maa_{name}": (1, 1, C) for name in ("x", "q", "k", "v", "v_cache")},
        "time_maa_q_w1": (C, SHIFT_LORA_RANK),
        "time_maa_q_w2": (SHIFT_LORA_RANK, C),
        "time_maa_kv_w1": (C, 2 * SHIFT_LORA_RANK),
        "time_maa_kv_w2": (2, SHIFT_LORA_RANK, C),
        **{f"time_{name}_w1": (C, rank) for name in ("key", "value")},
        **{f"time_{name}_w2": (rank, C) for name in ("key", "value")},
        "query.weight": (C, C),
        "output.weight": (C, C),
        **_norms(("ln_q", "ln_k", "ln_v", "ln_x"), C),
    }


def _pointer(config: ModelConfig) -> dict[str, Shape]:
    C, D, V = config.d_model, config.pointer_width, config.vocab_size
    shapes: dict[str, Shape] = {
        "row.weight": (D, C + config.d_compressed),
        "align.weight": (D, C),
        "word_weight": (V,),
        "attend_question": (D,),
        "blend.weight": (D, 4 * D + 2),
        "key.weight": (D, D),
        "query.weight": (D, C),
        "matched": (MATCHED + 1,),
        "gate.weight": (GATES, C),
        "gate_start": (GATES,),
        "gate_row.weight": (GATES, D),
        "gate_matched": (MATCHED + 1, GATES),
        "gate_best": (GATES,),
        "seen.weight": (D, C + D),
        "change.weight": (C, D),
        **_norms(("norm",), D),
        **_neighbours("neighbours", len(DILATIONS), D),
    }
    if config.pointer_looks:
        shapes |= {"runs": (len(RUNS), D), "signs": (1 + len(SEPARATORS), V)}
        shapes |= _neighbours("question_neighbours", len(QUESTION_DILATIONS), D)
    for n in range(config.pointer_looks):
        look: dict[str, Shape] = {
            "mark.weight": (MARKS, D),
            "placed.weight": (D, (1 + len(SEPARATORS)) * MARKS),
            "ask.weight": (D, D),
            "tell.weight": (2 * D, D),
            "blend.weight": (D, 4 * D),
            **_norms(("row_norm", "question_norm"), D),
            **_neighbours("neighbours", len(LOOK_DILATIONS), D),
        }
        shapes |= {f"looks.{n}.{name}": shape for name, shape in look.items()}
    return shapes


def _neighbours(place: str, count: int, width: int) -> dict[str, Shape]:
    found = _norms(tuple(f"{place}.{n}.norm" for n in range(count)), width)
    return found | {f"{place}.{n}.mix.weight": (width, 3 * width) for n in range(count)}
