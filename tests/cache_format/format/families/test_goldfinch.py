"""The description of GoldFinch's sections is that of SPEC's table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gfcache
import pytest
from gfcache import layout
from gfcache.format.families.base import Described, Place, Stands
from gfcache.format.families.goldfinch import GOLDFINCH, Dimensions
from gfcache.format.families.registry import FAMILIES, KINDS, family_of

SPEC = Path(__file__).parents[4] / "cache_format" / "SPEC.md"
GOLDEN = Path(__file__).parents[3] / "golden" / "v1"
BASE = {"n_layer": 6, "d_model": 128, "vocab_size": 512, "head_dim": 32, "layer_ratio": 3, "compression_ratio": 16}
ROWS_OF_LAYERS = (
    "required, at most one, with attention layers and no GOLD layers: the positions of the rows of each head"
)
CONFIGS: dict[str, dict[str, Any]] = {
    "goldfinch": BASE | {"time_mix": "finch_c2", "upper_time_mix": "gold"},
    "finch": BASE | {"time_mix": "finch", "upper_time_mix": None, "vocab_size": 1 << 17},
    "gptalpha above": BASE | {"time_mix": "finch_c2", "upper_time_mix": "gptalpha"},
    "gptalpha": BASE | {"time_mix": "gptalpha", "upper_time_mix": None},
    "llama": BASE | {"time_mix": "llama", "upper_time_mix": None},
}


def spec_table() -> dict[str, list[list[str]]]:
    """Kind -> shape, dtype, depends_on and remark, of the tables in section 3 and of the draft; kept_positions stands
    there once for models with GOLD layers, once for those with others, and once for models of others."""
    text = SPEC.read_text()
    frozen = text.split("## 3. Section kinds")[1].split("## 4.")[0]
    draft = text.split("### Finding")[1].split("row_digests holds")[0]
    dropped = text.split("### Dropped rows")[1].split("A run is")[0]
    found: dict[str, list[list[str]]] = {}
    for table in (dropped, frozen, draft):  # the order of a file: what others must not overlook comes first
        rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
        cells = [[cell.strip() for cell in row] for row in rows[1:]]
        for row in cells:
            for kind in row[0].split(", "):
                found.setdefault(kind, []).append(row[1:])
    return found


TABLE = spec_table()


def row_of(kind: str, model: Dimensions) -> list[str]:
    """The row of the table that a model has of a kind."""
    rows = TABLE[kind]
    return rows[0] if len(rows) == 1 or model.n_gold else rows[1]


def evaluated(text: str, config: dict[str, Any], place: Place) -> tuple[int, ...]:
    """A shape as the table writes it."""
    model = Dimensions.of(config)
    symbols = {
        "T": place.tokens, "P": place.first_token, "D": model.d_model, "R": model.d_model // config["compression_ratio"],
        "H": model.d_model // model.head_dim, "F": model.n_finch, "G": model.n_gold, "A": model.n_attention,
        "N": place.kept or 0, "head_dim": model.head_dim, "vocab_size": model.vocab_size, "position": place.position or place.tokens,
    }  # fmt: skip
    if "up to" in text:  # rows of a chunk
        assert f"{layout.CHUNK_TOKENS:,} x R per section, all but the last full, from token P" in text
        return (min(layout.CHUNK_TOKENS, place.tokens - (place.token_start or 0)), symbols["R"])
    text = re.sub(r"(?<!min)\([^)]*\)", "", text).replace("2G", "2 * G")
    return tuple(eval(term, {"min": min}, symbols) for term in text.split(" x "))


def test_spec_lists_these_kinds_in_this_order() -> None:
    assert [kind for kind in TABLE if kind != layout.ENCRYPTED] == [kind.kind for kind in GOLDFINCH.kinds]
    assert set(KINDS) == {kind.kind for family in FAMILIES for kind in family.kinds}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_shapes_are_those_of_the_table(config: dict[str, Any]) -> None:
    model = Dimensions.of(config)
    for kind in GOLDFINCH.kinds:
        text = row_of(kind.kind, model)[0]
        if kind.shape is None or (kind.kind == layout.KEPT_POSITIONS and model.n_gold):
            assert kind.shape is None or kind.shape(model, Place(3)) is None
            assert text in ("any", "bytes", "n x 2", "n x 32")
            continue
        for place in (
            Place(200_000, 0, 200_000, 0),
            Place(200_000, 70_000, 100, 135_536),
            Place(200_000, 0, 2, 65_536, 3),
            Place(3, 0, 3, 0),
            *([Place(300, 0, 300, 0, kept=70)] if kind.kind == layout.KEPT_POSITIONS else []),
        ):
            assert kind.shape(model, place) == evaluated(text, config, place), kind.kind


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("compute_dtype", [*layout.COMPUTE_DTYPES, None])
def test_dtypes_are_those_of_the_table(config: dict[str, Any], compute_dtype: str | None) -> None:
    model = Dimensions.of(config)
    compute = (compute_dtype,) if compute_dtype else layout.COMPUTE_DTYPES
    meanings = {
        "u16, or u32 above 65,536 ids": ("u32",) if config["vocab_size"] > 65_536 else ("u16",),
        "compute dtype": compute,
        "f32 (f64 in f64)": ("f64",) if compute_dtype == "f64" else ("f32",),
        "float": layout.FLOAT_DTYPES,
        "u8": ("u8",),
        "u32": ("u32",),
    }
    for kind in GOLDFINCH.kinds:
        assert kind.dtypes(model, compute_dtype, Place(10)) == meanings[row_of(kind.kind, model)[1]], kind.kind


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_dependence_and_need_are_those_of_the_table(config: dict[str, Any]) -> None:
    model = Dimensions.of(config)
    conditions = {
        "with GOLD layers": model.n_gold > 0,
        "required, at most one, with GOLD layers: the runs of rows that questions read": model.n_gold > 0,
        "with recurrent layers": model.n_finch > 0,
        "always": True,
        "exactly one, from token P": True,
        "one per attention layer that is not GOLD; never with a parent": model.n_attention > 0,
        "attention layers with token shift": model.attention_shifts,
        ROWS_OF_LAYERS: model.n_attention > 0,
    }
    for kind in GOLDFINCH.kinds:
        _, _, depends_on, remark = row_of(kind.kind, model)
        expected = "model" if "where A > 0" in depends_on and model.n_attention else depends_on.split(";")[0]
        assert kind.depends_on(model) == expected, kind.kind
        assert kind.required == ("optional" not in remark), kind.kind
        # Only where rows were dropped, but then no reader may overlook it.
        assert (kind.stands is Stands.KEPT) == (kind.kind == layout.KEPT_POSITIONS), kind.kind
        assert (kind.stands is Stands.FREE) != kind.required or kind.stands is Stands.KEPT, kind.kind
        assert kind.present(model) == conditions.get(remark, True), kind.kind


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.gfc")), ids=lambda path: path.stem)
def test_the_frozen_files_hold_what_is_described(path: Path) -> None:
    with gfcache.read_cache(path) as file:
        header = file.header
    at = sorted({s.position for s in header.of_kind(layout.TAIL_HIDDEN)} - {None, header.tokens})
    family = family_of(header.model)
    described = family.sections(
        header.model, header.tokens, str(header.compute_dtype), first_token=header.first_token, checkpoints=at
    )
    required = {s.name: s for s in header.sections if s.required}
    if path.stem == "minimal":  # without states: an example to look at
        described = [row for row in described if row.position is None]
    assert [row.name for row in described] == list(required)
    for row in described:
        section = required[row.name]
        for field in set(Described._fields) - {"codec"}:
            assert getattr(row, field) == getattr(section, field), (row.name, field)


def test_a_file_of_many_kinds_in_order() -> None:
    rows = GOLDFINCH.sections(
        {"config": CONFIGS["goldfinch"]}, 70_000, "bf16", first_token=100, checkpoints=[512, 1024]
    )
    states = ["wkv_state", "time_shift_state", "channel_shift_state", "tail_hidden"]
    assert [row.name for row in rows] == [
        "token_ids", "compressed_k/100", "compressed_k/65636", *states, *(f"{s}@512" for s in states),
        *(f"{s}@1024" for s in states),
    ]  # fmt: skip
    assert [row.shape for row in rows[:3]] == [(69_900,), (65_536, 8), (4_364, 8)]
    assert {row.dtype for row in rows if row.kind == "wkv_state"} == {"f32"}
    assert [row.name for row in GOLDFINCH.sections({"config": CONFIGS["gptalpha above"]}, 10, "f32")] == [
        "token_ids", *states, "attention_kv/4", "attention_kv/5", "attention_time_shift_state",
        "attention_channel_shift_state",
    ]  # fmt: skip
