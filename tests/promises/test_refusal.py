"""A cache that does not belong, or is damaged, is refused: by an error and an exit code of its own, before the model runs.

One file is asked end to end, through the library and through `gf ask`. Every reading rule of SPEC.md has its test in
tests/cache_format.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
from gfcache import layout

import goldfinch
from gfcli.app import run
from goldfinch.errors import CacheMismatch
from goldfinch.models.running.sequences import Sequences
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.weights.changing import change_model
from tests.cache_format.craft import craft, sections_of

TEXT = "A document of some length, with a few words in it. " * 8


@dataclass
class Given:
    """A cache and the model that it belongs to; a case changes one of the two."""

    cache: Path
    model: Path
    other_model: Path


@pytest.fixture
def given(tiny_model: Path, other_model: Path, tmp_path: Path) -> Given:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    loaded = goldfinch.load_model(model)
    ids, span = goldfinch.document_token_ids(loaded, TEXT)
    goldfinch.prefill(loaded, ids, document_range=span).save(tmp_path / "doc.gfc")
    return Given(tmp_path / "doc.gfc", model, other_model)


def change_card(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    card = json.loads((model / "config.json").read_text())
    change(card)
    (model / "config.json").write_text(json.dumps(card))


def other_weights(given: Given) -> None:
    given.model = given.other_model


def other_tokenizer(given: Given) -> None:
    """The same words, written in another way: another file, so another fingerprint."""
    path = given.model / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
    fingerprint = read_tokenizer(path).fingerprint
    change_card(given.model, lambda card: card.update(tokenizer_fingerprint=fingerprint))


def other_template(given: Given) -> None:
    change_model(str(given.model), {"template.document_prefix": "Document: "})


def other_shape(given: Given) -> None:
    """The fingerprints are the model's, configuration and sections are not."""
    craft(given.cache, given.cache, config={"head_dim": 32}, arrays={"wkv_state": np.zeros((2, 2, 32, 32))})


def newer_format(given: Given) -> None:
    put(given, 8, layout.FORMAT_MAJOR + 1)


def unknown_required_section(given: Given) -> None:
    header, rows = sections_of(given.cache)
    strange = replace(rows[-1], name="dreams", kind="dreams", required=True)
    gfcache.write_cache(given.cache, replace(header, sections=()), [*rows, strange])


def put(given: Given, at: int, value: int | None = None) -> None:
    """Set a byte of the file, or flip its lowest bit."""
    data = bytearray(given.cache.read_bytes())
    data[at] = data[at] ^ 1 if value is None else value
    given.cache.write_bytes(data)


def flipped_header(given: Given) -> None:
    put(given, layout.HEADER_OFFSET + 10)


def flipped_payload(given: Given) -> None:
    put(given, -200)


def cut_by_one(given: Given) -> None:
    given.cache.write_bytes(given.cache.read_bytes()[:-1])


def cut_in_the_header(given: Given) -> None:
    given.cache.write_bytes(given.cache.read_bytes()[:100])


def empty(given: Given) -> None:
    given.cache.write_bytes(b"")


def something_else(given: Given) -> None:
    given.cache.write_bytes(b"PK\x03\x04" + bytes(400))


# What happened; the error and what it says of itself; the exit code.
CASES: list[tuple[Callable[[Given], None], type[Exception], dict[str, object], int]] = [
    (other_weights, CacheMismatch, {"field": "prefill_fingerprint"}, 5),
    (other_tokenizer, CacheMismatch, {"field": "tokenizer_fingerprint"}, 5),
    (other_template, CacheMismatch, {"field": "prefix_fingerprint"}, 5),
    (other_shape, CacheMismatch, {"field": "config.head_dim"}, 5),
    (newer_format, gfcache.UnsupportedVersion, {}, 7),
    (unknown_required_section, gfcache.UnsupportedSection, {}, 7),
    (flipped_header, gfcache.DamagedCache, {}, 6),
    (flipped_payload, gfcache.DamagedCache, {"rule": "R14"}, 6),
    (cut_by_one, gfcache.DamagedCache, {}, 6),
    (cut_in_the_header, gfcache.DamagedCache, {}, 6),
    (empty, gfcache.NotACacheFile, {"found": b""}, 6),
    (something_else, gfcache.NotACacheFile, {}, 6),
]


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No layer of a model may run."""

    def run_layers(*_: object, **__: object) -> None:
        raise AssertionError("the model ran")

    for name in ("run_prefill_layers", "run_gold_layers", "run"):
        monkeypatch.setattr(Sequences, name, run_layers)


@pytest.mark.parametrize(("happens", "error", "fields", "code"), CASES, ids=[happens.__name__ for happens, *_ in CASES])
def test_it_is_refused(
    happens: Callable[[Given], None],
    error: type[Exception],
    fields: dict[str, object],
    code: int,
    given: Given,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    happens(given)
    before = given.cache.read_bytes()
    request.getfixturevalue("idle")
    model = goldfinch.load_model(given.model)
    with pytest.raises(error) as caught:
        goldfinch.open_cache(given.cache, model)
    assert type(caught.value) is error
    assert {name: getattr(caught.value, name) for name in fields} == fields
    capsys.readouterr()
    assert run(["ask", "--cache", str(given.cache), "-m", str(given.model), "Who?"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert run(["ask", "--json", "--cache", str(given.cache), "-m", str(given.model), "Who?"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["code"] == code
    assert given.cache.read_bytes() == before


def test_the_same_file_untouched_is_answered(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    """What the cases refuse is refused for what was done to it, and a refusal leaves the process usable."""
    bad = replace(given, cache=Path(shutil.copy(given.cache, given.cache.with_name("bad.gfc"))))
    flipped_payload(bad)
    assert run(["ask", "--cache", str(bad.cache), "-m", str(given.model), "Who?"]) == 6
    goldfinch.open_cache(given.cache, goldfinch.load_model(given.model))
    assert run(["ask", "-n", "2", "--cache", str(given.cache), "-m", str(given.model), "Who?"]) == 0
    capsys.readouterr()


def test_the_model_would_be_noticed(
    given: Given, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guard of these tests stands where a prefill and an answer pass."""
    request.getfixturevalue("idle")
    model = goldfinch.load_model(given.model)
    with pytest.raises(AssertionError, match="the model ran"):
        goldfinch.prefill(model, goldfinch.document_token_ids(model, TEXT)[0])
    assert run(["ask", "-n", "2", "--cache", str(given.cache), "-m", str(given.model), "Who?"]) == 1
    assert "the model ran" in capsys.readouterr().err
