"""The page in a real browser: it sorts, it shows a request, it needs no network, it fits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.made_run import make

from aot.analysis import report
from aot.analysis.pages.pdf import browser, print_page
from aot.configs.kernel.errors import NotInstalledError

needs_browser = pytest.mark.skipif(browser() is None, reason="no Chromium: apt install chromium")


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    folder = make(tmp_path / "run")
    report.write(folder)
    return folder / "report.html"


@pytest.fixture
def page(page_file: Path) -> Iterator[Any]:
    """The page, open; fails afterwards on any word in the console and any request to elsewhere."""
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        opened = started.new_page()
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(page_file.as_uri())
        yield opened
        started.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@needs_browser
def test_a_click_on_a_heading_sorts_by_value(page: Any) -> None:
    table = page.locator("table.sortable").filter(has=page.get_by_text("uncached tokens")).last
    heading = table.locator("th", has_text="TTFT").first
    column = heading.evaluate("head => head.cellIndex")

    def shown() -> list[float]:
        texts = table.locator(f"tbody tr td:nth-child({column + 1})").all_text_contents()
        return [float(t.split()[0]) * (1e-3 if t.endswith("ms") else 1) for t in texts]

    before = shown()
    assert len(before) > 5
    heading.get_by_role("button").click()
    assert shown() == sorted(before)
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert shown() == sorted(before, reverse=True)


@needs_browser
def test_a_point_shows_its_request(page: Any) -> None:
    dot = page.locator("#explorer circle.aot").last
    dot.hover(force=True)
    text = page.locator("#chosen").text_content()
    assert "arm aot" in text
    assert "cached tokens 8" in text
    page.locator("#explorer").press("ArrowRight")
    assert page.locator("#chosen").text_content() != text


@needs_browser
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_any_width_and_is_readable_in_the_dark(page: Any, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate(
        "['color', 'backgroundColor'].map(k => getComputedStyle(document.body)[k])"
    )
    assert _contrast(ink, paper) >= 7


def _contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours as a browser writes them."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(p) / 255 for p in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@needs_browser
def test_it_prints(page_file: Path) -> None:
    print_page(page_file, page_file.with_suffix(".pdf"))
    assert page_file.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_without_a_browser_it_says_what_to_install(
    page_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NotInstalledError, match="apt install chromium"):
        print_page(page_file, page_file.with_suffix(".pdf"))
    assert not page_file.with_suffix(".pdf").exists()


def test_a_run_without_an_answer_is_reported_with_what_its_server_said(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for path in run.glob("phases/*/records/requests-0.jsonl"):
        header, *rows = path.read_text().splitlines()
        failed = [
            json.dumps({**json.loads(row), "first_token_s": None, "last_token_s": None,
                        "chunk_s": [], "status": 400, "error": "HTTP 400: no tools"})
            for row in rows
        ]  # fmt: skip
        path.write_text("\n".join([header, *failed]) + "\n")
        zero_s = json.loads(header)["clock_zero_monotonic_s"]
        said = [json.dumps({"monotonic_s": zero_s + n, "running": 0, "waiting": 0}) + "\n"
                for n in range(3)]  # fmt: skip
        (path.parents[1] / "server.jsonl").write_text("".join(said))
    made = report.write(run)
    assert made.void
    assert "HTTP 400: no tools" in (run / "report.md").read_text()
    assert (run / "figures" / "clients_and_server.svg").exists()
