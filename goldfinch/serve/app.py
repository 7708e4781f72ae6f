"""The routes of the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from . import openai
from .guard import Guard, body_of
from .refused import Refused, refused
from .scheduler import Done, Errand, Event, Job
from .service import Service, described
from .shelf import Shelved, find

PAGE = Path(__file__).parent / "page"
# Of a question; of a document, by default.
MOST_QUESTION_BYTES, MOST_DOCUMENT_BYTES = 1 << 20, 64 << 20

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Access:
    """Who may come in.

    Attributes:
        hosts: names under which the server is reached; None for any.
        key: that requests must bear; None for none.
        most_document_bytes: of a document that a client sends.
    """

    hosts: tuple[str, ...] | None = None
    key: str | None = None
    most_document_bytes: int = MOST_DOCUMENT_BYTES


def create_app(
    service: Service, access: Access = Access(), fault: Callable[[Exception], object] = lambda error: None
) -> Guard:
    """The server as an ASGI application.

    Args:
        service: what it does.
        access: who may come in.
        fault: told of an error that is no refusal.
    """
    routes = _Routes(service, access, fault)
    served: list[tuple[str, str, Endpoint]] = [
        ("POST", "/v1/chat/completions", partial(routes.answer, openai.chat)),
        ("POST", "/v1/completions", partial(routes.answer, openai.completion)),
        ("GET", "/v1/models", routes.models),
        ("GET", "/v1/caches", routes.caches),
        ("POST", "/v1/caches", routes.make),
        ("GET", "/v1/caches/{name:path}/text", routes.text),
        ("GET", "/v1/caches/{name:path}", routes.cache),
        ("DELETE", "/v1/caches/{name:path}", routes.remove),
        ("GET", "/health", routes.health),
        ("GET", "/metrics", routes.metrics),
        ("GET", "/", partial(_page, "page.html", "text/html")),
        ("GET", "/page.js", partial(_page, "page.js", "text/javascript")),
        ("GET", "/page.css", partial(_page, "page.css", "text/css")),
    ]
    app = Starlette(
        routes=[Route(path, routes.told(path, endpoint), methods=[method]) for method, path, endpoint in served],
        exception_handlers={HTTPException: _no_route},
    )
    return Guard(app, access.hosts, access.key)


async def _page(name: str, kind: str, _: Request) -> Response:
    return FileResponse(PAGE / name, media_type=kind)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:200]!r} is nothing here"
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    return JSONResponse(Refused(error.status_code, what, code=code).body(), error.status_code, error.headers)


class _Routes:
    """The endpoints of one service."""

    def __init__(self, service: Service, access: Access, fault: Callable[[Exception], object]) -> None:
        self._service, self._access, self._fault = service, access, fault

    def told(self, path: str, endpoint: Endpoint) -> Endpoint:
        """An endpoint whose errors are replies, and whose replies are counted."""

        async def run(request: Request) -> Response:
            try:
                response = await endpoint(request)
            except Exception as error:
                found = refused(error)
                if found.status == 500:
                    self._fault(error)
                response = JSONResponse(
                    found.body(), found.status, {"Retry-After": "1"} if found.code == "busy" else None
                )
            self._service.counts.requests[path, response.status_code] += 1
            return response

        return run

    async def health(self, _: Request) -> Response:
        """Whether the server lives."""
        return JSONResponse({"status": "ok"})

    async def metrics(self, _: Request) -> Response:
        """Counts, for Prometheus."""
        return PlainTextResponse(self._service.metrics(), media_type="text/plain; version=0.0.4")

    async def models(self, _: Request) -> Response:
        """Models, and each with its documents."""
        return JSONResponse(openai.models(await self._documents(), self._service.model))

    async def caches(self, _: Request) -> Response:
        """The documents."""
        return JSONResponse({"object": "list", "data": [described(one) for one in await self._documents()]})

    async def cache(self, request: Request) -> Response:
        """One document."""
        return JSONResponse(described(await self._named(request)))

    async def text(self, request: Request) -> Response:
        """The text of a document, as the model read it."""
        document = await self._named(request)
        return JSONResponse({"id": document.name, "text": await self._errand(lambda _: self._service.text(document))})

    async def make(self, request: Request) -> Response:
        """Pre-fill a document."""
        body = await body_of(request, self._access.most_document_bytes)
        document = await run_in_threadpool(self._service.wanted, body)
        return JSONResponse(await self._errand(partial(self._service.make, document)), 201)

    async def remove(self, request: Request) -> Response:
        """Remove a document."""
        document = await self._named(request)
        await self._errand(lambda _: self._service.remove(document))
        return JSONResponse({"id": document.name, "object": "cache.deleted", "deleted": True})

    async def answer(self, parse: Callable[[Mapping[str, Any]], openai.Asked], request: Request) -> Response:
        """Answer a question, whole or in pieces."""
        asked = parse(await body_of(request, MOST_QUESTION_BYTES))
        document = self._service.document(asked, await self._documents())
        shape = openai.Shape(asked, document, self._service.answering(document))
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def tell(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(events.put_nowait, event)

        job = Job(document, asked.question, asked.raw, asked.sampling, asked.cite, tell)
        self._service.scheduler.submit(job)
        try:
            if not asked.stream:
                done = await _unless_left(request, _end_of(events))
                self._service.counts.note(done)
                return JSONResponse(shape.whole(done))
            first = await _unless_left(request, events.get())
            if isinstance(first, Exception):
                raise first
        except BaseException:
            job.given_up = True
            raise
        pieces = self._pieces(job, shape, first, events)
        return StreamingResponse(pieces, media_type="text/event-stream")

    async def _pieces(
        self, job: Job, shape: openai.Shape, event: Event, events: asyncio.Queue[Event]
    ) -> AsyncIterator[str]:
        head = shape.head()
        try:
            if not shape.asked.raw:
                yield _event(shape.first(head))
            while isinstance(event, str):
                yield _event(shape.piece(head, event))
                event = await events.get()
            if isinstance(event, Exception):
                yield _event(refused(event).body())
                return
            self._service.counts.note(event)
            last = shape.piece(head, None, event.answer.usage.finish_reason) | {"gf": shape.about(event)}
            yield _event(last)
            if shape.asked.counts:
                yield _event({**head, "choices": [], "usage": openai.usage(event.answer)})
            yield "data: [DONE]\n\n"
        finally:
            job.given_up = True  # whoever leaves stops the answer

    async def _documents(self) -> list[Shelved]:
        return await run_in_threadpool(self._service.shelf.documents)

    async def _named(self, request: Request) -> Shelved:
        return find(await self._documents(), request.path_params["name"], "name")

    async def _errand(self, run: Callable[[Callable[[], None]], Any]) -> Any:
        """What the computing thread returns."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any) -> None:
            if future.cancelled():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        def tell(result: Any) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result)

        self._service.scheduler.submit(Errand(run, tell))
        return await future


async def _end_of(events: asyncio.Queue[Event]) -> Done:
    while isinstance(event := await events.get(), str):
        pass
    if isinstance(event, Exception):
        raise event
    return event


async def _unless_left(request: Request, waited: Awaitable[T]) -> T:
    """What is waited for, unless the client leaves before.

    Raises:
        Refused: it left; nobody reads that.
    """

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answer, leaving = asyncio.ensure_future(waited), asyncio.ensure_future(left())
    try:
        await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Refused(499, "the client left", code="left")
        return await answer
    finally:
        answer.cancel()
        leaving.cancel()


def _event(values: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"
