"""Who is let in: the host that a request names, its key, and the size and kind of its body."""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .refused import Refused

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# What anybody may see: whether the server lives, and the page, which asks for the key.
OPEN_PATHS = ("/", "/page.js", "/page.css", "/health")
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}


class Guard:
    """Refuses what does not come from where it should.

    A page of a stranger that a browser shows can send requests to this machine, under a name that leads here: so the
    host must be one that is meant, and bodies say that they are JSON, which such a page may not without being let.

    Args:
        app: that is guarded.
        hosts: names under which it is reached, without port; None for any.
        key: that requests must bear, None for none.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, key: str | None) -> None:
        self._app, self._hosts, self._key = app, hosts, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *((n, v) for n, v in HEADERS.items() if n not in given)]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await JSONResponse(refusal.body(), refusal.status)(scope, receive, sent)
            return
        await self._app(scope, receive, sent)

    def _refusal(self, scope: Scope) -> Refused | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host[: host.rfind("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if self._hosts is not None and name not in self._hosts:
            return Refused(403, f"this server is not called {name!r:.200}", code="unknown_host")
        if self._key is None or scope["path"] in OPEN_PATHS:
            return None
        given = headers.get(b"authorization", b"")
        if hmac.compare_digest(given, b"Bearer " + self._key.encode()):
            return None
        return Refused(401, "the key is missing or wrong", code="invalid_api_key", hint="Authorization: Bearer KEY")


async def body_of(request: Request, most_bytes: int) -> dict[str, Any]:
    """The JSON object that a request brings.

    Raises:
        Refused: 400, 413, 415.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the body must be JSON", code="not_json", hint="Content-Type: application/json")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most_bytes:
            raise Refused(413, f"a body has at most {most_bytes:,} bytes here", code="body_too_large")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON: {error!s:.200}", code="not_json") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object", code="not_json")
    return body
