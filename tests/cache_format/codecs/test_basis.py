"""Codes in a basis: values are exact, a basis is known by its digest, and no bytes of either do harm."""

from __future__ import annotations

import contextlib
import dataclasses
from fractions import Fraction
from pathlib import Path

import gfcache
import numpy as np
import pytest
from gfcache import layout
from gfcache.codecs import registry
from gfcache.codecs.basis import matrices
from gfcache.codecs.basis.codes import MOST, InBasis
from gfcache.codecs.basis.matrices import Basis, Matrices, parse
from gfcache.codecs.rotary import BITS, turns
from gfcache.codecs.tokens import Where
from gfcache.format import bases
from gfcache.format.writer import SectionData

from gfcli.app import run
from tests.cache_format.small_basis import small_basis

from .golden import pairs, pairs_coding

ROTARY = (1.0, 0.3)


def where(D: int, heads: int = 2, first: int = 4, **more: object) -> Where:
    basis = small_basis((0,), heads, D).of((0,), "keys")
    return Where(layout.KV_KEYS, first, D, ROTARY, basis)._replace(**more)


def test_values_are_exact_sums_rounded_where_it_is_said() -> None:
    """Against sums of Python's integers, near the limits and far from them."""
    rng, D, n = np.random.default_rng(0), 6, 5
    largest = rng.choice([-matrices.MOST_ENTRY, matrices.MOST_ENTRY], (2, D, D)).astype(np.int16)
    for integers, most in ((largest, MOST), (small_basis((0,), 2, D).of((0,), "keys").integers, 30)):
        basis, turn = Matrices(integers, np.array([-8, 3], np.int16)), turns(ROTARY, 4, n)
        codes = rng.integers(-most, most + 1, (2, D, n))
        for turning in (None, turn):
            found = InBasis(1.5)._values(codes.astype(np.float32), basis, turning)
            for h in range(2):
                sums = [
                    [sum(int(a) * int(c) for a, c in zip(row, column, strict=True)) for column in codes[h].T]
                    for row in integers[h]
                ]
                if turning is not None:
                    c, s = turn.cosine.astype(int).tolist(), turn.sine.astype(int).tolist()
                    for p in range(2):
                        pair = sums[p], sums[p + 2]
                        sums[p] = [
                            Fraction(u * a - v * b, 1 << BITS) for u, v, a, b in zip(*pair, c[p], s[p], strict=True)
                        ]
                        sums[p + 2] = [
                            Fraction(v * a + u * b, 1 << BITS) for u, v, a, b in zip(*pair, c[p], s[p], strict=True)
                        ]
                unit = Fraction(3, 2) * Fraction(2) ** int(basis.exponents[h])
                wanted = [[np.float32(float(Fraction(one) * unit)) for one in row] for row in sums]
                assert np.array_equal(found[h], np.array(wanted, np.float32))


def test_both_ways_to_multiply_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(-40, 41, (2, 16, 300)).astype(np.float32)
    basis = small_basis((0,), 2, 16).of((0,), "keys")
    once = InBasis(1.0)._values(codes, basis, None)
    monkeypatch.setattr("gfcache.codecs.basis.codes._EXACT_F32", 0)
    assert np.array_equal(InBasis(1.0)._values(codes, basis, None), once)


@pytest.mark.parametrize("name", registry.BASED)
def test_small_units_are_exact_in_every_codec(name: str) -> None:
    """Values of 2^-50 are those of 1, 2^-50 times: their units are no numbers of 16 bits."""
    given = np.random.default_rng(0).standard_normal((1, 2, 40, 16)).astype(np.float32)
    there = where(16)
    small = there._replace(basis=dataclasses.replace(there.basis, exponents=there.basis.exponents - np.int16(50)))
    once = registry.rounded(given, "f32", name, there)
    assert np.array_equal(registry.rounded(np.ldexp(given, -50), "f32", name, small), np.ldexp(once, -50))


def test_what_no_code_reaches_stays_and_costs_the_others_nothing() -> None:
    """A token whose head is far out, and heads in 16 bits whose middles are far from zero, are stored as they are."""
    given = np.random.default_rng(0).standard_normal((1, 2, 300, 16)).astype(np.float32)
    given[0, 1, 50] = 1e9
    there = where(16)
    once = registry.rounded(given, "f32", "basis3", there)
    assert np.array_equal(once[0, 1, 50], given[0, 1, 50])
    assert not np.isclose(once[0, 0], given[0, 0]).all(axis=-1).any()
    name, data = registry.encode(once, "f32", "basis3", there)
    assert name == "basis3"
    assert len(data) < 0.2 * once.nbytes
    words = (np.random.default_rng(1).standard_normal((1, 2, 300, 16)).astype(np.float32) + 300).view(np.uint32) >> 16
    once = registry.rounded(words.astype(np.uint16), "bf16", "basis4", there)
    name, data = registry.encode(once, "bf16", "basis4", there)
    assert registry.decode(name, bytes(data), "bf16", once.shape, there) == once.tobytes()


def test_a_basis_is_what_its_bytes_are() -> None:
    data = small_basis((0, 3)).to_bytes()
    basis = parse(data)
    assert basis.to_bytes() == data
    assert [*basis.matrices] == [(0, "keys"), (0, "values"), (3, "keys"), (3, "values")]
    assert parse(Basis({}).to_bytes()).matrices == {}


def test_no_bytes_of_a_basis_do_harm() -> None:
    data, rng = small_basis((0, 1)).to_bytes(), np.random.default_rng(0)
    changes = [data[:-1], data + b"\0", data[:20], b"", b"x" + data[1:], data[:8] + b"\xff\xff\xff\xff" + data[12:]]
    head = 12  # of the first entry: heads, then channels
    changes += [data[: head + 4] + b"\xff\xff" + data[head + 6 :], data[: head + 6] + b"\x00\x04" + data[head + 8 :]]
    changes += [data[: head + 8] + data[head : head + 8] + data[head + 16 :]]  # one of them twice
    for changed in changes:
        with pytest.raises(ValueError, match=r".+"):
            parse(changed)
    for _ in range(300):
        at = int(rng.integers(len(data)))
        changed = data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]
        with contextlib.suppress(ValueError):
            assert parse(changed).to_bytes() == changed


def test_a_matrix_that_loses_something_codes_nothing() -> None:
    flat = Matrices(np.ones((2, 16, 16), np.int16), np.zeros(2, np.int16))
    given = np.ones((1, 2, 30, 16), np.float32)
    with pytest.raises(ValueError, match="no inverse"):
        registry.rounded(given, "f32", "basis3", where(16, basis=flat))
    with pytest.raises(ValueError, match="no basis of 2 heads"):
        registry.rounded(given, "f32", "basis3", where(8))
    with pytest.raises(ValueError, match="of keys and values alone"):
        registry.rounded(given[0, 0], "f32", "basis3")


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    gfcache.write_cache(tmp_path / "plain.gfc", *pairs())
    gfcache.convert_cache(tmp_path / "plain.gfc", tmp_path / "a.gfc", pairs_coding("basis3"))
    return tmp_path / "a.gfc"


def test_another_basis_is_refused_by_name(
    coded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gfcache.verify_cache(coded, complete=True)
    other = small_basis((0, 1), seed=1)
    monkeypatch.setattr(bases, "_known", {other.digest: other})
    with pytest.raises(gfcache.BasisMissing, match="is not here") as caught:
        gfcache.verify_cache(coded, complete=True)
    with gfcache.read_cache(coded) as file:  # the rest of the file can be read
        section = file.section("kv_keys/0/0")
        assert (caught.value.section, caught.value.digest) == (section.name, section.basis)
        assert file.header.numerics["rows_basis"] == section.basis
        assert file.array(file.section("token_ids")).shape == (140,)
    assert run(["inspect", str(coded)]) == 0
    assert section.basis[:16] in capsys.readouterr().out
    assert run(["verify", str(coded)]) == 4
    assert "codec_basis" not in (error := capsys.readouterr().err)
    assert section.basis[:16] in error


def test_a_basis_is_looked_for_where_it_is_said_to_lie(
    coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "_known", {})
    places = [tmp_path / "none", tmp_path / "text", tmp_path / "a.gfb"]
    places[1].write_text("no basis")
    places[2].write_bytes(small_basis((0, 1)).to_bytes())
    monkeypatch.setattr("gfcache.files.basis_files._places", [])
    gfcache.offer_bases(lambda: places[:2])
    with pytest.raises(gfcache.BasisMissing):
        gfcache.verify_cache(coded, complete=True)
    gfcache.offer_bases(lambda: places)
    gfcache.verify_cache(coded, complete=True)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [({"basis": None}, "R12"), ({"basis": "x"}, "R9"), ({"codec": "step3"}, "R12")],
)
def test_a_basis_is_named_where_a_codec_needs_one_and_nowhere_else(
    coded: Path, tmp_path: Path, changes: dict[str, str | None], rule: str
) -> None:
    import json

    from tests.cache_format.craft import assemble

    data = coded.read_bytes()
    end = 64 + int.from_bytes(data[12:16], "little")
    header = json.loads(data[64:end])
    row = next(one for one in header["sections"] if one["name"] == "kv_keys/0/0")
    row.update(changes)
    (tmp_path / "b.gfc").write_bytes(assemble(json.dumps(header).encode(), data[layout.align(end) :]))
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.read_cache(tmp_path / "b.gfc")
    assert caught.value.rule == rule


def test_a_writer_wants_a_basis_that_is_known(tmp_path: Path) -> None:
    header, rows = pairs()
    rows = [dataclasses.replace(r, codec="basis3", basis="0" * 64) if r.kind in ("kv_keys",) else r for r in rows]
    assert isinstance(rows[0], SectionData)
    with pytest.raises(gfcache.UnwritableCache, match="basis"):
        gfcache.write_cache(tmp_path / "a.gfc", header, rows)
    gfcache.write_cache(tmp_path / "plain.gfc", *pairs())
    for coding, why in (
        (gfcache.Coding("basis3"), "needs the basis"),
        (gfcache.Coding("basis3", basis="0" * 64), "needs"),
    ):
        with pytest.raises(gfcache.CannotRound, match=why):
            gfcache.convert_cache(tmp_path / "plain.gfc", tmp_path / "b.gfc", coding)


def test_what_was_coded_in_one_basis_does_not_pass_another(coded: Path, tmp_path: Path) -> None:
    other = small_basis((0, 1), seed=1)
    bases.offer(other)
    with pytest.raises(gfcache.CannotRound, match="in the basis"):
        gfcache.convert_cache(coded, tmp_path / "b.gfc", gfcache.Coding("basis3", basis=other.digest))
