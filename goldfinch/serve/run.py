"""The server's loop, on a socket that listens already."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

# Seconds that requests under way have once the server is asked to end.
GRACE_S = 5


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `run` has them: they end the server, and are no failure


async def run(app: Any, listener: socket.socket, started: Callable[[], object] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        app: an ASGI application.
        listener: a socket that listens.
        started: called when signals end the server.
    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=GRACE_S
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    started()
    await server.serve(sockets=[listener])
