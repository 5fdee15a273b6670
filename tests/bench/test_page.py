"""The page of a report: its parts, and that nothing in it escapes or asks for anything."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import sample_page
from sample_page import KINDS, NASTY

from outpace import Decoder
from outpace.bench import Models
from outpace.bench.document import Document, Generation, Section, Table, Turn
from outpace.bench.page import html
from outpace.bench.page.stages import stages, totals
from outpace.bench.page.tables import flat, table
from outpace.bench.page.timeline import BANDS, ROUNDS, WIDTH, bands_needed, scaled, timeline
from outpace.bench.page.tokens import tokens
from outpace.bench.page.trees import SHOWN, drawing, trees
from outpace.bench.page.words import clipped, escaped, milliseconds, width
from outpace.bench.rounds import as_turns

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
        ("a\x00\x1b\r\x7f", "a␀␛␍␡"),
        ("\x85\u202e\u200b\u2028", "\\u0085\\u202e\\u200b\\u2028"),
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


def test_the_time_is_all_there():
    turns = sample_page.turns(9)
    found = stages(turns)
    assert found[0].start == 0
    assert all(one.end == two.start for one, two in pairwise(found))
    assert found[-1].end == turns[-1].times[3]
    assert sum(totals(found).values()) == pytest.approx(turns[-1].times[3])
    assert totals(found)["prefill"] == pytest.approx(0.039)
    assert totals(stages([])) == {}


@pytest.mark.parametrize("count", [0, 1, 9, 90])
def test_the_timeline_is_to_scale(count):
    turns = sample_page.turns(count)
    made, scale = timeline(turns), scaled(turns)
    drawn: dict[str, float] = {}
    for name, length in re.findall(
        r'<rect class="(\w+)" x="[^"]*" y="[^"]*" width="([^"]*)"', made
    ):
        drawn[name] = drawn.get(name, 0) + float(length) / WIDTH * scale.band
    assert drawn == pytest.approx(totals(stages(turns)), rel=0.01, abs=1e-4)
    boxes = [kind for kind in KINDS for _ in range(made.count(f'class="box {kind}"'))]
    assert sorted(boxes) == sorted(kind for turn in turns for kind in turn.kinds)
    for x, length in re.findall(r'<rect [^>]*?x="([^"]*)"[^>]*?width="([^"]*)"', made):
        assert float(x) >= 0
        assert float(x) + float(length) <= WIDTH + 0.02


def test_a_long_text_is_cut_and_it_says_so():
    turns = sample_page.turns(900)
    made, scale = timeline(turns), scaled(turns)
    count = bands_needed(turns, scale)
    assert made.count("<svg") == count <= BANDS
    shown = int(re.search(r"and 900 rounds; the first (\d+) are shown", made)[1])
    assert ROUNDS / 2 < shown < 900
    assert sum(turn.times[3] <= count * scale.band for turn in turns[1:]) == shown


def test_a_long_prefill_is_cut_and_it_says_so():
    made, scale = timeline(sample_page.wide()), scaled(sample_page.wide())
    assert 8 < scale.origin < 9
    assert "of the prefill are cut off" in made
    assert made.count("<svg") <= 2
    assert "cut off" not in timeline(sample_page.turns(9))


def test_trees_that_branch_come_first():
    made = trees(sample_page.turns(200))
    assert made.count("<svg") == SHOWN
    assert re.findall(r"<b>Round (\d+)</b>", made) == ["1", "5", "9", "13", "17", "21"]
    assert "the first 6 of 50 trees" in made
    assert "1 drafted chain." in trees(sample_page.wide())
    assert trees(sample_page.turns(0)) == ""


def test_a_tree_and_the_way_through_it():
    turn = Turn(
        [0, 1, 2, 3],
        [".", " a", " b", " c", " d"],
        [-1, 0, 0, 2, 2],
        [2, 4],
        [" b", " d", " e"],
        ["accepted", "accepted", "bonus"],
    )
    made = drawing(3, turn)
    assert made.count('class="node accepted"') == made.count('class="edge accepted"') == 2
    assert made.count('class="node drafted"') == 2
    assert made.count('class="node bonus"') == 1
    assert (
        'aria-label="Round 3: 4 tokens drafted after “.”, accepted “ b d”, then bonus “ e”"' in made
    )
    rows = dict(re.findall(r'<title> (\w) \(\w+\)</title><rect x="[^"]*" y="([^"]*)"', made))
    assert rows["b"] == rows["d"] == rows["e"] == "3.0"
    assert len({rows["a"], rows["b"], rows["c"]}) == 3


def test_a_text_that_ended_inside_a_draft():
    turn = Turn([0, 1, 2, 3], [".", "a", "b"], [-1, 0, 1], [1, 2], ["a", ""], ["accepted"] * 2)
    assert "then" not in drawing(1, turn)


def test_a_bare_report():
    page = html(Document("Title", "Verdict.", sections=[Section("Empty")]))
    assert read(page).wrong == []
    assert 'id="environment"' not in page
    assert 'id="again"' not in page
    assert "What limits" not in page


def test_rounds_become_turns(models: Models):
    decoder = Decoder.from_pretrained(models.target, drafter=models.drafter, draft_length=3)
    rounds = list(decoder.stream("the cat and the dog", max_new_tokens=20, ignore_eos=True))
    began = rounds[0].times.started - 0.5
    made = as_turns(rounds, began, lambda token: f"<{token}>")
    turns = [Turn(**fields) for fields in json.loads(json.dumps(made))]
    assert [Turn(**fields) for fields in made] == turns
    assert turns[0].times[0] == 0.5
    assert turns[0].nodes == [f"<{rounds[0].tree.lists()[0][0]}>"]
    for turn, one in zip(turns, rounds, strict=True):
        assert list(turn.times) == sorted(turn.times)
        assert turn.times[3] == pytest.approx(one.times.committed - began, abs=1e-6)
        assert (turn.path, turn.parents) == (one.verdict.path, one.tree.lists()[1])
        assert (tuple(turn.kinds), "".join(turn.pieces)) == (one.kinds, one.text)
    assert timeline(turns)
