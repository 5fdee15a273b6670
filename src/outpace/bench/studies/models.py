"""The models of a study, loaded when a setting needs them and let go when none does."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

from ... import zoo
from ...compose import lacks_model
from ...errors import OutpaceError
from ...models import LanguageModel, load
from .. import memory
from ..loop import load_own
from ..methods import Models
from ..names import model_of, needs_drafter, with_length
from ..plan import plain_in
from .study import Setting

Prepare = Callable[[Sequence[LanguageModel], str], None]
"""Has models run as an option says: models and the name of a runtime."""


@dataclass(slots=True)
class StudyModels:
    """What is loaded.

    Args:
        prepare: has models run as their runtime says.
    """

    prepare: Prepare
    _loaded: dict[tuple[str, str, str], LanguageModel] = field(default_factory=dict)
    _base: tuple[Any, ...] = ()
    _others: dict[str, LanguageModel] = field(default_factory=dict)

    def drop(self, wanted: Container[tuple[str, str, str]] = ()) -> None:
        """Let all models go but those: others would be in the way of a later part."""
        for key in [key for key in self._loaded if key not in wanted]:
            del self._loaded[key]
        if not self._loaded:
            self._others.clear()
        memory.let_go()

    def of(self, setting: Setting) -> Models:
        """Load target and draft model of a setting, and let those of others go.

        Raises:
            OutpaceError: one cannot be loaded.
        """
        config = setting.config
        drafter = drafter_of(config)
        wanted = any(needs_drafter(one.name) or lacks_model(one.name) for one in setting.methods)
        device, dtype, own = config["device"], config["dtype"], config["drafter_dtype"]
        keys = [(config["target"], dtype, device)]
        keys += [(drafter, own or dtype, device)] if drafter is not None and wanted else []
        named = {model_of(with_length(one.name)[0]) for one in setting.methods}
        base = (*keys, own, frozenset(named))
        if base != self._base:
            self._others.clear()  # another precision or device, or models of an earlier part
            self._base = base
        self.drop(keys)
        loaded = [self._load(*key) for key in keys]
        self.prepare(loaded, config["runtime"])
        drafting = loaded[1] if len(loaded) > 1 else None
        return Models(loaded[0], drafting, self._others, drafter_dtype=own)

    def _load(self, name: str, dtype: str, device: str) -> LanguageModel:
        key = (name, dtype, device)
        if key not in self._loaded:
            self._loaded[key] = load(name, dtype=dtype, device=device)
        return self._loaded[key]

    def own(self, setting: Setting, models: Models) -> dict[str, str]:
        """Load what single methods run; return why some cannot, in another precision for one."""
        refused, own = {}, dict[int, LanguageModel]()
        for one in setting.methods:
            try:
                own |= {id(model): model for model in load_own(one.name, models)}
            except OutpaceError as error:
                if plain_in(one.name) is None:
                    raise
                refused[one.name] = str(error)
        self.prepare(list(own.values()), setting.config["runtime"])
        return refused


def drafter_of(config: Any) -> str | None:
    """Return the draft model of a setting: the embedded target has its own."""
    if config["drafter"] is not None:
        return str(config["drafter"])
    pair = zoo.partner(config["target"])
    return pair if pair.startswith(zoo.PREFIX) else None
