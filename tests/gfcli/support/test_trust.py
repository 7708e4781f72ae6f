"""gf.toml of a folder that a stranger made: what it may say, what it may not, and which one is read at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import gfcache
import pytest

from gfcli.app import run
from gfcli.support import settings, settings_files
from gfcli.support.settings import SETTINGS
from goldfinch.weights.directory import DEFAULT_MODEL
from tests.cpu_time import least_cpu_s
from tests.gfcli.conftest import TEXT

STRANGER = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user takes root")
# The worst that a stranger can say of each.
WORST = {
    "model": ("model", '"./weights"'), "memory": ("memory", '"999t"'), "models_dir": ("models_dir", '"models"'),
    "cache.dir": ("cache.dir", '"~"'), "cache.max_size": ("cache.max_size", "1"),
    "least_likelihood": ("least_likelihood", "1.0"), "unsure_below": ("unsure_below", "0.0"),
    "log": ("log", "true"),
}  # fmt: skip


@pytest.fixture
def clone(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a stranger's making, in which the user works; the user's model is in the user's own settings."""
    monkeypatch.delenv("GF_MODEL")
    own = work.parent / "xdg-config/gf/config.toml"
    own.parent.mkdir(parents=True)
    own.write_text('model = "tiny"\n')
    (work / "doc.txt").write_text(TEXT)
    return work


def refused(capsys: pytest.CaptureFixture[str]) -> dict[str | None, str]:
    capsys.readouterr()
    assert run(["config", "show", "--json"]) == 0
    out, err = capsys.readouterr()
    found = {row["setting"]: row["place"] for row in json.loads(out)["refused"]}
    assert err.count("warning: ") == len(found)
    return found


def test_a_reason_is_given_for_every_setting() -> None:
    assert all(setting.why for setting in SETTINGS.values())
    assert not [name for name, setting in SETTINGS.items() if setting.project and setting.is_path]


@pytest.mark.parametrize("name", sorted(WORST))
def test_what_a_project_may_not_say_is_a_warning_and_the_command_goes_on(name: str, clone: Path, capsys) -> None:
    key, value = WORST[name]
    (clone / "gf.toml").write_text(f"max_tokens = 3\n{key} = {value}\n")
    assert refused(capsys) == {name: str(clone / "gf.toml")}
    assert settings.resolve().values[name].origin != "project"
    assert settings.value("max_tokens") == 3
    assert run(["config", "show", "--origin"]) == 0
    out, err = capsys.readouterr()
    for text in (out, err):
        assert f"{clone / 'gf.toml'}: {name} is not followed: {SETTINGS[name].why}" in text
    assert err.count("\n") == 1
    assert run(["cache", "ls", "--help"]) == 0
    assert capsys.readouterr().err == ""


def test_what_a_project_may_say(clone: Path, capsys) -> None:
    text = 'model = "tiny"\ndevice = "cpu"\ndtype = "float64"\ncheckpoints = "512"\nlayout = "blocks"\nverbatim = true\nskip_blobs = true\nencoding = "utf-8"\ncodec = "raw"\nstate_codec = "raw"\nmax_tokens = 2\nread = "auto"\nread_blocks = 2\n'
    (clone / "gf.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())  # an editor may begin it with a mark
    assert refused(capsys) == {}
    assert {name for name, found in settings.resolve().values.items() if found.origin == "project"} == {
        name for name, setting in SETTINGS.items() if setting.project
    }
    assert run(["ask", "doc.txt", "--json", "What?"]) == 0
    assert json.loads(capsys.readouterr().out)["generated_tokens"] <= 2


def test_a_cap_of_a_stranger_empties_no_library(clone: Path) -> None:
    assert run(["ask", "doc.txt", "-n", "1", "What?"]) == 0
    (clone / "other.txt").write_text(TEXT[:500])
    (clone / "gf.toml").write_text("[cache]\nmax_size = 1\n")
    for command in (["ask", "other.txt", "-n", "1", "What?"], ["cache", "prune", "-y"], ["cache", "ls"]):
        assert run(command) == 0
    with gfcache.Store() as store:
        assert len(store.entries()) == 2


def test_a_folder_of_a_stranger_becomes_no_library(clone: Path, monkeypatch) -> None:
    home = clone.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (clone / "gf.toml").write_text('[cache]\ndir = "~"\n')
    assert run(["ask", "doc.txt", "-n", "1", "What?"]) == 0
    assert not list(home.glob("**/CACHEDIR.TAG"))


@pytest.mark.parametrize("text", ['models_dir = "models"', 'model = "models/tiny"', 'model = "evil"', ""])
def test_no_model_of_a_stranger_answers(clone: Path, other_model: Path, text: str, monkeypatch, capsys) -> None:
    """Neither under the name of the user's model, nor under one of its own; nor does a folder that is called as one."""
    assert run(["ask", "doc.txt", "--json", "-n", "4", "What?"]) == 0
    expected = json.loads(capsys.readouterr().out)["answer"]
    (clone / "gf.toml").write_text(text)
    for place in ("models/tiny", "evil", "tiny", DEFAULT_MODEL):
        shutil.copytree(other_model, clone / place)
    monkeypatch.setenv("GF_CACHE_DIR", str(clone.parent / "fresh"))
    code = run(["ask", "doc.txt", "--json", "-n", "4", "What?"])
    out, err = capsys.readouterr()
    if text == 'model = "evil"':
        assert code == 4
        assert "which is none of your models" in err
    else:
        assert (code, json.loads(out)["answer"]) == (0, expected)
    monkeypatch.setenv("GF_MODEL", "tiny")
    assert settings.value("model") == "tiny"


@ROOT_ONLY
def test_files_and_folders_of_another_user_are_not_followed(clone: Path, capsys, monkeypatch) -> None:
    file, inner = clone / "gf.toml", clone / "inner"
    inner.mkdir()
    file.write_text("max_tokens = 7\n")
    monkeypatch.chdir(inner)
    assert settings.value("max_tokens") == 7
    os.chown(file, STRANGER, STRANGER)
    assert refused(capsys) == {None: str(file)}
    os.chown(clone, STRANGER, STRANGER)
    os.chown(file, 0, 0)
    assert refused(capsys) == {None: str(file)}
    assert settings.value("max_tokens") == 128
    file.rename(clone.parent / "gf.toml")  # above a folder of another user nothing is looked for
    assert settings_files.project_file() is None
    monkeypatch.setenv("SUDO_UID", str(STRANGER))  # as git: what belongs to who called sudo does
    assert settings.value("max_tokens") == 7


def test_nothing_is_looked_for_above_the_home_folder_or_a_repository(clone: Path, monkeypatch) -> None:
    (clone.parent / "gf.toml").write_text("max_tokens = 7\n")
    assert settings.value("max_tokens") == 7
    monkeypatch.setenv("HOME", str(clone))
    assert settings_files.project_file() is None
    monkeypatch.delenv("HOME")
    (clone / ".git").symlink_to("nowhere")
    assert settings_files.project_file() is None


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder", "dangling"])
def test_what_is_no_file_of_the_project_is_not_read(clone: Path, kind: str, capsys) -> None:
    file = clone / "gf.toml"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        targets = {"device": "/dev/zero", "link": "../elsewhere.toml", "dangling": "nothing"}
        (clone.parent / "elsewhere.toml").write_text("max_tokens = 7\n")
        file.symlink_to(targets[kind])
    assert refused(capsys) == {None: str(file)}
    assert settings.value("max_tokens") == 128
    file.rmdir() if kind == "folder" else file.unlink()
    (clone / "inside.toml").write_text("max_tokens = 7\n")
    file.symlink_to("inside.toml")
    assert settings.value("max_tokens") == 7


def test_the_users_own_file_may_be_a_link_and_no_pipe(clone: Path, capsys) -> None:
    own = clone.parent / "xdg-config/gf/config.toml"
    own.rename(clone.parent / "dotfiles.toml")
    own.symlink_to(clone.parent / "dotfiles.toml")
    assert settings.value("model") == "tiny"
    own.unlink()
    os.mkfifo(own)
    assert run(["config", "show"]) == 2
    assert "expected a regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# " + "x" * 20_000, "more than 16,384 bytes"), (f"{'a.' * 600}b = 1", "more than 1,000 characters"),
        ("a = " + "[" * 900, "cannot be read"), ("max_tokens = 0x" + "f" * 900, "more than 60 digits"),
        ("max_tokens = 2147483648", "up to 2,147,483,647"), (f'"{"k" * 900}" = 1', "unknown setting"),
        (f'device = "{"x" * 900}"', "cuda:N"), ("\n".join(f"{'a.' * 480}b{i} = 1" for i in range(16)), "unknown setting"),
    ],
)  # fmt: skip
def test_settings_without_end_end_with_a_sentence(clone: Path, text: str, words: str, capsys) -> None:
    (clone / "gf.toml").write_text("max_tokens = 7")
    plain = least_cpu_s(lambda: run(["config", "show"]))
    capsys.readouterr()
    (clone / "gf.toml").write_text(text)
    codes: list[int] = []
    assert least_cpu_s(lambda: codes.append(run(["config", "show"])), tries=1) < 1000 * plain
    assert codes == [2]
    err = capsys.readouterr().err
    assert words in err
    assert len(err) < 600
