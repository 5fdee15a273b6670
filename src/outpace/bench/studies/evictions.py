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

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InvalidArgument, PromptError
from ...models import LanguageModel
from ..evicting import read
from ..keeping import Notify
from ..workloads import load_prompts

if TYPE_CHECKING:
    from .journal import Journal
    from .study import Setting


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


def check_policies(
    asked: Evictions | None, policies: Mapping[str, Any], methods: Sequence[str], where: str
) -> None:
    """Refuse a part that has policies and nothing to read, or the other way round.

    Raises:
        InvalidArgument: it is one.
    """
    if asked is None:
        if policies:
            raise InvalidArgument(f"{where}: policies without evicting: say what they read")
        return
    if methods or not policies:
        raise InvalidArgument(f"{where}: evicting: give policies, and no methods")
    for name, text in policies.items():
        if not isinstance(text, str):
            raise InvalidArgument(f"{where}: policy {name} is {text!r}: give a text")


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
