"""gf prefill --batch-tokens: short documents in one pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import goldfinch
from gfcli.app import run
from goldfinch.engine import packed_prefill as packing
from goldfinch.errors import DeviceError
from tests import tolerances
from tests.gfcli.commands.batch_tree import TEXT, below, statuses


@pytest.fixture
def small_documents(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents of unequal length, one longer than a pack, one empty; the Triton kernels, interpreted without a GPU."""
    monkeypatch.setenv("GF_KERNELS", "triton")
    folder = tree / "small"
    folder.mkdir()
    for n, length in enumerate((60, 15, 200, 40, 0, 25, 20)):
        (folder / f"{n}.txt").write_text(TEXT[n : n + length])
    return folder


def caches_of(folder: Path) -> dict[str, goldfinch.DocumentCache]:
    model = goldfinch.load_model("tiny", device="cuda" if torch.cuda.is_available() else "cpu")
    return {path.stem: goldfinch.open_cache(path, model) for path in sorted(folder.glob("*.gfc"))}


@pytest.mark.usefixtures("small_documents")
def test_documents_packed_together(capsys, monkeypatch) -> None:
    """Values of one by one up to rounding, in the order of the sources; what was packed is not packed again."""
    pytest.importorskip("triton")
    packs: list[list[int]] = []
    real = packing.prefill_packed

    def noted(model, documents):  # type: ignore[no-untyped-def]
        packs.append([document.token_ids.shape[1] for document in documents])
        return real(model, documents)

    monkeypatch.setattr(packing, "prefill_packed", noted)
    alone = statuses(capsys, "small/*.txt", "-o", "alone/", code=3)
    assert not packs
    packed = statuses(capsys, "small/*.txt", "-o", "packed/", "--batch-tokens", "50", code=3)
    assert packed == alone
    assert [name for name, status in packed.items() if status == "failed"] == ["small/4.txt"]
    assert len(packs) >= 2
    assert all(len(pack) > 1 and sum(pack) <= 50 for pack in packs)
    one, other = caches_of(Path("alone")), caches_of(Path("packed"))
    assert one.keys() == other.keys()
    for name, cache in one.items():
        found = other[name]
        together = cache.length <= 50 and found.numerics.packed
        assert found.checkpoints == () or not together
        assert cache.token_ids.tolist() == found.token_ids.tolist()
        assert cache.compressed_k is not None
        assert found.compressed_k is not None
        pairs = [(cache.compressed_k, found.compressed_k), (cache.tail_hidden, found.tail_hidden)]
        pairs += [
            (a.wkv_state, b.wkv_state) for a, b in zip(cache.state.layers, found.state.layers, strict=True) if a.wkv_state is not None
        ]  # fmt: skip
        for a, b in pairs:
            assert float((a - b).abs().max()) <= tolerances.SPLIT_FP32 * float(a.abs().max())
    assert sum(cache.numerics.packed for cache in other.values()) == sum(map(len, packs))
    packs.clear()
    again = statuses(capsys, "small/*.txt", "-o", "packed/", "--batch-tokens", "50", code=3)
    assert set(again.values()) == {"fresh", "failed"}
    assert not packs
    assert run(["verify", "--replay", "100%", "packed/0.gfc"]) == 0  # knows that these values round otherwise
    capsys.readouterr()
    assert run(["ask", "--strict", "--cache", "packed/0.gfc", "-n", "2", "What?"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.usefixtures("small_documents")
def test_packed_documents_into_the_library(capsys, monkeypatch) -> None:
    pytest.importorskip("triton")
    assert set(statuses(capsys, "small/0.txt", "small/1.txt", "--library", "--batch-tokens", "500").values()) == {"ok"}
    assert run(["ask", "small/1.txt", "--require-cached", "-n", "2", "What?"]) == 0

    for error in (DeviceError("not enough memory"), RuntimeError("the compiler failed")):

        def fails(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(packing, "prefill_packed", fails)
        arguments = ["small/0.txt", "small/1.txt", "--library", "--force", "--batch-tokens", "500"]
        assert run(["prefill", *arguments]) == 0
        assert "one by one" in capsys.readouterr().err


def test_documents_are_not_packed_on_a_cpu(tree: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("GF_KERNELS", "torch")
    assert run(["prefill", "docs/a.txt", "docs/b.md", "-o", "out/", "--batch-tokens", "4096", "--device", "cpu"]) == 0
    assert capsys.readouterr().err.count("documents are not packed") == 1
    assert below(tree / "out") == {"a.gfc", "b.gfc"}
    assert run(["prefill", "docs/a.txt", "--batch-tokens", "9", "--base", "out/b.gfc"]) == 2
    assert run(["prefill", "docs/a.txt", "--batch-tokens", "0"]) == 2
    assert run(["prefill", "docs/a.txt", "docs/b.md", "--checkpoints", "some"]) == 2
    with pytest.raises(ValueError, match="one document at a time"):
        goldfinch.prefill_packed(goldfinch.load_model("tiny"), [])
