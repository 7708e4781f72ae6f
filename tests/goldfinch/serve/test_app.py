"""Requests to a live server: answers, streams, counts, documents, errors, and who is let in."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from gfcache.format.lenders import kept_place

from goldfinch.library.opening import engine_of
from goldfinch.serve.app import Access
from goldfinch.serve.openai import chat
from goldfinch.serve.refused import Refused
from goldfinch.serve.service import Service

from .conftest import TEXTS, Server, serving


def alone(service: Service, name: str, question: str, tokens: int = 8) -> str:
    """What a session of its own answers."""
    document = next(one for one in service.shelf.documents() if one.name == name)
    assert service.making is not None
    engine = engine_of(service.making.model())
    return engine.session(engine.open(document.path)).ask(question, max_tokens=tokens).text


def test_an_answer_is_that_of_a_session(server: Server) -> None:
    status, reply = server.ask("Who is it?", cache="tower.txt", cite=True)
    assert status == 200
    choice = reply["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": alone(server.service, "tower.txt", "Who is it?")}
    assert choice["finish_reason"] in ("stop", "length")
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    assert usage["cache_write_tokens"] == 0
    assert reply["gf"]["cache"] == "tower.txt"
    assert all(1 <= place["line"] <= 3 for place in reply["gf"]["citations"])


def test_pieces_join_to_the_answer(server: Server) -> None:
    events = server.pieces("Who is it?", cache="tower.txt", stream_options={"include_usage": True})
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    assert text == alone(server.service, "tower.txt", "Who is it?")
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-2]["choices"][0]["finish_reason"] in ("stop", "length")
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] > 0
    assert len({event["id"] for event in events}) == 1


def test_text_that_goes_on(server: Server) -> None:
    body = {"prompt": "The", "max_tokens": 4, "cache": "tower.txt"}
    status, reply = server.call("POST", "/v1/completions", body)
    assert (status, reply["object"]) == (200, "text_completion")
    status, text = server.call("POST", "/v1/completions", body | {"stream": True})
    pieces = [json.loads(event[6:]) for event in text.split("\n\n") if event.startswith("data: {")]
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == reply["choices"][0]["text"]


def test_ways_to_name_a_document(server: Server) -> None:
    for body in (
        {"prompt_cache_key": "tower.txt"},
        {"model": "tiny/tower.txt"},
        {"model": "tiny", "cache": "tower.txt"},
    ):
        status, reply = server.ask("Who?", **body)
        assert (status, reply["gf"]["cache"]) == (200, "tower.txt"), body
    messages = [{"role": "system", "content": TEXTS["boats.txt"]}, {"role": "user", "content": "Who?"}]
    assert server.ask("", messages=messages)[1]["gf"]["cache"] == "boats.txt"


def test_what_is_kept_for_the_blocks_that_it_lends_is_not_served(make_service: Callable[..., Service]) -> None:
    shelf = make_service().shelf
    tower = next(one for one in shelf.documents() if one.name == "tower.txt")
    place = kept_place(tower.path.parent.parent, tower.digest)
    place.parent.mkdir(exist_ok=True)
    tower.path.rename(place)
    assert [one.name for one in shelf.documents()] == ["boats.txt"]


def test_a_cache_of_another_model_is_a_conflict(make_service: Callable[..., Service]) -> None:
    service = make_service()
    tower = next(one for one in service.shelf.documents() if one.name == "tower.txt")
    documents = [tower, replace(tower, name="other.txt", model="other")]
    asked = chat({"model": "other", "cache": "tower.txt", "messages": [{"role": "user", "content": "Who?"}]})
    with pytest.raises(Refused, match="belongs to the model 'tiny', not to 'other'") as found:
        service.document(asked, documents)
    assert (found.value.status, found.value.param) == (409, "model")
    assert service.document(replace(asked, model="tiny"), documents) == tower


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "no_cache"),
        ({"cache": "towers.txt"}, 404, "cache_not_found"),
        ({"model": "gpt-9", "cache": "tower.txt"}, 404, "model_not_found"),
        ({"cache": "tower.txt", "n": 2}, 400, "invalid_value"),
        ({"cache": "tower.txt", "top_p": 0}, 400, "invalid_request"),
        ({"cache": "tower.txt", "messages": [{"role": "user", "content": "word " * 60_000}]}, 413, "question_too_long"),
        ({"cache": "tower.txt", "messages": [{"role": "user", "content": "x" * (1 << 20)}]}, 413, "body_too_large"),
    ],
)
def test_errors_have_the_form_of_openai(server: Server, body: dict[str, object], status: int, code: str) -> None:
    for stream in (False, True):
        found, reply = server.ask("Who?", stream=stream, **body)
        assert (found, reply["error"]["code"]) == (status, code), reply
        assert set(reply["error"]) == {"message", "type", "param", "code"}
    if code == "cache_not_found":
        assert "'tower.txt'" in reply["error"]["message"]


def test_bodies_and_routes_that_are_none(server: Server) -> None:
    path = "/v1/chat/completions"
    assert server.call("POST", path, b"{", {"Content-Type": "application/x-www-form-urlencoded"})[0] == 415
    json_type = {"Content-Type": "application/json"}
    for data in (b"{", b"[]", b"\xff", b"[" * 100_000):
        status, reply = server.call("POST", path, data, json_type)
        assert (status, reply["error"]["code"]) == (400, "not_json"), data[:9]
    assert server.call("GET", path)[0] == 405
    assert server.call("GET", "/v1/nothing")[1]["error"]["code"] == "not_found"
    assert server.call("GET", "/v1/caches/..%2f..%2fetc%2fpasswd/text")[0] == 404


def test_documents_are_made_shown_and_removed(server: Server) -> None:
    text = "The heron stands in the reeds.\n"
    status, made = server.call("POST", "/v1/caches", {"text": text, "name": "heron"})
    assert (status, made["id"]) == (201, "heron")
    assert made["cache_write_tokens"] == made["tokens"] > 0
    assert server.call("POST", "/v1/caches", {"text": text, "name": "heron"})[1]["cache_write_tokens"] == 0
    assert server.call("GET", "/v1/caches/heron/text")[1]["text"] == text
    assert {one["id"] for one in server.call("GET", "/v1/caches")[1]["data"]} == {*TEXTS, "heron"}
    assert {"tiny", "tiny/heron"} <= {one["id"] for one in server.call("GET", "/v1/models")[1]["data"]}
    assert server.ask("Where?", cache="heron")[0] == 200
    assert server.call("DELETE", "/v1/caches/heron")[0] == 200
    assert server.ask("Where?", cache="heron")[0] == 404
    assert server.call("DELETE", "/v1/caches/heron")[0] == 404
    for body in ({}, {"text": "a", "path": "b"}, {"text": 5}, {"text": "a", "name": "\n"}, {"text": "a", "name": ""}):
        assert server.call("POST", "/v1/caches", body)[0] == 400, body
    assert server.call("POST", "/v1/caches", {"text": "  "})[0] == 400
    assert server.call("POST", "/v1/caches", {"path": "doc.txt"})[1]["error"]["code"] == "no_root"


def test_files_below_a_root_alone(make_service: Callable[..., Service], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "in.txt").write_text("Inside.\n")
    (tmp_path / "out.txt").write_text("Outside.\n")
    (root / "leads-out.txt").symlink_to(tmp_path / "out.txt")
    (root / "pipe").symlink_to("/dev/zero")
    with serving(make_service(root=root)) as server:
        assert server.call("POST", "/v1/caches", {"path": "in.txt"})[1]["id"] == "in.txt"
        for path in ("../out.txt", str(tmp_path / "out.txt"), "leads-out.txt", "pipe", "/etc/passwd"):
            assert server.call("POST", "/v1/caches", {"path": path})[0] == 403, path
        for path in ("none.txt", ".", ""):
            assert server.call("POST", "/v1/caches", {"path": path})[0] == 404, path
        assert server.call("POST", "/v1/caches", {"path": "a\0b"})[0] == 400


def test_a_key_is_demanded(make_service: Callable[..., Service]) -> None:
    with serving(make_service(), Access(key="secret")) as server:
        for headers in ({}, {"Authorization": "Bearer secre"}, {"Authorization": "secret"}):
            status, reply = server.call("GET", "/v1/caches", headers=headers)
            assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
            assert server.call("GET", "/metrics", headers=headers)[0] == 401
        assert server.call("GET", "/v1/caches", headers={"Authorization": "Bearer secret"})[0] == 200
        assert server.call("GET", "/health")[0] == 200
        assert "<title>gf</title>" in server.call("GET", "/")[1]


def test_a_page_of_a_stranger_gets_nothing(make_service: Callable[..., Service]) -> None:
    with serving(make_service(), Access(hosts=("localhost", "127.0.0.1", "[::1]"))) as server:
        for host in ("evil.example", "127.0.0.1.evil.example:80", "", "[::2]:80"):
            assert server.call("GET", "/v1/caches", headers={"Host": host})[0] == 403, host
        for host in ("localhost", f"127.0.0.1:{server.port}", "[::1]:8080", "LOCALHOST"):
            assert server.call("GET", "/v1/caches", headers={"Host": host})[0] == 200, host
        body = json.dumps({"cache": "tower.txt"}).encode()
        assert server.call("POST", "/v1/chat/completions", body, {"Content-Type": "text/plain"})[0] == 415
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/", headers={"Origin": "http://evil.example"})
        reply = connection.getresponse()
        assert reply.headers["access-control-allow-origin"] is None
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        connection.close()


def test_many_at_once_each_get_their_own(server: Server) -> None:
    questions = [f"What is thing number {n}?" for n in range(12)]
    found: dict[str, tuple[int, str]] = {}

    def ask(question: str, name: str) -> None:
        status, reply = server.ask(question, cache=name)
        found[question] = status, reply["choices"][0]["message"]["content"]

    names = [list(TEXTS)[n % 2] for n in range(12)]
    threads = [threading.Thread(target=ask, args=one) for one in zip(questions, names, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    same = [found[q] == (200, alone(server.service, name, q)) for q, name in zip(questions, names, strict=True)]
    assert sum(same) >= 11  # in a batch values round otherwise, which may choose another token of random weights


def test_whoever_leaves_stops_the_answer(server: Server) -> None:
    body = {"cache": "tower.txt", "max_tokens": 4096, "stream": True, "temperature": 1, "seed": 1}
    body |= {"messages": [{"role": "user", "content": "Go on"}]}
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    connection.getresponse().read(1)
    with contextlib.suppress(OSError):
        connection.sock.shutdown(2)
    connection.close()
    ends = time.monotonic() + 60
    while server.service.scheduler.running and time.monotonic() < ends:
        time.sleep(0.05)
    assert server.service.scheduler.running == 0
    assert server.service.counts.totals["answers"] == 0 or server.service.counts.totals["generated_tokens"] < 4096


def test_metrics_count(server: Server) -> None:
    server.ask("Who?", cache="tower.txt")
    server.ask("Who?", cache="none")
    text = server.call("GET", "/metrics")[1]
    rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert rows['gf_requests_total{route="/v1/chat/completions",status="200"}'] == "1"
    assert rows['gf_requests_total{route="/v1/chat/completions",status="404"}'] == "1"
    assert int(rows["gf_cached_tokens_total"]) > 0
    assert rows["gf_open_caches"] == "1"
