"""What a study measures of precisions: each in a process of its own, against the widest one.

In a study file::

    [[parts]]
    methods = ["plain in {precision}", "draft in {precision}"]
    axes = { precision = ["float32", "bfloat16", "int8"] }
    alone = { texts = ["wikitext", "pg19"], limit = 4, tokens = 512 }  # what each of them reads
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InvalidArgument, PromptError
from ..alone import Errand, Found, alone
from ..divergence import Laws
from ..keeping import Notify
from ..names import in_precision, needs_drafter
from ..precisions import canonical
from ..sample import Writing
from ..workloads import BenchPrompt, load_prompts

if TYPE_CHECKING:
    from .journal import Journal
    from .study import Setting

WIDTHS = {
    "float32": 32,
    "bfloat16": 16,
    "float16": 16,
    "fp8": 8,
    "bnb-int8": 8,
    "int8": 8,
    "int4": 4,
    "nf4": 4,
}
"""Bits of a weight."""
WIDEST = "float32"
"""What all are compared with, where it can be had."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The texts that precisions are compared on.

    Attributes:
        texts: workloads or files.
        limit: passages of each at most.
        tokens: of each passage.
    """

    texts: Sequence[str] = ("wikitext", "pg19")
    limit: int = 4
    tokens: int = 512

    def __post_init__(self) -> None:
        """Check the values."""
        names = self.texts
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
            raise InvalidArgument(f"alone: texts is {names!r}: give a list of names")
        for name, least in (("limit", 1), ("tokens", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidArgument(f"alone: {name} is {value!r}: give {least} or more")

    def passages(self, config: Mapping[str, Any]) -> list[str]:
        """Return the texts, those that the options name where they do.

        Raises:
            PromptError: one cannot be read.
        """
        place = None if config["data_dir"] is None else Path(config["data_dir"])
        found = load_prompts(
            config["texts"] or list(self.texts),
            data_dir=place,
            limit=self.limit,
            prompt_tokens=self.tokens,
        )
        return [one.text for one in found]

    def ids(self, tokenizer: Any, config: Mapping[str, Any]) -> list[list[int]]:
        """Return the token ids of the texts; see :meth:`passages`.

        Raises:
            PromptError: no text has two tokens or more.
        """
        texts = self.passages(config)
        found = [list(tokenizer(text)["input_ids"])[: self.tokens] for text in texts]
        if not any(len(ids) > 1 for ids in found):
            raise PromptError("no text to compare precisions on has two tokens: give longer ones")
        return [ids for ids in found if len(ids) > 1]


def precision_of(name: str, config: Mapping[str, Any]) -> str:
    """Return the one name of the precision of a method's target."""
    return canonical(in_precision(name)[1] or config["dtype"])


def apart(setting: Setting) -> Iterator[Setting]:
    """Yield a setting for each precision of its methods: one copy of the target at a time."""
    precisions = dict.fromkeys(
        one.axes["precision"] for one in setting.methods if "precision" in one.axes
    )
    if not precisions:
        yield setting
    for precision in precisions:
        methods = []
        for one in setting.methods:
            if one.axes.get("precision", precision) != precision:
                continue
            own, target, drafter = in_precision(one.name)
            if target is not None and drafter is None:
                axes = {name: one.axes[name] for name in one.axes if name != "precision"}
                template = in_precision(one.template)[0]
                methods.append(replace(one, name=own, axes=axes, template=template))
            elif target is None:
                methods.append(one)
        names = {one.name: one for one in reversed(methods)}
        yield replace(
            setting,
            axes={**setting.axes, "precision": precision},
            config={**setting.config, "dtype": precision},
            methods=list(reversed(names.values())),
        )


def asked(setting: Setting, leave: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the methods and the precisions that go into processes of their own.

    Args:
        setting: whose.
        leave: methods that do not.
    """
    names = [one.name for one in setting.methods if one.name not in leave]
    found = dict.fromkeys(precision_of(name, setting.config) for name in names)
    return names, sorted(found, key=lambda one: -WIDTHS[one])


@dataclass(frozen=True, slots=True)
class Then:
    """What is left to know of a setting once its texts are written.

    Attributes:
        tokenizer: of the target.
        drafter: the name of the draft model.
        prompt: the longest one.
        writing: how texts were written.
        unusable: methods without figures.
    """

    tokenizer: Any
    drafter: str | None
    prompt: BenchPrompt
    writing: Writing
    unusable: Mapping[str, str]


@dataclass(slots=True)
class Alone:
    """Runs the errands of a study, and keeps the laws of the widest precision while it does.

    Args:
        notify: told of every errand.
    """

    notify: Notify
    _laws: dict[str, tuple[str, Laws]] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Remove what was kept."""
        self._stack.close()
        self._laws.clear()

    def measure(
        self,
        journal: Journal,
        setting: Setting,
        run: int,
        then: Then,
    ) -> None:
        """Measure what is missing of a setting, and write it down."""
        names, precisions = missing(journal, setting, then.unusable)
        config = setting.config
        common = Errand(config["target"], "", config["device"], config["runtime"])
        common = replace(common, threads=config["threads"], draft_length=config["draft_length"])
        self.notify(f"{setting.part}: alone", more=len(names) + len(precisions))
        for name in names:
            own, _, drafted = in_precision(name)
            errand = replace(
                common,
                dtype=precision_of(name, config),
                method=own,
                drafter=then.drafter if needs_drafter(name) else None,
                drafter_dtype=drafted or config["drafter_dtype"] or config["dtype"],
                prompt=then.prompt,
                writing=then.writing,
            )
            found = alone(errand)
            journal.add("alone", setting=setting.id, run=run, method=name, **_plain(found))
            self.notify(f"alone: {name}")
        if not precisions:
            return
        assert setting.readings is not None
        texts = setting.readings.ids(then.tokenizer, config)
        bos = then.tokenizer.bos_token_id
        read = {
            "names": config["texts"] or list(setting.readings.texts),
            "bos": bos is not None and all(ids[0] == bos for ids in texts),
        }
        widest, laws, own_quality = self._reference(replace(common, texts=texts), precisions)
        for precision in precisions:
            if precision == widest and own_quality is not None:
                found = own_quality
            else:
                against = None if laws is None else str(laws.path)
                found = alone(replace(common, dtype=precision, texts=texts, reference=against))
            about = {"precision": precision, "reference": widest, **read}
            journal.add("quality", setting=setting.id, run=run, **about, **_plain(found))
            self.notify(f"alone: {precision}")

    def _reference(
        self, common: Errand, precisions: Sequence[str]
    ) -> tuple[str | None, Laws | None, Found | None]:
        """Have the widest precision that can be had leave its laws; compare it with itself."""
        key = repr((common.target, common.device, common.texts))
        if key not in self._laws:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            for precision in dict.fromkeys([WIDEST, *precisions]):
                laws = Laws(folder / f"{len(self._laws)}.npy")
                left = alone(replace(common, dtype=precision, keep=str(laws.path)))
                if left.refused is None:
                    self._laws[key] = (precision, laws)
                    break
            else:
                return None, None, None
        widest, laws = self._laws[key]
        itself = alone(replace(common, dtype=widest, reference=str(laws.path)))
        return widest, laws, itself


def missing(
    journal: Journal, setting: Setting, unusable: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return the methods and precisions of a setting that no process of their own has measured."""
    from .study import ALWAYS

    if setting.readings is None:
        return [], []
    names, precisions = asked(setting, [*ALWAYS, *unusable])
    seen = {line["method"] for line in journal.of("alone", setting=setting.id)}
    weighed = {line["precision"] for line in journal.of("quality", setting=setting.id)}
    return [n for n in names if n not in seen], [p for p in precisions if p not in weighed]


def _plain(found: Found) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if value is not None}
