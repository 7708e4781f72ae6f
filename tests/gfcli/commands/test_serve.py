"""gf serve as a process: the official client, a kill and a restart, signals, and what it does not start with."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gfcli.app import run
from tests.gfcli.conftest import TEXT


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(address, process) of a server on a free port."""
    command = [sys.executable, "-m", "gfcli", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), process.communicate()
        yield address, process
    finally:
        process.kill()
        process.communicate()


def call(address: str, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.loads(reply.read())


@pytest.mark.usefixtures("work")
def test_the_official_client_asks(capsys: pytest.CaptureFixture[str]) -> None:
    """Chat, stream, counts and errors through the `openai` package; answers are those of gf ask, bit for bit."""
    openai = pytest.importorskip("openai")
    Path("doc.txt").write_text(TEXT)
    assert run(["ask", "doc.txt", "-n", "6", "--json", "Which world?"]) == 0
    expected = json.loads(capsys.readouterr().out)
    with serving() as (address, process):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        messages = [{"role": "user", "content": "Which world?"}]
        asked: dict[str, Any] = {"model": "tiny", "messages": messages, "max_tokens": 6}
        reply = client.chat.completions.create(**asked, extra_body={"cache": "doc.txt"})
        assert reply.choices[0].message.content == expected["answer"]
        assert reply.usage.completion_tokens == expected["generated_tokens"]
        assert reply.usage.prompt_tokens_details.cached_tokens == expected["document_tokens_computed"]
        keyed = client.chat.completions.create(**asked, prompt_cache_key="doc.txt")
        assert keyed.choices[0].message.content == expected["answer"]
        stream = client.chat.completions.create(
            **(asked | {"model": "tiny/doc.txt"}), stream=True, stream_options={"include_usage": True}
        )
        pieces = list(stream)
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert text == expected["answer"]
        assert pieces[-1].usage.completion_tokens == expected["generated_tokens"]
        with pytest.raises(openai.NotFoundError, match=r"doc\.txt"):
            client.chat.completions.create(**asked, extra_body={"cache": "dok.txt"})
        with pytest.raises(openai.BadRequestError, match="temperature"):
            client.chat.completions.create(**asked, temperature=9, extra_body={"cache": "doc.txt"})
        with pytest.raises(openai.NotFoundError, match="there is 'tiny'"):
            client.chat.completions.create(**(asked | {"model": "gf-mini-4"}), extra_body={"cache": "doc.txt"})
        assert "tiny/doc.txt" in {one.id for one in client.models.list()}
        client.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.usefixtures("work")
def test_what_was_cached_outlives_a_kill() -> None:
    with serving() as (address, process):
        made = call(address, "/v1/caches", {"name": "notes", "text": TEXT})
        question = {"cache": "notes", "messages": [{"role": "user", "content": "Which?"}], "max_tokens": 4}
        answer = call(address, "/v1/chat/completions", question)["choices"][0]["message"]["content"]
        process.kill()
        process.wait(60)
    with serving() as (address, process):
        assert call(address, "/v1/caches")["data"] == [{k: v for k, v in made.items() if k != "cache_write_tokens"}]
        assert call(address, "/v1/chat/completions", question)["choices"][0]["message"]["content"] == answer
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.usefixtures("work")
def test_files_are_served_and_stay() -> None:
    Path("doc.txt").write_text(TEXT)
    assert run(["prefill", "doc.txt"]) == 0
    with serving("--cache", "*.gfc") as (address, _):
        assert [one["id"] for one in call(address, "/v1/caches")["data"]] == ["doc"]
        for method, path in (("DELETE", "/v1/caches/doc"), ("POST", "/v1/caches")):
            data = b'{"text": "More."}' if method == "POST" else None
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(address + path, data, headers, method=method)
            with pytest.raises(urllib.error.HTTPError) as found:
                urllib.request.urlopen(request, timeout=60)
            assert found.value.code == 409
            found.value.close()
    assert Path("doc.gfc").exists()


@pytest.mark.usefixtures("work")
def test_what_it_does_not_start_with(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GF_API_KEY", raising=False)
    taken = socket.create_server(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])
    for arguments, words in (
        (["--host", "0.0.0.0"], "GF_API_KEY"),
        (["--library", "--cache", "a.gfc"], "do not go together"),
        (["--cache", "none.gfc"], "none.gfc"),
        (["--root", "nowhere"], "no such folder"),
        (["--filter", "size>1", "--cache", "a.gfc"], "belongs to the library"),
        (["--port", port], "--port 0"),
        (["--memory", "much"], "--memory"),
        (["--read", "most"], "--read"),
    ):
        assert run(["serve", *arguments]) in (2, 4), arguments
        assert words in capsys.readouterr().err
    taken.close()


@pytest.mark.usefixtures("work")
def test_without_its_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "starlette.py").write_text("raise ModuleNotFoundError('no', name='starlette')\n")
    command = [sys.executable, "-m", "gfcli", "serve", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'block'}:{os.environ.get('PYTHONPATH', '')}"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "gf serve needs starlette" in ended.stderr
    assert "goldfinch-gf[serve]" in ended.stderr
