"""A report with everything in it, most of all with what must not get out of hand."""

from outpace.bench.document import Document, Generation, Picture, Section, Table, Turn

NASTY = [
    "<script>alert('x')</script>",
    "&amp; & \"quotes\" 'too'",
    "a\x00b\x1b[31m\x7f\x85",
    "half \ud83d of a character",
    "\ud83d\ude00 two halves",
    "\u202eturned\u202c",
    "שלום עולם",
    "مرحبا",
    "</title></style></pre><img src=x onerror=alert(1)>",
    "z" * 400,
    "\n\n\tdef f():\n        return 1\n",
    "",
    " ",
    "日本語" * 40,
    "e" + "\u0301" * 12,
    "\u200bzero\u2028wide",
]
KINDS = ["accepted", "recovered", "bonus", "plain"]
BARS = (
    '<svg viewBox="0 0 720 120"><rect width="300" height="20" fill="var(--series-1)"/>'
    '<text x="10" y="60" fill="currentColor">bars</text></svg>'
)


def turns(count: int = 200, prefill: float = 0.04, seconds: float = 0.012) -> list[Turn]:
    """Rounds of all kinds: trees, chains, none drafted, and the texts above everywhere."""
    made = [Turn([0.001, prefill, prefill, prefill], ["x"], [-1], [], ["Hello"], ["plain"])]
    for number in range(1, count + 1):
        began = prefill + (number - 1) * seconds
        times = [began, began + seconds / 3, began + 0.9 * seconds, began + 0.95 * seconds]
        texts = [NASTY[(number + place) % len(NASTY)] for place in range(7)]
        if number % 4 == 0:
            made.append(
                Turn([times[0], *times[:1], *times[2:]], ["."], [-1], [], [" a"], ["plain"])
            )
        elif number % 4 == 1:
            parents = [-1, 0, 0, 1, 1, 2, 4]
            pieces, kinds = [texts[1], texts[4], texts[0]], ["accepted", "accepted", "recovered"]
            made.append(Turn(times, texts, parents, [1, 4], pieces, kinds))
        else:
            pieces, kinds = [" one", texts[2], texts[3]], ["accepted", "accepted", "bonus"]
            made.append(Turn(times, [".", " one", texts[2]], [-1, 0, 1], [1, 2], pieces, kinds))
    return made


def wide() -> list[Turn]:
    """A chain of 63 tokens after a prefill that takes longer than all the rest."""
    chain = Turn(
        [9.0, 9.01, 9.02, 9.021],
        [f" token{place}" for place in range(64)],
        list(range(-1, 63)),
        list(range(1, 64)),
        [f" token{place}" for place in range(1, 65)],
        ["accepted"] * 63 + ["bonus"],
    )
    return [Turn([0.0, 9.0, 9.0, 9.0], ["."], [-1], [], ["first"], ["plain"]), chain]


def document() -> Document:
    """The report."""
    head = ["method", "tokens/s", "× hf (95 % interval)", "same text", *["another"] * 8]
    rows = [
        ["plain", "158.2 ± 1.0", "1.74 (1.71–1.77)", "as hf", *["12 of 24"] * 8],
        ["x" * 90, "9.1", "–", NASTY[0], *[NASTY[9][:60]] * 8],
    ]
    return Document(
        title=f"A report {NASTY[8]}",
        verdict=["The tree is fastest: 2.31 ×. It writes the same text, token for token."],
        lead=["What has to be known.", *NASTY],
        warnings=["Few prompts.", NASTY[0]],
        sections=[
            Section(
                NASTY[0],
                ["Prose.", NASTY[9]],
                [Table("speed", "Speed", head, rows, NASTY[1])],
                [Picture("bars", "Bars", BARS, f'Bars "{NASTY[0]}"')],
            ),
            Section(
                "Texts",
                generations=[
                    Generation("tree", NASTY[1], NASTY[10], turns()),
                    Generation("chain", "long", "…", wide()),
                    Generation("nothing", "empty", "", []),
                    Generation("prefill", "short", "", turns(0)),
                ],
            ),
        ],
        environments=[
            {
                "versions": {"outpace": "0.1", "torch": "2.11"},
                "gpu": None,
                "git": {"commit": "f" * 200, "changed": True},
                "own": {"path": NASTY[0], "list": [1, "two"]},
            }
        ],
        commands=[f"outpace bench --prompts {'word,' * 60}", "echo '<b>'"],
    )
