"""Model directories and published files of a stranger: refused with a sentence, in seconds, in memory of their own order."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import pytest

from goldfinch.weights.directory import DEFAULT_MODEL
from tests.conftest import SAMPLES
from tests.cpu_time import least_cpu_s
from tests.goldfinch.weights.strange_models import CARDS, PICKLES, TOKENIZERS, WEIGHTS, Change, copied
from tests.limited import Ended, run_limited

DIRECTORIES: dict[str, Change] = {
    f"{kind}: {name}": change
    for kind, changes in (("card", CARDS), ("tokenizer", TOKENIZERS), ("weights", WEIGHTS))
    for name, change in changes.items()
}
DOES_NOT_BELONG, DAMAGED = 5, 6


@pytest.fixture(scope="module")
def prefilled(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How gf prefill ended with each directory, by the name of the case; and with an intact one."""
    folder = tmp_path_factory.mktemp("strange")
    commands = []
    for n, change in enumerate((*DIRECTORIES.values(), lambda path: None)):
        model = copied(tiny_model, folder / f"model-{n}", change)
        document = str(SAMPLES / "four-freedoms-1941.txt")
        commands.append(["prefill", document, "-m", str(model), "-o", str(folder / f"{n}.gfc"), "-q"])
    return dict(zip((*DIRECTORIES, "intact"), run_limited(commands, folder), strict=True))


def test_an_intact_directory_serves_within_these_limits(prefilled: dict[str, Ended]) -> None:
    assert prefilled["intact"].code == 0, prefilled["intact"].err


def assert_refused(ended: Ended) -> None:
    assert ended.code in (DOES_NOT_BELONG, DAMAGED), (ended.code, ended.err[-500:])
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, ended.err[-500:]
    assert len(errors[0]) < 700, ended.err[-500:]
    assert "Traceback" not in ended.err, ended.err[-500:]


@pytest.mark.parametrize("case", DIRECTORIES)
def test_a_strange_directory_is_refused(case: str, prefilled: dict[str, Ended]) -> None:
    assert_refused(prefilled[case])


@pytest.fixture(scope="module")
def imports(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How gf model import ended with each .pth."""
    folder = tmp_path_factory.mktemp("pickles")
    commands = []
    for n, write in enumerate(PICKLES.values()):
        write(folder / f"{n}.pth")
        command = ["model", "import", str(folder / f"{n}.pth"), "--config", str(tiny_model / "config.json")]
        commands.append([*command, "-o", str(folder / f"out-{n}")])
    ended = dict(zip(PICKLES, run_limited(commands, folder), strict=True))
    assert not list(folder.glob("*out-*"))
    return ended


@pytest.mark.parametrize("case", PICKLES)
def test_a_strange_pth_is_refused(case: str, imports: dict[str, Ended]) -> None:
    assert_refused(imports[case])


CONFIGURATIONS = (
    "[" * 200_000, "[]", "{}", '{"n_embd": []}', '{"n_embd": 64}', '{"n_layer": 1e999}', '{"n_embd": 64, "rope": 3}'
)  # fmt: skip


@pytest.fixture(scope="module")
def configurations(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    folder = tmp_path_factory.mktemp("configurations")
    commands = []
    for n, text in enumerate(CONFIGURATIONS):
        (folder / f"{n}.json").write_text(text)
        command = ["model", "import", str(tiny_model / "model.safetensors"), "--config", str(folder / f"{n}.json")]
        commands.append([*command, "-o", str(folder / f"out-{n}")])
    return dict(zip(CONFIGURATIONS, run_limited(commands, folder), strict=True))


@pytest.mark.parametrize("config", CONFIGURATIONS)
def test_a_strange_configuration_is_refused(config: str, configurations: dict[str, Ended]) -> None:
    assert_refused(configurations[config])


VOCABULARIES = {
    "brackets without end": "1 " + "(" * 500_000 + " 1\n",
    "a long line": "1 '" + "a" * 10_000_000 + "' 10000000\n",
    "a token of nothing": "1 '' 0\n",
    "an id of 2^40": f"{2**40} 'a' 1\n",
    "an id twice": "1 'a' 1\n1 'b' 1\n",
    "a token twice": "1 'a' 1\n2 'a' 1\n",
    "a call": "1 print('a') 1\n",
    "numbers": "1 23 2\n",
    "half a pair": "1 '\\ud800' 3\n",
    "no such escape": "1 '\\xzz' 1\n",
}


@pytest.fixture(scope="module")
def vocabularies(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    folder = tmp_path_factory.mktemp("vocabularies")
    commands = []
    for n, text in enumerate(VOCABULARIES.values()):
        (folder / f"{n}.txt").write_text(text)
        command = ["model", "init", "-o", str(folder / f"m{n}"), "--tokenizer", str(folder / f"{n}.txt")]
        commands.append(command)
    return dict(zip(VOCABULARIES, run_limited(commands, folder), strict=True))


@pytest.mark.parametrize("case", VOCABULARIES)
def test_a_strange_vocabulary_is_refused(case: str, vocabularies: dict[str, Ended]) -> None:
    assert_refused(vocabularies[case])


def test_a_panic_of_the_tokenizer_library_is_an_error(tiny_tokenizer: Path) -> None:
    """Its panics are no Exceptions."""
    from goldfinch.errors import TokenizerDamaged
    from goldfinch.text.tokenizer import BytePairTokenizer

    panic = type("PanicException", (BaseException,), {})

    def fail(error: BaseException) -> None:
        raise error

    tokenizer = BytePairTokenizer(tiny_tokenizer)
    with pytest.raises(TokenizerDamaged, match="fail"):
        tokenizer._ask(functools.partial(fail, panic("index out of range")))
    with pytest.raises(KeyboardInterrupt):
        tokenizer._ask(functools.partial(fail, KeyboardInterrupt()))


def test_published_forms_of_tokenizers_are_taken() -> None:
    """Llama 3 and Qwen cut with a pattern, SentencePiece models replace blanks; texts come back the same."""
    from goldfinch.text import bpe_file

    letters = bpe_file._byte_letters()
    vocab = {letter: n for n, letter in enumerate(letters)}
    for pattern in bpe_file.PATTERNS.values():
        parts = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ]
        values = {
            "version": "1.0", "truncation": None, "padding": None, "normalizer": {"type": "NFC"}, "added_tokens": [],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts},
            "post_processor": {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
            "decoder": parts[1],
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        }  # fmt: skip
        assert_round_trip(values)
    pieces = {f"<0x{b:02X}>": b for b in range(256)} | {"\u2581": 256, "a": 257, "\u2581a": 258}
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    values = {
        "added_tokens": [], "normalizer": {"type": "Sequence", "normalizers": [blank]}, "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "vocab": pieces, "merges": ["\u2581 a"], "byte_fallback": True, "unk_token": None},
    }  # fmt: skip
    assert_round_trip(values)


def assert_round_trip(values: dict[str, object]) -> None:
    from tokenizers import Tokenizer

    from goldfinch.text.bpe_file import accepted

    tokenizer = Tokenizer.from_str(accepted(json.dumps(values).encode()).text)
    text = "a b, 123 it's naïve 😀\n\n  end"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_list_marks_the_broken_and_shows_the_others(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gfcli.app import run

    models = tmp_path / "models"
    models.mkdir()
    (models / "good").symlink_to(tiny_model)
    chosen = {"card": "n_layer 200000", "weights": "a header of 2^63"}
    copied(tiny_model, models / "bad-card", CARDS[chosen["card"]])
    copied(tiny_model, models / "bad-weights", WEIGHTS[chosen["weights"]])
    monkeypatch.setenv("GF_MODELS_DIR", str(models))
    assert run(["model", "list"]) == 0
    printed = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1] for line in printed.out.splitlines()}
    assert rows == {"bad-card": "broken", "bad-weights": "broken", "tiny": "goldfinch", DEFAULT_MODEL: "goldfinch"}
    assert "n_layer is 200000" in printed.err
    assert "bad-weights" in printed.err
    assert run(["model", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in listed["models"]] == ["tiny", DEFAULT_MODEL]
    assert [os.path.basename(row["path"]) for row in listed["broken"]] == ["bad-card", "bad-weights"]


def test_no_limit_of_a_configuration_takes_memory_or_time() -> None:
    """The largest model that a card may describe is compared with a header in the time of its layers."""
    from goldfinch.errors import WeightsMismatch
    from goldfinch.models.config import MOST, ModelConfig
    from goldfinch.weights.headers import check_sizes

    def compare(config: ModelConfig) -> None:
        with pytest.raises(WeightsMismatch):
            check_sizes(config, {"emb.weight": (1, 1)})

    small = ModelConfig(MOST["n_layer"], 64, 64, 256)
    large = ModelConfig(MOST["n_layer"], MOST["d_model"], MOST["d_ffn"], MOST["vocab_size"])
    assert least_cpu_s(lambda: compare(large)) < 1000 * least_cpu_s(lambda: compare(small))
