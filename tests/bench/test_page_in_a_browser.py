"""The page of a report in Chromium: on a telephone and a desk, in light and dark.

The browser is that of OUTPACE_CHROMIUM, or a Chromium on the path; without one there is no test.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sample_page

from outpace.bench.page import html

sync_api = pytest.importorskip("playwright.sync_api")

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without a sandbox of its own and without a graphics processor it starts in a container as well.
FLAGS = "--no-sandbox --no-zygote --in-process-gpu --use-gl=angle --use-angle=swiftshader"
WIDTHS = (390, 1280)

# Names of what is wider than where it stands. What may be wide is in an element of class scroll.
WIDE = """() => {
  const found = [];
  const name = (one) => one.tagName + '.' + (one.getAttribute('class') || '');
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) found.push('page');
  for (const one of document.querySelectorAll('body, body *')) {
    if (one.parentElement.closest('.scroll')) continue;
    if (one.closest('svg') && one.tagName !== 'svg') continue;
    const scrolls = one.classList.contains('scroll');
    const inline = getComputedStyle(one).display.startsWith('inline');
    if (!scrolls && !inline && one.clientWidth && one.scrollWidth > one.clientWidth + 1)
      found.push('overflows: ' + name(one));
    for (const box of one.getClientRects())
      if (box.right > innerWidth + 1 || box.left < -1) found.push('outside: ' + name(one));
  }
  for (const one of document.querySelectorAll('svg text')) {
    const box = one.getBoundingClientRect(), around = one.closest('svg').getBoundingClientRect();
    if (box.width && (box.right > around.right + 1 || box.left < around.left - 1))
      found.push('clipped: ' + one.textContent);
  }
  return [...new Set(found)];
}"""
OPEN = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


@dataclass
class Seen:
    """What a browser has to say about a page."""

    wide: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    scrolling: int = 0
    ground: str = ""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    path = os.environ.get("OUTPACE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no Chromium: set OUTPACE_CHROMIUM, or have one of {', '.join(NAMES)}")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield opened
        opened.close()


def look(browser, file: Path, text: str, width: int, scheme: str = "light") -> Seen:
    file.write_text(text, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = Seen()
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.errors.append(message.text))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(file.as_uri())
    page.evaluate(OPEN)
    seen.requests = [url for url in seen.requests if url != file.as_uri() and url != "data:,"]
    seen.wide = page.evaluate(WIDE)
    scrolling = "[...document.querySelectorAll('.scroll')]"
    seen.scrolling = page.evaluate(
        f"{scrolling}.filter((one) => one.scrollWidth > one.clientWidth).length"
    )
    seen.ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()
    return seen


def test_on_paper_it_is_light(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(html(sample_page.document()), encoding="utf-8")
    page = browser.new_page(color_scheme="dark")
    page.goto(file.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    ground = page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--ground')"
    )
    assert ground.strip() == "#fdfdfc"
    closed = "document.querySelector('details:not([open]) .text').getBoundingClientRect().height"
    assert page.evaluate(closed) > 0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_asks_for_nothing(browser, tmp_path, width, scheme):
    seen = look(browser, tmp_path / "page.html", html(sample_page.document()), width, scheme)
    assert seen.wide == []
    assert seen.requests == []
    assert seen.errors == []
    assert seen.scrolling > 2  # there was something that did not fit
    light = min(map(int, seen.ground.strip("rgb()").split(","))) > 200
    assert light == (scheme == "light")


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ('<div style="width: 2000px">x</div>', "page"),
        (f'<p style="overflow-wrap: normal">{"z" * 400}</p>', "page"),
        ('<div style="overflow: hidden"><p style="width: 2000px">x</p></div>', "overflows: DIV."),
        ('<p style="margin-left: -50px">x</p>', "outside: P."),
        ('<svg width="40" viewBox="0 0 40 9"><text>a long text</text></svg>', "clipped: "),
    ],
)
def test_what_does_not_fit_is_found(browser, tmp_path, bad, found):
    page = html(sample_page.document()).replace("<h1>", bad + "<h1>")
    seen = look(browser, tmp_path / "page.html", page, WIDTHS[0])
    assert any(one.startswith(found) for one in seen.wide)


def test_a_request_is_found(browser, tmp_path):
    bad = '<img src="http://127.0.0.1:9/x.png">'
    seen = look(browser, tmp_path / "page.html", f"<!doctype html><body>{bad}", WIDTHS[0])
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert seen.errors


def test_the_policy_of_the_page_forbids_one(browser, tmp_path):
    """A picture that somebody puts in is not fetched either."""
    bad = '<img src="http://127.0.0.1:9/x.png"><script>document.title = "run"</script>'
    page = html(sample_page.document()).replace("<h1>", bad + "<h1>")
    seen = look(browser, tmp_path / "page.html", page, WIDTHS[0])
    assert any("Content Security Policy" in error for error in seen.errors)
