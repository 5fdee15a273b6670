"""The page of a report: its parts, and that nothing in it escapes or asks for anything."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import sample_page
from sample_page import KINDS, NASTY

from outpace.bench.document import Document, Generation, Section, Table, Turn
from outpace.bench.page import html
from outpace.bench.page.tables import flat, table
from outpace.bench.page.tokens import tokens
from outpace.bench.page.words import clipped, escaped, milliseconds, width

VOID = {"meta", "link", "br", "img", "input", "hr"}
FETCHES = {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "background"}


class Reader(HTMLParser):
    """Reads a page as a browser would, and notes what is wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")

    def handle_data(self, data):
        self.words.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def fetched(page: str) -> list[str]:
    """What a page would ask a server for."""
    found = []
    for tag, attributes in read(page).elements:
        for name, value in attributes.items():
            value = (value or "").strip()
            if name in FETCHES and not value.startswith(("#", "data:")):
                found.append(f"{tag} {name}={value}")
    urls = re.findall(r"url\(\s*[\"']?([^)]*)", page)
    found += [url for url in urls if not url.startswith(("#", "data:"))]
    return found + re.findall(r"@import[^;]*", page)


@pytest.fixture(scope="module")
def page() -> str:
    return html(sample_page.document())


def test_the_parts_in_order(page):
    marks = ["<h1>", 'class="verdict"', 'class="lead"', 'id="limits"', 'id="heading-1"']
    marks += ["<table>", 'class="picture"', 'id="heading-2"', 'class="timeline"', 'class="tokens"']
    marks += ['class="trees"', 'id="environment"', 'id="again"']
    places = [page.index(mark) for mark in marks]
    assert places == sorted(places)


def test_several_verdicts_are_a_list():
    page = html(replace(sample_page.document(), verdict=["Chains: use 4.", "Trees: <none>."]))
    assert '<ul class="verdict">\n<li>Chains: use 4.</li>\n<li>Trees: &lt;none&gt;.</li>' in page
    assert read(page).open == []


def test_it_is_a_page(page):
    reader = read(page)
    assert reader.wrong == []
    assert reader.open == []
    assert page.startswith('<!doctype html>\n<html lang="en">')
    policies = [one["content"] for one in reader.all("meta") if "http-equiv" in one]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert [one["name"] for one in reader.all("meta") if "name" in one] == [
        "viewport",
        "color-scheme",
    ]
    assert page.encode()  # no half of a character is left
    names = [one["id"] for _, one in reader.elements if "id" in one]
    assert len(names) == len(set(names))
    drawings = [one for one in reader.all("svg") if one.get("viewbox") != "0 0 720 120"]
    assert drawings
    assert all(one["role"] == "img" and one["aria-label"] for one in drawings)
    assert all("scope" in one for one in reader.all("th"))
    assert all(f"--series-{number}: #" in page for number in range(1, 9))


def test_nothing_is_fetched(page):
    assert fetched(page) == []


@pytest.mark.parametrize(
    "bad",
    [
        '<img src="https://a.example/x.png">',
        '<link rel="stylesheet" href="//a.example/x.css">',
        "<style>body { background: url(http://a.example/x) }</style>",
        "<style>@import 'x.css';</style>",
        '<svg><use xlink:href="other.svg#x"/></svg>',
    ],
)
def test_what_would_be_fetched_is_found(bad, page):
    assert fetched(page.replace("<h1>", bad + "<h1>"))


def test_texts_stay_texts(page):
    reader = read(page)
    allowed = {"html", "head", "meta", "title", "link", "style", "body", "main", "header", "h1"}
    allowed |= {"p", "div", "aside", "h2", "h3", "h4", "ul", "li", "section", "table", "caption"}
    allowed |= {"thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary"}
    allowed |= {"small", "span", "b", "i", "svg", "rect", "path", "text", "tspan", "g", "pre"}
    assert {tag for tag, _ in reader.elements} <= allowed | {"code"}
    assert not any(name.startswith("on") for _, one in reader.elements for name in one)
    assert NASTY[0] in "".join(reader.words)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b> & \"'", "&lt;b&gt; &amp; &quot;&#x27;"),
        ("a\x00\x1b\r\x7f", "a\\x00\\x1b\\x0d\\x7f"),
        ("\x85\u202e\u200b\u2028", "\\x85\\u202e\\u200b\\u2028"),
        ("\ud83d", "\ufffd"),
        ("\ude00x\ud83d\ude00", "\ufffdx😀"),
        ("👩\u200d👧 \t\n", "👩\u200d👧 \t\n"),
        ("שלום é", "שלום é"),
    ],
)
def test_what_is_shown_of_a_text(text, shown):
    assert escaped(text) == shown


def test_words():
    assert clipped("abcdef", 6) == "abcdef"
    assert clipped("abcdefg", 6) == "abcde…"
    assert clipped("日本語日本語", 6) == "日本…"
    assert width("日本") == 4
    assert [milliseconds(value) for value in (0.00123, 0.0123, 1.234)] == [
        "1.23 ms",
        "12.3 ms",
        "1,234 ms",
    ]


def test_cells_of_figures_are_on_the_right():
    head = ["prompt", "tokens/s", "× hf", "share", "text", "empty"]
    rows = [
        ["1", "1,158.2 ± 1.0", "1.74 (1.71–1.77)", "61%", "12 of 24", "–"],
        ["2", "9.1", "–", "3 %", "as hf", "–"],
    ]
    made = table(Table("speed", "Speed", head, rows))
    shown = [bool(one.get("class")) for one in read(made).all("th") if one["scope"] == "col"]
    assert shown == [False, True, True, True, False, False]
    assert made.count('<th scope="row">') == 2
    assert made.count('<td class="figure">') == 6


def test_facts_are_flat():
    facts = {"a": {"b": {"c": 1}, "d": None}, "e": [1, "two"], "f": True}
    assert list(flat(facts)) == [
        ("a · b · c", "1"),
        ("a · d", "none"),
        ("e", "1, two"),
        ("f", "yes"),
    ]


def test_every_kind_is_marked():
    turn = Turn([0, 0, 1, 1], ["."], [-1], [], [f" {kind}!" for kind in KINDS], KINDS)
    made = tokens(Generation("m", "p", "before\n", [turn]))
    for kind in KINDS:
        assert f'<span class="token {kind}"> {kind}!</span>' in made
        assert f'<span class="token {kind}">{kind}</span> <b>1</b> (25 %)' in made
    assert '<span class="before">before<span class="sign">↵</span>\n</span>' in made
    assert 'title="prefill: 1 accepted, 1 recovered, 1 bonus, 1 plain"' in made
    style = html(Document("t", "v"))
    borders = [
        re.search(rf"\.token\.{kind} {{[^}}]*border-bottom: ([^;]*)", style) for kind in KINDS
    ]
    assert len({found[1].split(" var")[0] for found in borders if found}) == len(KINDS)


def test_the_copied_text_is_the_text():
    turn = Turn([0, 0, 1, 1], ["."], [-1], [], ["\tif", "", " x:\n"], ["plain"] * 3)
    made = tokens(Generation("m", "p", "", [turn]))
    inside = made[made.index('class="before"') :]
    bare = re.sub(r'<span class="sign"[^>]*>.</span>', "", inside)
    text = re.sub(r"<[^>]*>", "", "<" + bare[: bare.index("</div>")])
    assert text == "\tif x:\n"


def test_a_bare_report():
    page = html(Document("Title", "Verdict.", sections=[Section("Empty")]))
    assert read(page).wrong == []
    assert 'id="environment"' not in page
    assert 'id="again"' not in page
    assert "What limits" not in page


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_series_stand_out_from_the_ground(page, theme):
    half = page.index("prefers-color-scheme: dark")
    part = page[:half] if theme == "light" else page[half:]
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
    for name in ["quiet", "ink"]:
        assert contrast(colors[name], colors["raised"]) > 4.5
    for number in range(1, 9):
        assert contrast(colors[f"series-{number}"], colors["ground"]) > 3


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
