"""A model that was changed after it was made is refused until the change is adopted; what was checked is not again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gfcli.app import run
from goldfinch.errors import ConfigError, ModelChanged, ModelDamaged
from goldfinch.weights import checking, noted
from goldfinch.weights.changing import change_model
from goldfinch.weights.directory import ASSETS, DEFAULT_MODEL, find_model, read_card
from goldfinch.weights.loading import load_model
from tests.conftest import SAMPLES

Edit = Callable[[Path], None]


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that has been loaded once."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    load_model(folder)
    return folder


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "doc.txt"
    path.write_text((SAMPLES / "four-freedoms-1941.txt").read_text()[:1000])
    return path


def in_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Edit:
    def edit(folder: Path) -> None:
        file = folder / "model.safetensors"
        before = file.stat()
        weights = load_file(file)
        change(weights)
        save_file(weights, file)
        assert file.stat().st_size == before.st_size
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened

    return edit


def in_card(part: str, name: str, value: object, **others: object) -> Edit:
    def edit(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text()) | others
        values[part][name] = value
        (folder / "config.json").write_text(json.dumps(values))

    return edit


EDITS = {
    "a matrix negated": in_weights(lambda w: w["blocks.0.att.key.weight"].neg_()),
    "one number": in_weights(lambda w: w["blocks.1.ffn.key.weight"][3, 3].add_(1e-3)),
    "another head": in_weights(lambda w: w.update({"head.weight": w["emb.weight"].clone()})),
    "rope": in_card("config", "rope", {"base": 10000.0, "rescale": 1.0, "rebase": 1.0}),
    "no second value": in_card("config", "second_value", False),
    "another divisor": in_card("config", "group_norm_divisor", 4),
    "a suffix": in_card("template", "question_suffix", "\nAnswer in German:"),
    "stop strings": in_card("template", "stop", ["e"]),
    "another end": in_card("template", "end_token_id", 5),
    "no first token": in_card("template", "bos_token_id", None),
    "a prefix": in_card("template", "document_prefix", "All of this is false: "),
    "a suffix, and its fingerprint gone": in_card("template", "question_suffix", "?", template_fingerprint=None),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_changed_model_is_refused_until_the_change_is_adopted(
    edit: Edit, model: Path, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(model)
    if edit is EDITS["a suffix, and its fingerprint gone"]:
        # Only the note of the run before tells; the edit kept the card's own fingerprints.
        with pytest.raises(ModelChanged):
            load_model(model)
    with pytest.raises(ModelDamaged):
        load_model(model)
    assert run(["prefill", str(document), "-m", str(model), "-q"]) == 6
    assert f"gf model set {model}" in capsys.readouterr().err
    assert not document.with_suffix(".gfc").exists()
    assert run(["model", "set", str(model)]) == 0
    capsys.readouterr()
    assert run(["prefill", str(document), "-m", str(model), "-q"]) == 0
    assert run(["model", "verify", str(model)]) == 0


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories whose weights are hashed from now on."""
    seen: list[Path] = []
    taken = checking.fingerprint_differences

    def counted(card: object, weights: object) -> list[str]:
        seen.append(card.path)  # type: ignore[attr-defined]
        return taken(card, weights)  # type: ignore[arg-type]

    monkeypatch.setattr(checking, "fingerprint_differences", counted)
    return seen


def test_what_was_checked_is_not_hashed_again(model: Path, tiny_model: Path, checks: list[Path]) -> None:
    load_model(model)
    load_model(model, dtype=torch.bfloat16)
    assert checks == []
    load_model(tiny_model)  # made here: import and init note what they wrote
    assert checks == []


def test_a_copy_and_a_move_are_checked_once(model: Path, tmp_path: Path, checks: list[Path]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    for _ in range(2):
        load_model(copy, dtype=torch.bfloat16)
    assert checks == [copy]
    copy.rename(tmp_path / "moved")
    for _ in range(2):
        load_model(tmp_path / "moved")
    assert checks == [copy, tmp_path / "moved"]


def test_a_directory_that_cannot_be_written_is_checked_once(model: Path, checks: list[Path]) -> None:
    """The note stands in the user's cache, and nothing of it in the directory."""
    files = sorted(path.name for path in model.iterdir())
    os.utime(model / "model.safetensors")
    model.chmod(0o555)
    try:
        for _ in range(2):
            load_model(model)
    finally:
        model.chmod(0o755)
    assert checks == [model]
    assert sorted(path.name for path in model.iterdir()) == files


def test_a_note_in_a_folder_of_others_is_not_believed(
    model: Path, checks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = noted.place_of(read_card(model).model_fingerprint)
    assert place is not None
    assert [folder.stat().st_mode & 0o777 for folder in (place, place.parent)] == [0o700, 0o700]
    place.chmod(0o777)
    load_model(model)
    assert noted.place_of(place.name) is None
    place.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    elsewhere = tmp_path / "cache" / "goldfinch" / "models"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.symlink_to(place.parent)
    load_model(model)
    (tmp_path / "no-folder").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-folder"))
    load_model(model)
    assert checks == [model] * 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"version": 99}', "[" * 90_000])
def test_a_damaged_note_counts_for_nothing(content: str, model: Path, checks: list[Path]) -> None:
    place = noted.place_of(read_card(model).model_fingerprint)
    assert place is not None
    for note in place.glob("checked-*.json"):
        note.write_text(content)
    load_model(model)
    assert checks == [model]


def test_set_writes_values_and_fingerprints(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_card(model)
    assert run(["model", "set", str(model), 'template.stop=["\\n", "Q:"]', "template.question_suffix= =>"]) == 0
    assert "template_fingerprint" in capsys.readouterr().err
    card = read_card(model)
    assert (card.template.stop, card.template.question_suffix) == (("\n", "Q:"), " =>")
    assert card.template_fingerprint == card.template.fingerprint() != before.template_fingerprint
    assert (card.model_fingerprint, card.template.prefix_fingerprint()) == (
        before.model_fingerprint,
        before.template.prefix_fingerprint(),
    )
    assert run(["model", "set", str(model), 'template.question_suffix="\\nA:"', 'template.stop="x"', "name=other"]) == 0
    card = read_card(model)
    assert (card.template.stop, card.template.question_suffix, card.name) == (("x",), "\nA:", "other")
    change_model(str(model), {"config.second_value": "false"})
    assert read_card(model).model_fingerprint != before.model_fingerprint
    load_model(model)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("template.colour=gold", 2), ("template.stop", 2), ("=x", 2), ("template.stop=[1]", 2), ("template.stop=[", 2),
        ("template.bos_token_id=512", 2), ("name=a\x1b[2J", 2), ("config.n_layer=4", 5), ("config.n_layer=0", 2),
        ("config.time_mix=mamba", 2), ("template.question_suffix=" + "x" * 40_000, 2), ("config.d_ffn=97", 5),
    ],
)  # fmt: skip
def test_set_refuses_what_no_model_may_have(change: str, code: int, model: Path) -> None:
    before = (model / "config.json").read_bytes()
    assert run(["model", "set", str(model), change]) == code
    assert (model / "config.json").read_bytes() == before


def test_the_embedded_model_is_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "set", DEFAULT_MODEL, "template.stop=x"]) == 2
    assert "copy" in capsys.readouterr().err


def test_a_cache_of_another_template_is_asked_when_the_model_is_named(
    model: Path, document: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused only where the answer would differ: not by commands that ask nothing, and not with --raw."""
    monkeypatch.setenv("GF_MODELS_DIR", str(model.parent))
    assert run(["prefill", str(document), "-m", str(model), "-q"]) == 0
    cache = str(document.with_suffix(".gfc"))
    ask = ["ask", "--cache", cache, "-n", "2", "Who?"]
    assert run(ask) == 0
    assert run(["model", "set", str(model), "template.answer_prefix=x"]) == 0
    assert run(ask) == 0  # only training reads that
    assert run(["model", "set", str(model), "template.question_suffix=?!"]) == 0
    capsys.readouterr()
    assert run(ask) == 5
    assert "template.fingerprint" in capsys.readouterr().err
    assert run([*ask, "--raw"]) == 0
    assert run([*ask, "-m", str(model)]) == 0
    assert run(["inspect", cache]) == 0
    assert run(["verify", cache, "--replay", "1"]) == 0
    assert run(["model", "set", str(model), "template.document_prefix=x"]) == 0
    assert run([*ask, "-m", str(model)]) == 5


def test_a_cache_of_before_the_fingerprint_was_noted_is_asked(
    model: Path, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from goldfinch.caching import identity

    monkeypatch.setenv("GF_MODELS_DIR", str(model.parent))
    taken = identity.identity_of

    def old(loaded: object) -> dict[str, object]:
        values = taken(loaded)  # type: ignore[arg-type]
        del values["template"]["fingerprint"]
        return values

    for module in ("goldfinch.engine.prefill", "goldfinch.engine.packed_prefill"):
        monkeypatch.setattr(f"{module}.identity_of", old)
    assert run(["prefill", str(document), "-m", str(model), "-q"]) == 0
    assert run(["model", "set", str(model), "template.question_suffix=?!"]) == 0
    assert run(["ask", "--cache", str(document.with_suffix(".gfc")), "-n", "2", "Who?"]) == 0


@pytest.fixture
def twins(tiny_model: Path, other_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two different models of one name."""
    models = tmp_path / "models"
    models.mkdir()
    for folder, source in (("a", tiny_model), ("b", other_model)):
        shutil.copytree(source, models / folder)
        change_model(str(models / folder), {"name": "twin"})
    monkeypatch.setenv("GF_MODELS_DIR", str(models))
    return models / "a", models / "b"


def test_of_two_models_of_one_name_the_one_of_the_cache_is_taken(
    twins: tuple[Path, Path], document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = twins
    assert run(["prefill", str(document), "-m", str(b), "-q"]) == 0
    cache = str(document.with_suffix(".gfc"))
    capsys.readouterr()
    assert run(["ask", "--cache", cache, "-m", "twin", "-n", "2", "Who?"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "different models" in line]
    assert len(warnings) == 1
    assert f"{b} is used, not {a}" in warnings[0]
    assert run(["prefill", str(document), "-m", "twin", "-q", "--force"]) == 0
    assert f"{a} is used, not {b}" in capsys.readouterr().err
    shutil.rmtree(b)
    assert run(["prefill", str(document), "-m", str(a), "-q", "--force"]) == 0
    shutil.rmtree(a)
    shutil.copytree(find_model().path, a)
    assert run(["ask", "--cache", cache, "-m", "a", "-n", "2", "Who?"]) == 5


def test_none_of_two_models_made_the_cache(twins: tuple[Path, Path], document: Path, tmp_path: Path) -> None:
    from goldfinch.weights.writing import init_model

    init_model("goldfinch-tiny", 7, tmp_path / "third", twins[0] / "tokenizer.json")
    assert run(["prefill", str(document), "-m", str(tmp_path / "third"), "-q"]) == 0
    cache = str(document.with_suffix(".gfc"))
    assert run(["ask", "--cache", cache, "-m", "twin", "Who?"]) == 5
    assert run(["ask", "--cache", cache, "Who?"]) == 4


def test_a_model_that_hides_the_embedded_one_is_said(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_model, models / DEFAULT_MODEL)
    monkeypatch.setenv("GF_MODELS_DIR", str(models))
    embedded = str(ASSETS / DEFAULT_MODEL)
    assert run(["model", "show", DEFAULT_MODEL]) == 0
    assert f"{models / DEFAULT_MODEL} is used, not {embedded}" in capsys.readouterr().err
    shutil.rmtree(models / DEFAULT_MODEL)
    shutil.copytree(embedded, models / DEFAULT_MODEL)
    assert run(["model", "show", DEFAULT_MODEL]) == 0
    assert "is used, not" not in capsys.readouterr().err  # the same model in two places
    (models / DEFAULT_MODEL / "config.json").write_text("{")
    assert run(["model", "show", DEFAULT_MODEL]) == 6  # nothing else answers in its place


def test_a_name_of_a_broken_neighbour_disturbs_nobody(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    shutil.copytree(tiny_model, models / "good")
    (models / "bad").mkdir()
    (models / "bad" / "config.json").write_text('{"name": ["good"]}')
    monkeypatch.setenv("GF_MODELS_DIR", str(models))
    assert find_model("good").path == models / "good"
    with pytest.raises(ModelDamaged):
        find_model("bad")


def test_a_template_says_what_it_is() -> None:
    from dataclasses import replace

    from goldfinch.text.template import PromptTemplate

    template = PromptTemplate()
    own = template.fingerprint()
    for name, value in (("bos_token_id", 3), ("end_token_id", 3), ("document_prefix", "a"), ("question_prefix", "a"),
                        ("question_suffix", "a"), ("stop", ("a",))):  # fmt: skip
        assert replace(template, **{name: value}).fingerprint() != own
    assert replace(template, answer_prefix="a").fingerprint() == own
    with pytest.raises(ConfigError, match="bos_token_id"):
        replace(template, bos_token_id=5).check_token_ids(5)
