"""What the embedded models know: python benchmarks/zoo.py [--work DIR] [--quick]

Writes docs/results/zoo.{md,json}: bits per byte of each model on books, Wikipedia and code that
none was trained on, perplexity by position, and how many tokens a forward of the target writes with
each drafter; and draws the learning curves, docs/images/zoo-curves.svg. With --work (the folder of
``python -m outpace.zoo.train``) it takes the curves of that run, and looks at the two-layer drafter
that is not kept.
"""

import argparse
import gzip
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import track

from outpace import Decoder, Stats, zoo
from outpace.bench import Models, fit_prompts, load_prompts
from outpace.bench.metrics import LOOPING, repeated_8gram_share
from outpace.data import data_root
from outpace.models import LanguageModel, load

DOCS = Path(__file__).resolve().parent.parent / "docs"
WINDOW = 2048
BUCKETS = (0, 64, 128, 256, 512, 1024, 2048)
SETS = {"pg19": "books", "wikitext": "Wikipedia", "humaneval": "code"}


def texts(quick: bool) -> dict[str, list[tuple[str, str]]]:
    """Return (context, text to score) of each set: code is scored after its problem."""
    root = data_root()
    if root is None:
        sys.exit("no evaluation text: OUTPACE_DATA names its folder")
    data = root / "data"
    with gzip.open(data / "humaneval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        problems = [json.loads(line) for line in file]
    books = sorted((data / "pg19_test_books").glob("*.txt"))
    found = {
        "pg19": [("", book.read_text(encoding="utf-8")) for book in books],
        "wikitext": [("", (data / "wikitext-2-raw" / "wiki.test.raw").read_text(encoding="utf-8"))],
        "humaneval": [(one["prompt"], one["canonical_solution"]) for one in problems],
    }
    if quick:
        found = {name: [(c, t[:20000]) for c, t in some[:20]] for name, some in found.items()}
    return found


@torch.no_grad()
def bits(model: LanguageModel, context: str, text: str) -> tuple[float, list[tuple[int, float]]]:
    """Return the bits of a text, and its nats a token by position.

    Windows of 2048 tokens, none overlapping; each begins with the last token of the one before (the
    first with the end-of-text token, which is a position of its own and not scored).
    """
    tokenizer: Any = model.tokenizer
    before = [tokenizer.bos_token_id, *tokenizer(context)["input_ids"]] if context else []
    ids = [*(before or [tokenizer.bos_token_id]), *tokenizer(text)["input_ids"]]
    scored = len(before) or 1
    total, places = 0.0, []
    for start in range(0, len(ids) - 1, WINDOW):
        piece = torch.tensor([ids[start : start + WINDOW + 1]])
        with model.stock() as stock:
            logits = stock(input_ids=piece[:, :-1], use_cache=False).logits[0].float()
        nats = F.cross_entropy(logits, piece[0, 1:], reduction="none")
        first = max(0, scored - 1 - start)
        total += float(nats[first:].sum())
        places += [(place, float(n)) for place, n in enumerate(nats.tolist()) if place >= first]
    return total / math.log(2), places


def acceptance(target: LanguageModel, drafter: LanguageModel, limit: int) -> list[dict[str, Any]]:
    """Return mean acceptance lengths at K = 3 and 5, greedy and at temperature 0.8.

    Over all texts, and over those that do not repeat themselves: circles are easy to draft.
    """
    found = []
    for name in SETS:
        prompts, _ = fit_prompts(load_prompts([name], limit=limit), Models(target, drafter), 128)
        for length, temperature in itertools.product((3, 5), (0.0, 0.8)):
            decoder = Decoder.from_pretrained(target, drafter=drafter, draft_length=length)
            outputs = [
                decoder.generate(one.text, temperature=temperature, seed=number, ignore_eos=True)
                for number, one in enumerate(prompts)
            ]
            straight = [o.stats for o in outputs if repeated_8gram_share(o.tokens) <= LOOPING]
            stats = [output.stats for output in outputs]
            found.append(
                {
                    "texts": name,
                    "prompts": len(prompts),
                    "draft_length": length,
                    "temperature": temperature,
                    "mean_acceptance_length": _length(stats),
                    "acceptance_rate": sum(s.accepted for s in stats)
                    / sum(s.drafted for s in stats),
                    "repeating": len(stats) - len(straight),
                    "mean_acceptance_length_not_repeating": _length(straight),
                }
            )
    return found


def _length(stats: list[Stats]) -> float | None:
    rounds = sum(one.rounds for one in stats)
    return sum(one.emitted for one in stats) / rounds if rounds else None


def measure(names: dict[str, str], quick: bool) -> dict[str, Any]:
    """Measure all models of ``names`` (name → what to load)."""
    sets = texts(quick)
    models = {name: load(what, device="cpu") for name, what in names.items()}
    record: dict[str, Any] = {"parameters": {}, "bits_per_byte": {}, "perplexity": {}, "drafts": {}}
    for name, model in track(models.items(), "bits per byte"):
        record["parameters"][name] = model.parameters
        record["bits_per_byte"][name] = {}
        for kind, some in sets.items():
            scored = [bits(model, context, text) for context, text in some]
            size = sum(len(text.encode()) for _, text in some)
            record["bits_per_byte"][name][kind] = sum(one for one, _ in scored) / size
            if kind == "pg19":
                places = [place for _, found in scored for place in found]
                record["perplexity"][name] = by_position(places)
    target = models.pop("target")
    for name, model in track(models.items(), "drafts"):
        record["drafts"][name] = acceptance(target, model, 2 if quick else 16)
    return record


def by_position(places: list[tuple[int, float]]) -> dict[str, float]:
    """Return the perplexity of tokens by how much text stands before them in the window."""
    found = {}
    for low, high in itertools.pairwise(BUCKETS):
        nats = [n for place, n in places if low <= place < high]
        if nats:
            found[f"{low}–{high - 1}"] = math.exp(sum(nats) / len(nats))
    return found


def page(record: dict[str, Any]) -> str:
    """Return the record as tables."""
    lines = ["| model | parameters | " + " | ".join(SETS.values()) + " |", "|" + " --- |" * 5]
    for name, row in record["bits_per_byte"].items():
        size = f"{record['parameters'][name] / 1e6:.2f} M"
        lines.append(f"| {name} | {size} | " + " | ".join(f"{row[k]:.3f}" for k in SETS) + " |")
    lines += ["", "Bits per byte, in bfloat16; fewer are better.", ""]
    if "deep" in record["parameters"]:
        lines += ["`deep` is a drafter like `large` with two layers; it does not come along.", ""]
    names = list(record["perplexity"])
    lines += ["| position | " + " | ".join(names) + " |", "|" + " --- |" * (len(names) + 1)]
    for bucket in record["perplexity"]["target"]:
        cells = " | ".join(f"{record['perplexity'][name][bucket]:.1f}" for name in names)
        lines.append(f"| {bucket} | {cells} |")
    lines += ["", "Perplexity a token on the books, by position in a window of 2048 tokens.", ""]
    lines += ["| drafter | texts | K | greedy | temperature 0.8 |", "|" + " --- |" * 5]
    for name, rows in record["drafts"].items():
        for greedy, sampled in zip(rows[::2], rows[1::2], strict=True):
            cells = " | ".join(_cell(one) for one in (greedy, sampled))
            lines.append(
                f"| {name} | {SETS[greedy['texts']]} | {greedy['draft_length']} | {cells} |"
            )
    prompts = next(iter(record["drafts"].values()))[0]["prompts"]
    lines += [
        "",
        f"Mean acceptance length, tokens a forward of the target, over {prompts} prompts of each "
        "kind, 128 new tokens, EOS ignored. In brackets: the acceptance rate; how many texts "
        "repeat more than 20 % of their 8-grams; and the length over the others.",
    ]
    return "\n".join(lines) + "\n"


def _cell(one: dict[str, Any]) -> str:
    others = one["mean_acceptance_length_not_repeating"]
    rest = "–" if others is None else f"{others:.2f}"
    return (
        f"{one['mean_acceptance_length']:.2f} ({one['acceptance_rate']:.0%}; "
        f"{one['repeating']}; {rest})"
    )


def draw() -> None:
    """Draw the learning curves."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "outpace"
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    curve = _curve("target")
    left.plot(*_series(curve, "target"), color="0.75", label="training")
    for name in ("prose", "code"):
        left.plot(*_series(curve, f"held_{name}"), marker=".", label=f"held-out {name}")
    left.set(title="Target", xlabel="million tokens", ylabel="nats a token", ylim=(1.5, 6))
    curve = _curve("drafters")
    for name in ("small", "medium", "large", "deep"):
        label = "two layers" if name == "deep" else name
        right.plot(*_series(curve, f"prose_{name}_overlap"), marker=".", label=label)
    right.set(
        title="Drafters, held-out prose",
        xlabel="million tokens",
        ylabel="share of the target's law covered",
    )
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(DOCS / "images" / "zoo-curves.svg", metadata=nothing)


def _curve(name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in _kept(name).read_text().splitlines()]


def _kept(name: str) -> Path:
    return DOCS / "results" / f"zoo-{name}-curve.jsonl"


def _series(curve: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    points = [one for one in curve if name in one]
    return [one["tokens"] / 1e6 for one in points], [one[name] for one in points]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, help="folder of the training run")
    parser.add_argument("--quick", action="store_true", help="a part of the texts")
    options = parser.parse_args()
    names = {"target": "zoo:target", **{size: f"zoo:{size}" for size in zoo.SIZES}}
    if options.work is not None:
        names["deep"] = str(options.work / "models" / "deep")
        for name in ("target", "drafters"):
            _kept(name).write_text((options.work / name / "curve.jsonl").read_text())
    draw()
    record = measure(names, options.quick)
    (DOCS / "results" / "zoo.json").write_text(json.dumps(record, indent=1) + "\n")
    (DOCS / "results" / "zoo.md").write_text(page(record))
    print(page(record))


if __name__ == "__main__":
    main()
