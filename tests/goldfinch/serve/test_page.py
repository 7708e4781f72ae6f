"""The page in a real browser: choose or add a document, ask, see the lines that were read; wide and narrow, light and
dark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from goldfinch.serve.app import Access
from goldfinch.serve.service import Service

from .conftest import TEXTS, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


def opened(browser: Any, port: int, **context: Any) -> tuple[Any, list[str]]:
    """A page at the server, and what its console and network complained of."""
    page, complaints = browser.new_context(**context).new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"http://127.0.0.1:{port}/")
    return page, complaints


@pytest.mark.slow
def test_a_document_is_added_and_asked(browser: Any, make_service: Callable[..., Service], tmp_path: Path) -> None:
    (tmp_path / "heron.txt").write_text("<b>The heron</b> stands in the reeds.\n\nIts nest is in the old oak.\n")
    shots = Path(os.environ.get("GF_SHOTS", tmp_path))
    expect = pytest.importorskip("playwright.sync_api").expect
    with serving(make_service(), Access(hosts=("127.0.0.1",))) as server:
        for width, height, colours in (
            (1280, 800, "light"),
            (390, 780, "dark"),
            (390, 780, "light"),
            (1280, 800, "dark"),
        ):
            size = {"width": width, "height": height}
            page, complaints = opened(browser, server.port, viewport=size, color_scheme=colours)
            page.wait_for_selector("#text li")
            names = page.eval_on_selector_all("#cache option", "options => options.map(one => one.value)")
            assert set(TEXTS) <= set(names)
            page.set_input_files("#file", str(tmp_path / "heron.txt"))
            expect(page.locator("#cache")).to_have_value("heron.txt", timeout=60_000)
            expect(page.locator("#text li").first).to_contain_text("<b>The heron</b>", timeout=60_000)
            assert page.locator("#text b").count() == 0  # text of strangers is text
            page.fill("#question", "Where is the nest?")
            page.click("#send")
            page.wait_for_selector(".about:not(:empty)")
            assert page.locator(".answer").last.text_content()
            assert page.locator("#text li.read").count() > 0
            page.fill("#question", "word " * 300)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width
            page.screenshot(path=str(shots / f"page-{width}-{colours}.png"))
            assert complaints == []
            page.context.close()


@pytest.mark.slow
def test_a_key_is_asked_for(browser: Any, make_service: Callable[..., Service]) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    with serving(make_service(), Access(key="secret")) as server:
        page, _ = opened(browser, server.port)
        page.wait_for_selector("#login:not([hidden])")
        page.fill("#key", "wrong")
        page.click("#login button")
        expect(page.locator("#status.bad")).to_contain_text("key", timeout=60_000)
        page.fill("#key", "secret")
        page.click("#login button")
        page.wait_for_selector("#text li")
        assert page.locator("#login").is_hidden()
        page.context.close()
