"""What a study measures of cache policies: how well a model foretells texts while they forget.

In a study file::

    [[parts]]
    name = "budgets"
    evicting = { texts = ["pg19", "wikitext"], limit = 4, tokens = 1536, first = 577 }
    policies = { dense = "full", streaming = "streaming(sinks=4, recent={budget-4})" }
    axes = { budget = [64, 128] }

Nothing is written and no time taken. ``dense`` (``full``) is what others are held against, if
there is one; ``windows`` reads windows of the model's context anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InvalidArgument, PromptError
from ...models import LanguageModel
from ..evicting import DENSE, WINDOWS, Stretch, read
from ..keeping import Notify
from ..metrics import Interval, bootstrap
from ..workloads import load_prompts

if TYPE_CHECKING:
    from .journal import Journal
    from .study import Setting

Figures = dict[str, Any]
Read = Mapping[int, Sequence[Stretch]]
"""What a policy made of each text that it has read, by its number."""


@dataclass(frozen=True, slots=True)
class Evictions:
    """The texts that policies are compared on.

    Attributes:
        texts: workloads or files.
        limit: passages of each at most.
        tokens: of each passage; shorter ones are left out.
        first: the first token that is scored, from 1: before the first boundary all policies hold
            the same.
        stretch: tokens of a stretch that has figures of its own; 0 has figures by kind of text.
    """

    texts: Sequence[str] = ("pg19", "wikitext")
    limit: int = 4
    tokens: int = 1536
    first: int = 1
    stretch: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        names = self.texts
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
            raise InvalidArgument(f"evicting: texts is {names!r}: give a list of names")
        for name, least in (("limit", 1), ("tokens", 2), ("first", 1), ("stretch", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidArgument(f"evicting: {name} is {value!r}: give {least} or more")
        if self.first >= self.tokens:
            raise InvalidArgument(
                f"evicting: first is {self.first} of {self.tokens} tokens: give a smaller number"
            )

    def passages(self, tokenizer: Any, config: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
        """Return the kind and the token ids of each passage.

        Raises:
            PromptError: a text cannot be read, or none is long enough.
        """
        place = None if config["data_dir"] is None else Path(config["data_dir"])
        names = config["texts"] or list(self.texts)
        prompts = load_prompts(names, data_dir=place, limit=self.limit, prompt_tokens=self.tokens)
        found = [
            (one.workload, list(tokenizer(one.text, verbose=False)["input_ids"])[: self.tokens])
            for one in prompts
        ]
        found = [(kind, ids) for kind, ids in found if len(ids) == self.tokens]
        if not found:
            raise PromptError(
                f"no text of {', '.join(names)} has {self.tokens} tokens to compare cache policies "
                "on: give longer ones"
            )
        return found


def missing(journal: Journal, setting: Setting) -> list[tuple[str, int]]:
    """Return the policies and texts of a setting that are not read yet."""
    heads = journal.of("setting", id=setting.id)
    if not heads:
        return [(one.name, 0) for one in setting.methods]
    count = len(heads[0]["texts"])
    known = {(line["method"], line["text"]) for line in journal.of("scored", setting=setting.id)}
    refused = {line["method"] for line in journal.of("unusable", setting=setting.id)}
    names = [one.name for one in setting.methods if one.name not in refused]
    return [(name, text) for text in range(count) for name in names if (name, text) not in known]


def score(
    journal: Journal, setting: Setting, run: int, model: LanguageModel, notify: Notify
) -> None:
    """Read what is missing of a setting, and write down each text as it is done.

    Raises:
        InvalidArgument: the texts are others than those before.
        PromptError: there are none.
    """
    asked = setting.evictions
    assert asked is not None
    passages = asked.passages(model.tokenizer, setting.config)
    _write_head(journal, setting, run, passages)
    left = missing(journal, setting)
    notify(f"{setting.part}: begun", more=len(left) + 1)
    refused: set[str] = set()
    for policy, number in left:
        if policy not in refused:
            try:
                found = read(
                    model, policy, passages[number][1], first=asked.first, stretch=asked.stretch
                )
            except InvalidArgument as error:
                refused.add(policy)
                about = {"setting": setting.id, "run": run, "method": policy}
                journal.add("unusable", **about, why=str(error))
            else:
                about = {"setting": setting.id, "run": run, "method": policy, "text": number}
                journal.add("scored", **about, stretches=[asdict(one) for one in found])
        notify(f"{setting.part}: {policy}")


def _write_head(
    journal: Journal, setting: Setting, run: int, passages: Sequence[tuple[str, list[int]]]
) -> None:
    digest = sha256(repr([ids for _, ids in passages]).encode()).hexdigest()
    heads = journal.of("setting", id=setting.id)
    if heads and heads[0]["sha256"] != digest:
        raise InvalidArgument(
            f"{setting.id}: the texts are not those that were read before: give the same "
            "--data-dir, or another --out"
        )
    if heads:
        return
    from .study import shown

    assert setting.evictions is not None
    journal.add(
        "setting",
        id=setting.id,
        run=run,
        part=setting.part,
        axes={name: shown(value) for name, value in setting.axes.items()},
        config=dict(setting.config),
        evicting=asdict(setting.evictions),
        methods=[one.name for one in setting.methods],
        texts=[kind for kind, _ in passages],
        sha256=digest,
    )


def record_of(
    journal: Journal, setting: Setting, environment: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what a setting came to, in the form of a record of the benchmark; None is nothing."""
    heads = journal.of("setting", id=setting.id)
    if not heads:
        return None
    kinds: list[str] = heads[0]["texts"]
    known: dict[str, dict[int, list[Stretch]]] = {}
    for line in journal.of("scored", setting=setting.id):
        own = known.setdefault(line["method"], {})
        own[line["text"]] = [Stretch(**one) for one in line["stretches"]]
    names = [one.name for one in setting.methods if known.get(one.name)]
    if not names:
        return None
    return {
        "environment": environment,
        "config": dict(setting.config),
        "results": [_result(name, known, kinds, setting) for name in names],
        "unusable": [
            {"method": line["method"], "why": line["why"]}
            for line in journal.of("unusable", setting=setting.id)
        ],
        "warnings": [],
        "drift": [],
        "texts": kinds,
    }


def _result(
    name: str, known: Mapping[str, Read], kinds: Sequence[str], setting: Setting
) -> Figures:
    """Return the figures of a policy, as a result of a record has them."""
    assert setting.evictions is not None
    others = {one: known[one] for one in (DENSE, WINDOWS) if one in known}
    own, breakdown = known[name], list[Figures]()

    def figures(kind: str | None = None, end: int | None = None) -> Figures:
        return _figures(
            own,
            others,
            lambda text, one: kind in {None, kinds[text]} and end in {None, one.end},
        )

    if stretch := setting.evictions.stretch:
        ends = sorted({one.end for found in own.values() for one in found})
        for end in ends:
            start = (end - 1) // stretch * stretch
            about = {"group": f"{start + 1:,}–{end:,}", "context": end}
            breakdown.append({**about, **figures(end=end)})
    elif len(set(kinds)) > 1:
        known_kinds = dict.fromkeys(kinds[text] for text in sorted(own))
        breakdown += [{"group": kind, **figures(kind)} for kind in known_kinds]
    for one in breakdown:
        one["members"] = []
    about = {"method": name, "settings": {}, "runs": [], "breakdown": breakdown}
    return {**about, **figures()}


def _figures(
    own: Read, others: Mapping[str, Read], chosen: Callable[[int, Stretch], bool]
) -> Figures:
    """Return the figures of a policy on chosen stretches of texts."""
    texts = {text: _sum(text, found, chosen) for text, found in own.items()}
    texts = {text: one for text, one in texts.items() if one.tokens}
    every = list(texts.values())
    found: Figures = {
        "policy_ppl": bootstrap([[one] for one in every], _ppl),
        "policy_accuracy": bootstrap([[one] for one in every], _right),
        "kept": sum(one.held for one in every) / sum(one.before for one in every),
        "held": sum(one.held for one in every) / sum(one.tokens for one in every),
        "scored": sum(one.tokens for one in every),
    }
    for name, column in ((DENSE, "policy_ratio"), (WINDOWS, "policy_windows")):
        read_by = others.get(name)
        if read_by is not None and texts.keys() <= read_by.keys():
            pairs = [[(one, _sum(t, read_by[t], chosen))] for t, one in texts.items()]
            found[column] = bootstrap(pairs, _ratio)
    return found


def _sum(text: int, found: Sequence[Stretch], chosen: Callable[[int, Stretch], bool]) -> Stretch:
    total = Stretch(0)
    for one in found:
        if chosen(text, one):
            total.end = one.end
            total.tokens += one.tokens
            total.nats += one.nats
            total.right += one.right
            total.held += one.held
            total.before += one.before
    return total


def _ppl(found: Sequence[Stretch]) -> float:
    return _exp(sum(one.nats for one in found) / sum(one.tokens for one in found))


def _right(found: Sequence[Stretch]) -> float:
    return sum(one.right for one in found) / sum(one.tokens for one in found)


def _ratio(pairs: Sequence[tuple[Stretch, Stretch]]) -> float:
    more = sum(one.nats - other.nats for one, other in pairs)
    return _exp(more / sum(one.tokens for one, _ in pairs))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def told(setting: Setting, record: Mapping[str, Any]) -> str:
    """Return how texts were read, in words."""
    asked = setting.evictions
    assert asked is not None
    kinds = record["texts"]
    counts = ", ".join(f"{kinds.count(one)} of {one}" for one in dict.fromkeys(kinds))
    scored = max(one["scored"] for one in record["results"])
    return (
        f"Policies read {len(kinds)} passages ({counts}) of {asked.tokens:,} tokens each, without "
        f"a BOS of their own; tokens {asked.first + 1:,} to {asked.tokens:,} of each are scored, "
        f"{scored:,} in all, the same ones for every policy. A session read each passage from its "
        "beginning up to the next boundary, forgot, and read on: every token is foretold from what "
        "is held at that moment, none from a forward over the whole text. Tokens kept: those held "
        "over those read, averaged over scored tokens, layers and heads. PPL is weighted by token; "
        "brackets are over passages, those of × dense over passages in pairs."
    )


def nearest(records: Sequence[Mapping[str, Any]]) -> str:
    """Return which policy loses least, in a sentence."""
    results = [
        one
        for record in records
        for one in record["results"]
        if one["method"] not in {DENSE, WINDOWS} and one.get("policy_ratio") is not None
    ]
    if not results:
        return "No policy was compared with a dense cache."
    best = min(results, key=lambda one: one["policy_ratio"].value)
    ratio: Interval = best["policy_ratio"]
    brackets = "" if ratio.low is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]"
    return (
        f"The least PPL is that of {best['method']}: {ratio.value:.3f} ×{brackets} that of a dense "
        f"cache, {best['kept']:.0%} of the tokens kept."
    )
