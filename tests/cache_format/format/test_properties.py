"""Properties over generated files: what is written is read, and no changed byte goes unnoticed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import gfcache
import numpy as np
import pytest
from gfcache import SectionData, layout
from gfcache.format.writer import build_file
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cache_format.small_cache import CONFIG, header, sections

FLOATS = {"f32": np.float32, "f64": np.float64}


def file_bytes() -> bytes:
    return b"".join(bytes(p) for p in build_file(header(), sections())[1])


def accepts(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        gfcache.verify_cache(path)
    except gfcache.CacheFormatError:
        return False
    return True


def test_every_flipped_bit_of_prefix_header_and_table_is_refused(tmp_path: Path) -> None:
    data = bytearray(file_bytes())
    end = layout.align(layout.HEADER_OFFSET + layout.PREFIX.unpack(data[: layout.PREFIX.size])[3])
    path = tmp_path / "x.gfc"
    for place in range(end):
        for bit in range(8):
            data[place] ^= 1 << bit
            path.write_bytes(data)
            with pytest.raises(gfcache.CacheFormatError):  # the header alone: no section needs to be read
                gfcache.read_cache(path).close()
            data[place] ^= 1 << bit
    assert accepts(path, bytes(data))


def test_flipped_bits_of_payloads_are_refused(tmp_path: Path) -> None:
    data = bytearray(file_bytes())
    _, parts = build_file(header(), sections())
    path, at = tmp_path / "x.gfc", 0
    for part in parts:
        places = {0, len(part) // 2, len(part) - 1, len(part) // 3} if len(part) else set()
        for place in places:
            data[at + place] ^= 16
            assert not accepts(path, bytes(data)), (at, place)
            data[at + place] ^= 16
        at += len(part)


def test_swapped_payloads_of_equal_size_are_refused(tmp_path: Path) -> None:
    """time_shift_state and channel_shift_state have one size: only their checksums tell them apart."""
    path = tmp_path / "x.gfc"
    gfcache.write_cache(path, header(), sections())
    data = bytearray(path.read_bytes())
    with gfcache.read_cache(path) as file:
        a, b = file.section(layout.TIME_SHIFT_STATE), file.section(layout.CHANNEL_SHIFT_STATE)
        start = file.file_bytes - sum(layout.align(s.stored_bytes) for s in file.header.sections)
    assert a.stored_bytes == b.stored_bytes
    one, other = (slice(start + s.offset, start + s.offset + s.stored_bytes) for s in (a, b))
    data[one], data[other] = data[other], data[one]
    assert not accepts(path, bytes(data))


@st.composite
def files(draw: st.DrawFn) -> tuple[gfcache.Header, list[SectionData]]:
    """A header and sections that SPEC.md allows."""
    tokens = draw(st.integers(1, 700))
    name, dtype = draw(st.sampled_from(sorted(FLOATS.items())))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)

    def values(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * draw(st.sampled_from([1e-4, 1.0, 100.0]))).astype(dtype)

    vocab = draw(st.sampled_from([2, 50, 512]))
    ids = rng.integers(0, vocab, tokens).astype(np.uint16)
    squeeze = draw(st.booleans())
    data = [
        SectionData("ids", layout.TOKEN_IDS, "u16", ids, token_start=0, codec="zstd" if squeeze else "raw"),
        SectionData(
            "k", layout.COMPRESSED_K, name, values(tokens, 4), token_start=0, codec="zstd" if squeeze else "raw"
        ),
        SectionData("wkv", layout.WKV_STATE, name, values(2, 1, 64, 64), position=tokens),
        SectionData("time", layout.TIME_SHIFT_STATE, name, values(2, 64), position=tokens),
        SectionData("channel", layout.CHANNEL_SHIFT_STATE, name, values(2, 64), position=tokens),
        SectionData("tail", layout.TAIL_HIDDEN, name, values(min(3, tokens), 64), position=tokens),
    ]
    if draw(st.booleans()):
        text = np.frombuffer(draw(st.binary(min_size=1, max_size=300)), np.uint8)
        data.append(SectionData("text", layout.SOURCE_TEXT, "u8", text, required=False, codec="zstd"))
    label = draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
    start = draw(st.integers(0, tokens))
    values_of_header = header(
        tokens=tokens,
        model=header().model | {"config": CONFIG | {"vocab_size": vocab}, "name": label},
        tokenizer=header().tokenizer | {"vocab_size": vocab},
        numerics={"compute_dtype": name},
        template={"prefix_fingerprint": "d" * 64, "document_start": start, "document_end": tokens},
    )
    return values_of_header, data


@settings(max_examples=60, deadline=None)
@given(files())
def test_what_is_written_is_read(made: tuple[gfcache.Header, list[SectionData]]) -> None:
    head, data = made
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gfc"
        written = gfcache.write_cache(path, head, data)
        assert gfcache.verify_cache(path) == written
        with gfcache.read_cache(path) as file:
            for item in data:
                np.testing.assert_array_equal(file.array(file.section(item.name)), item.array)
            assert file.header.model["name"] == head.model["name"]
        summary = gfcache.inspect_cache(path)
        assert summary["bytes_total"] == path.stat().st_size
        first = path.read_bytes()
        gfcache.write_cache(path, head, data)
        assert path.read_bytes() == first


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 10**9), mask=st.integers(1, 255), cut=st.integers(0, 10**9), kind=st.integers(0, 3))
def test_no_change_goes_unnoticed(place: int, mask: int, cut: int, kind: int) -> None:
    """A changed byte, a cut, a doubled tail, inserted bytes."""
    data = file_bytes()
    place, cut = place % len(data), cut % len(data)
    if kind == 0:
        changed = bytearray(data)
        changed[place] ^= mask
    elif kind == 1:
        changed = bytearray(data[:cut])
    elif kind == 2:
        changed = bytearray(data + data[cut:])
    else:
        changed = bytearray(data[:place] + bytes([mask]) + data[place:])
    with tempfile.TemporaryDirectory() as folder:
        assert not accepts(Path(folder) / "x.gfc", bytes(changed))
