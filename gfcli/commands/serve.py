"""gf serve: answers over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfcli.support.cache_files import find_caches
from gfcli.support.console import console
from gfcli.support.exits import CommandError, describe
from gfcli.support.filters import parse_filter
from gfcli.support.options import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    QuietOption,
    VerboseOption,
    coding_of,
    journal_seconds,
    load,
    model_card,
    numerics_allowed,
)
from gfcli.support.scope import FilterOption
from gfcli.support.sessions import Models
from gfcli.support.settings import value as setting
from gfcli.support.store import open_store
from gfcli.support.values import FILE_DTYPES, checked_blocks, checked_policy, counted, parse_bytes

if TYPE_CHECKING:
    from goldfinch.serve.service import Making
    from goldfinch.serve.shelf import Shelf

KEY_VARIABLE = "GF_API_KEY"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help=f"Address to listen at; another than this machine's own needs a key in {KEY_VARIABLE}.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port; 0 for any.")] = 8080,
    library: Annotated[bool, typer.Option("--library", help="Serve the library, the default.")] = False,
    filters: FilterOption = None,
    cache: Annotated[
        list[str] | None,
        typer.Option("--cache", metavar="FILE", help="Cache file, pattern or folder to serve; may be repeated."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="HOST", help="Name under which the server is reached; may be repeated."),
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", metavar="DIR", help="Folder below which clients may name documents.")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = None,
    memory: Annotated[
        str,
        typer.Option(
            "--memory", metavar="SIZE", help="Memory for open documents; the least recently asked are closed."
        ),
    ] = "4g",
    read: Annotated[
        str, typer.Option("--read", metavar="POLICY", help="What of a document is read, as in gf ask.")
    ] = "auto",
    read_blocks: Annotated[
        int | None, typer.Option("--read-blocks", metavar="N", help="Blocks to read, as in gf ask.")
    ] = None,
    waiting: Annotated[
        int, typer.Option("--waiting", min=1, max=100_000, metavar="N", help="Requests that may wait; others get 503.")
    ] = 256,
    max_document: Annotated[
        str, typer.Option("--max-document", metavar="SIZE", help="Largest document that a client may send.")
    ] = "64m",
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Answer over HTTP, as the OpenAI API does.

    The documents are those of the library, or of cache files. A request names one in "prompt_cache_key", in "cache" or
    as the model "MODEL/NAME"; the question is the last message of the user. A first message that is the text of a
    cached document names it, too. An unknown name is an error: no document is read unasked. The page at / asks from a
    browser.

    Examples:
      gf serve
      gf serve --cache 'kb/*.gfc' --port 9000
      curl localhost:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{"cache": "doc.txt",
      "messages": [{"role": "user", "content": "Who signed the treaty?"}]}'
    """
    console.quiet, console.verbose = quiet, verbose
    if library and cache:
        raise CommandError("--library and --cache do not go together", hint="choose one of them")
    if filters and cache:
        raise CommandError("--filter belongs to the library", hint="leave out --cache")
    key = os.environ.get(KEY_VARIABLE) or None
    if host not in LOOPBACK and key is None:
        raise CommandError(
            f"--host {host} lets other machines in, and no key is set",
            hint=f"{KEY_VARIABLE}=$(openssl rand -hex 16) gf serve --host {host}",
        )
    if root is not None and not Path(root).is_dir():
        raise CommandError(f"--root {root}: no such folder", hint="name a folder")
    _check_installed()
    from goldfinch.serve.app import Access, create_app
    from goldfinch.serve.guard import LOOPBACK as LOOPBACK_NAMES
    from goldfinch.serve.run import run
    from goldfinch.serve.scheduler import Errand, Scheduler
    from goldfinch.serve.service import Service
    from goldfinch.serve.sessions import Sessions

    models = Models(device, dtype)
    shelf, making = _shelf(cache, filters, model, device, dtype, root, models)
    sessions = Sessions(
        models,
        model,
        parse_bytes(memory, "--memory"),
        read=checked_policy(read),
        read_blocks=checked_blocks(read_blocks),
    )
    scheduler = Scheduler(sessions, waiting)
    service = Service(shelf, scheduler, model=None if model is None else str(model_card(model).name), making=making)
    hosts = None if host not in LOOPBACK and not name else (*LOOPBACK_NAMES, *(one.lower() for one in name or ()))
    access = Access(hosts, key, parse_bytes(max_document, "--max-document"))
    with _listening(host, port) as listener:
        scheduler.start()
        if making is not None:  # before the first request needs it
            scheduler.submit(Errand(lambda _: making.model(), _said))
        try:
            started = partial(_started, listener, len(shelf.documents()))
            asyncio.run(run(create_app(service, access, _fault), listener, started))
        finally:
            scheduler.stop()


def _check_installed() -> None:
    try:
        import goldfinch.serve.app
        import goldfinch.serve.run  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "goldfinch":
            raise
        raise CommandError(f"gf serve needs {error.name}", hint="pip install 'goldfinch-gf[serve]'") from None


def _shelf(
    cache: list[str] | None,
    filters: list[str] | None,
    model: str | None,
    device: str,
    dtype: str | None,
    root: str | None,
    models: Models,
) -> tuple[Shelf, Making | None]:
    from goldfinch.library.library import Library
    from goldfinch.serve.service import Making
    from goldfinch.serve.shelf import FileShelf, LibraryShelf

    if cache:
        if root is not None:
            raise CommandError("--root belongs to the library", hint="leave out --cache")
        return FileShelf(find_caches(cache, library=True)), None
    conditions = [parse_filter(text) for text in filters or ()]

    def load_once() -> Any:
        card = model_card(model)
        chosen, names = numerics_allowed(device, dtype, card)
        key = str(card.path), FILE_DTYPES[names[0]], False
        if key not in models.loaded:
            models.loaded[key] = load(key[0], chosen, names[0], layout=setting("layout"))
        return models.loaded[key]

    def open_library() -> Library:
        coding = coding_of(setting("codec"), setting("state_codec"), model_card(model))
        return Library(open_store(keep_cap=True), journal_s=journal_seconds(), coding=coding)

    return LibraryShelf(open_store, lambda entry: all(one(entry) for one in conditions)), Making(
        open_library, load_once, None if root is None else Path(root)
    )


@contextlib.contextmanager
def _listening(host: str, port: int) -> Any:
    """A socket that listens; whoever comes before the model is there waits."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            hint = "another program may listen there: --port 0 takes any that is free"
            raise CommandError(f"{host}:{port}: {error.strerror or error}", hint=hint) from None
        listener.listen(1024)
        yield listener


def _started(listener: socket.socket, documents: int) -> None:
    address, port = listener.getsockname()[:2]
    console.line(f"http://{f'[{address}]' if ':' in address else address}:{port}")
    console.say(f"{counted(documents, 'cached document')}; Ctrl-C ends")


def _said(result: object) -> None:
    """A model that cannot be loaded is said once more to whoever needs it."""
    if isinstance(result, Exception):
        console.warn(describe(result)[0])


def _fault(error: Exception) -> None:
    message, _ = describe(error)
    console.warn(f"a request failed by a fault of gf's: {message}")
    console.detail("".join(traceback.format_exception(error)))
