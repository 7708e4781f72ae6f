"""A server that runs in this process, and requests to it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from gfcache import Store

from goldfinch.library.library import Library
from goldfinch.library.opening import load
from goldfinch.serve.app import Access, create_app
from goldfinch.serve.scheduler import Scheduler
from goldfinch.serve.service import Making, Service
from goldfinch.serve.sessions import Sessions
from goldfinch.serve.shelf import LibraryShelf
from goldfinch.text.documents import document_of_bytes
from goldfinch.weights.directory import find_model

TEXTS = {
    "tower.txt": "The tower was built in 1911.\nIts keeper is Ada Pelham.\n",
    "boats.txt": "The boat Bittern weighs 58 kg.\n\nThe boat Heron weighs 96 kg.\n" * 3,
}


@dataclass
class Server:
    """A running server.

    Attributes:
        port: where it listens.
        service: what answers.
        faults: errors that were faults of ours.
    """

    port: int
    service: Service
    faults: list[Exception]

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """(status, JSON or text) of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        given = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, data, given | (headers or {}))
        reply = connection.getresponse()
        found = reply.read()
        connection.close()
        is_json = "json" in (reply.headers["content-type"] or "")
        return reply.status, json.loads(found) if is_json else found.decode()

    def ask(self, question: str, **body: Any) -> tuple[int, Any]:
        """A chat with one question."""
        body = {"messages": [{"role": "user", "content": question}], "max_tokens": 8} | body
        return self.call("POST", "/v1/chat/completions", body)

    def pieces(self, question: str, **body: Any) -> list[Any]:
        """The events of a streamed chat."""
        status, text = self.ask(question, stream=True, **body)
        assert status == 200, text
        assert text.endswith("data: [DONE]\n\n")
        return [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n")[:-2]]


@contextmanager
def serving(service: Service, access: Access = Access()) -> Iterator[Server]:
    """Serve on a free port until the end of the block."""
    faults: list[Exception] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(create_app(service, access, faults.append), log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        service.scheduler.start()
        thread.start()
        try:
            yield Server(port, service, faults)
        finally:
            server.should_exit = True
            thread.join()
            service.scheduler.stop()
    assert faults == []


def library_service(
    folder: Path, model: str, *, most_bytes: int = 1 << 30, waiting: int = 64, root: Path | None = None
) -> Service:
    """A service on a library of its own."""
    loaded: dict[tuple[str, str | None], Any] = {}

    def load_model(place: str, dtype: str | None) -> Any:
        key = (place, dtype or "f32")
        if key not in loaded:
            loaded[key] = load(find_model(place), dtype=key[1])
        return loaded[key]

    def store() -> Store:
        return Store(folder)

    making = Making(lambda: Library(store()), lambda: load_model(str(find_model(model).path), "f32"), root)
    scheduler = Scheduler(Sessions(load_model, None, most_bytes), waiting)
    return Service(LibraryShelf(store), scheduler, making=making)


def fill(service: Service, texts: dict[str, str]) -> None:
    """Pre-fill documents into the library of a service."""
    assert service.making is not None
    for name, text in texts.items():
        with service.making.library() as library:
            library.get(service.making.model(), document_of_bytes(text.encode(), name))


@pytest.fixture
def make_service(tmp_path: Path, tiny_model: Path) -> Callable[..., Service]:
    """Makes a service with the documents of TEXTS, answered by the tiny model."""

    models = tmp_path / "user-models"
    models.mkdir()
    (models / "tiny").symlink_to(tiny_model)

    def make(**options: Any) -> Service:
        service = library_service(tmp_path / "served", str(tiny_model), **options)
        fill(service, TEXTS)
        return service

    return make


@pytest.fixture
def server(make_service: Callable[..., Service]) -> Iterator[Server]:
    """A server with the documents of TEXTS."""
    with serving(make_service()) as running:
        yield running
