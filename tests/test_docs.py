"""The documentation holds: links lead somewhere, code runs, the API reference is up to date."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import urlparse

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HOSTS = {
    "arxiv.org",
    "huggingface.co",
    "github.com",
    "keepachangelog.com",
    "semver.org",
    "apache.org",
    "www.apache.org",
}

# A Python block is run if the line before it is this comment. "as NAME" makes it a module of that
# name, with relative imports, for the blocks after it on the page.
RUNNABLE = re.compile(
    r"^<!-- runnable(?: as (?P<name>[\w.]+))? -->\n```python\n(?P<code>.*?)^```$", re.M | re.S
)
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
URL = re.compile(r"https?://[^\s)>\"'`]+")
MACHINE_PATH = re.compile(r"(?<![\w.~)/-])/(?:home|root|work|tmp|usr|opt|mnt|var|Users)/|C:\\")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def anchors(page: Path) -> set[str]:
    """The anchors GitHub gives the headings of a page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in kept}


def relative_links(page: Path) -> Iterator[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    yield from (link for link in LINK.findall(text) if "://" not in link)


def problems(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    known: dict[Path, set[str]] = {}
    found = []
    for link in relative_links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            found.append(link)
        elif anchor:
            if target not in known:
                known[target] = anchors(target)
            if anchor not in known[target]:
                found.append(link)
    return found


@each_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert problems(page) == []


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](missing.md) [d](page.md#one-two)\n")
    assert problems(page) == ["#three", "missing.md"]


@each_page
def test_hosts_and_paths(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {urlparse(url).hostname for url in URL.findall(text)} <= HOSTS
    assert MACHINE_PATH.findall(text) == []


def test_pictures_ask_no_server() -> None:
    for picture in (ROOT / "docs").rglob("*.svg"):
        # names of namespaces and of the document type, which nobody fetches
        names = re.compile(
            r"http://www\.w3\.org/(2000/svg|1999/xlink|Graphics/SVG/1\.1/DTD/\w+\.dtd)"
        )
        text = names.sub("", picture.read_text(encoding="utf-8"))
        assert URL.findall(text) == []
        assert "@font-face" not in text
        assert "<script" not in text


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if RUNNABLE.search(page.read_text(encoding="utf-8"))],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_runnable_blocks_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    for block in RUNNABLE.finditer(text):
        name, first = block["name"], text.count("\n", 0, block.start("code"))
        module = ModuleType(name or "block")
        if name is not None:
            module.__package__ = name.rpartition(".")[0]
            monkeypatch.setitem(sys.modules, name, module)
        # as many empty lines before it, so that a traceback names the line of the page
        exec(compile("\n" * first + block["code"], str(page), "exec"), module.__dict__)
        for member, value in list(module.__dict__.items()):
            if member.startswith("test_"):
                value()


def test_every_runnable_mark_is_understood() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        marks = [line for line in text.splitlines() if line.startswith("<!-- runnable")]
        assert len(marks) == len(RUNNABLE.findall(text)), page.name


def test_api_reference_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate_api.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
