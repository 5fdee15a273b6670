"""A recipe: which decoder to use here, as a file that people read and Outpace runs."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from . import registry, toml
from .decoder import Decoder
from .drafters import Drafter
from .errors import InvalidArgument
from .folders import read_given, write_whole
from .lengths.costs import Costs
from .models import LanguageModel

FORMAT = 1
"""Of the file; it grows when a field changes its meaning."""
GATE = "gate"
_HEAD = """\
# How to decode this target on this machine, as `outpace tune` found or as you write it.
# `outpace generate --recipe FILE` and `outpace bench --recipe FILE` run it.
"""


@dataclass(frozen=True)
class Recipe:
    """A decoder as plain values: models and methods by name, and what they cost here.

    How tokens are sampled is no part of it. A recipe with costs repeats its decisions exactly: the
    gate takes them as they are and looks at no clock.

    Attributes:
        target: a model folder, a hub name, or an embedded model.
        drafter: as in :meth:`Decoder.from_pretrained`.
        tree: shape of the draft model's trees; None is a chain.
        draft_length: a number of tokens or a length controller; None is the decoder's default.
        verifier: by name.
        dtype: of the weights.
        device: ``auto`` is the GPU if there is one.
        runtime: how forwards are run.
        threads: of the processor, for the whole process; None leaves them as they are.
        costs: seconds of the parts of a round; None has the gate measure them.
        measured: where the recipe comes from, for its reader alone.
        drafter_dtype: of the draft model's weights; None is that of the target's.
        cache_policy: which keys and values of the target are forgotten; None is none.
        drafter_cache_policy: likewise of the draft model.
    """

    target: str = "zoo:target"
    drafter: str = "auto"
    tree: str | None = None
    draft_length: int | str | None = None
    verifier: str = "coupled"
    dtype: str = "bfloat16"
    device: str = "auto"
    runtime: str = "auto"
    threads: int | None = None
    costs: Costs | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    drafter_dtype: str | None = None
    cache_policy: str | None = None
    drafter_cache_policy: str | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Return the recipe in a file.

        Raises:
            InvalidArgument: no such file, no TOML, a key or a type that a recipe does not have, or
                a format of a later version.
        """
        where = f"recipe {os.fspath(path)}"
        text = read_given(path, where, "make one with outpace tune, or give another path")
        try:
            record = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidArgument(
                f"{where} is no TOML ({error}): mend it, or make one with outpace tune"
            ) from error
        _check_format(where, record.pop("format", FORMAT))
        if "costs" in record:
            record["costs"] = _costs(where, record["costs"])
        _check(where, record, _TYPES)
        return cls(**record)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        record: dict[str, Any] = {"format": FORMAT}
        record |= {one.name: getattr(self, one.name) for one in fields(self)}
        if self.costs is not None:
            record["costs"] = {one.name: getattr(self.costs, one.name) for one in fields(Costs)}
        if not self.measured:
            del record["measured"]
        write_whole(Path(path).expanduser(), f"{_HEAD}{toml.dumps(record)}")

    def but(self, **parts: Any) -> Recipe:
        """Return the same recipe with other parts.

        A length takes the place of a tree and a tree that of a length; another drafter need not
        draft trees, so it goes without one. Costs are those of the parts they were measured with:
        another length or verifier alone keeps them.
        """
        if parts.get("tree") is not None:
            parts.setdefault("draft_length", None)
        elif parts.keys() & {"draft_length", "drafter"}:
            parts.setdefault("tree", None)
        changed = any(getattr(self, name) != parts[name] for name in parts if name in _COSTLY)
        if changed:
            parts["costs"] = None
        return replace(self, **parts)

    def decoder(
        self,
        *,
        target: LanguageModel | None = None,
        drafter: LanguageModel | Drafter | None = None,
        bitwise: bool = False,
    ) -> Decoder:
        """Load the models and put the decoder together; sets the threads of the process.

        Args:
            target: the target, where it is loaded already.
            drafter: the draft model, likewise; or a drafter, for a recipe without a tree.
            bitwise: as in :meth:`Decoder.from_pretrained`. Rounds cost something else then, so
                that the recipe's costs are left out.

        Raises:
            OutpaceError: a name, value or model that cannot be used; the message says which.
        """
        self.set_threads()
        parts: dict[str, Any] = {
            "drafter": self.drafter if drafter is None else drafter,
            "tree": self.tree,
            "draft_length": self.draft_length,
            "verifier": self.verifier,
            "dtype": self.dtype if target is None else None,
            "drafter_dtype": self.drafter_dtype,
            "device": self.device if target is None else None,
            "runtime": self.runtime,
            "cache_policy": self.cache_policy,
            "drafter_cache_policy": self.drafter_cache_policy,
            "bitwise": bitwise,
        }
        known = self.costs is not None and self.draft_length in {None, GATE} and not bitwise
        if not known or self.drafter == "none":
            return Decoder.from_pretrained(self.target if target is None else target, **parts)
        gate = registry.get("lengths", GATE)(costs=self.costs, frozen=True)
        if self.tree is None:
            parts["draft_length"] = gate
        made = Decoder.from_pretrained(self.target if target is None else target, **parts)
        if self.tree is None:
            return made
        return Decoder(
            made.target,
            made.drafter,
            verifier=made.verifier,
            lengths=gate,
            cache_policy=made.cache_policy,
        )

    def set_threads(self) -> None:
        """Have the process use as many threads as the recipe says, if it does."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)


_COSTLY = (
    "target",
    "drafter",
    "tree",
    "dtype",
    "drafter_dtype",
    "device",
    "runtime",
    "threads",
    "cache_policy",
    "drafter_cache_policy",
)
"""What else it costs if one of these is another."""
_Check = Callable[[object], bool]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_length(value: object) -> bool:
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _is_seconds(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0  # type: ignore[operator,arg-type]


def _is_held(value: object) -> bool:
    return value == 0 or _is_count(value)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


_TEXT = (_is_text, "text")
_SECONDS = (_is_seconds, "a number of seconds, 0 or more")
_TABLE = (_is_table, "a table")
_TYPES: Mapping[str, tuple[_Check, str]] = {
    "target": _TEXT,
    "drafter": _TEXT,
    "tree": _TEXT,
    "draft_length": (_is_length, "a number of tokens or the name of a controller"),
    "verifier": _TEXT,
    "dtype": _TEXT,
    "drafter_dtype": _TEXT,
    "cache_policy": _TEXT,
    "drafter_cache_policy": _TEXT,
    "device": _TEXT,
    "runtime": _TEXT,
    "threads": (_is_count, "a whole number, 1 or more"),
    "costs": (lambda value: isinstance(value, Costs), "a table"),
    "measured": _TABLE,
}
_COSTS: Mapping[str, tuple[_Check, str]] = {
    "verifying": _TABLE,
    "drafting": _TABLE,
    "catching_up": _SECONDS,
    "overhead": _SECONDS,
    "held": (_is_held, "a whole number, 0 or more"),
    "per_slot": _SECONDS,
}


def _check_format(where: str, given: object) -> None:
    if not _is_count(given):
        raise InvalidArgument(f"{where}: format is {given!r}: give {FORMAT}")
    if isinstance(given, int) and given > FORMAT:
        raise InvalidArgument(
            f"{where}: format {given} is newer than {FORMAT}, the latest known here: install a "
            "newer Outpace, or make the recipe again with outpace tune"
        )


def _check(
    where: str, record: Mapping[str, object], types: Mapping[str, tuple[_Check, str]]
) -> None:
    for name, value in record.items():
        if name not in types:
            near = get_close_matches(name, types, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InvalidArgument(
                f"{where}: unknown key {name!r}{hint}: choose one of {', '.join(types)}"
            )
        fits, wanted = types[name]
        if not fits(value):
            raise InvalidArgument(f"{where}: {name} is {value!r}: give {wanted}")


def _costs(where: str, table: object) -> Costs:
    if not isinstance(table, Mapping):
        raise InvalidArgument(f"{where}: costs is {table!r}: give a table")
    _check(f"{where}, [costs]", table, _COSTS)
    steps = {
        name: _steps(f"{where}, [costs.{name}]", table[name], least)
        for name, least in (("verifying", 1), ("drafting", 0))
        if name in table
    }
    if not steps.get("verifying"):
        raise InvalidArgument(
            f"{where}: [costs.verifying] is empty: give the seconds of a forward by width, as in "
            "1 = 0.008, or leave costs out"
        )
    if "drafting" in steps and not steps["drafting"]:
        raise InvalidArgument(f"{where}: [costs.drafting] is empty: leave it out")
    return Costs(**{**table, **steps})


def _steps(where: str, table: Mapping[str, object], least: int) -> dict[int, float]:
    """Return seconds by a number of tokens; TOML's keys are text."""
    found = {}
    for name, value in table.items():
        if not (name.isascii() and name.isdigit() and int(name) >= least):
            raise InvalidArgument(f"{where}: key {name!r}: give a whole number, {least} or more")
        fits, wanted = _SECONDS
        if not fits(value):
            raise InvalidArgument(f"{where}: {name} is {value!r}: give {wanted}")
        found[int(name)] = float(value)  # type: ignore[arg-type]
    return found
