"""A study: settings and methods to cross, and the tables and pictures to make of them.

A study is a TOML file. Its parts are measured one after another. In a part, an axis that is named
like an option of the benchmark makes a setting of each of its values; any other axis stands in
braces in the names of methods and makes a method of each. All methods of a setting are measured in
turn, next to each other.
"""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...errors import InvalidArgument, UnknownName
from ...registry import unknown_among
from ..evicting import check_policy
from ..plan import check_methods
from .braces import axes_in, filled
from .evictions import Evictions, check_policies
from .options import DEFAULTS, checked, file_name
from .precisions import Readings, apart

FORMAT = 1
ALWAYS = ("hf", "hf-assisted", "hf-assisted-tuned")
"""In every study: what its methods are measured against."""
_HERE = Path(__file__).resolve().parent
_RESULTS = ("tables", "pictures")
_STUDY = ("format", "title", "question", "reference", "base", "quick", "parts")
_WORDS = ("title", "question", "reference")
_PART = (
    *("name", "title", "methods", "axes", "base", "quick", "costs", "alone"),
    *("evicting", "policies", *_RESULTS),
)


@dataclass(frozen=True, slots=True)
class MethodOf:
    """A method of a setting.

    Attributes:
        name: as the benchmark knows it.
        axes: what was put into its braces.
        template: its name with the braces, that all methods made of it share; of a cache policy
            what the study calls it.
    """

    name: str
    axes: Mapping[str, Any] = field(default_factory=dict)
    template: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured side by side.

    Attributes:
        part: of the study.
        axes: the options that make it another setting than the rest of its part.
        config: all options.
        methods: what is measured.
        costs: whether the costs of forwards are measured too.
        readings: what its precisions read in processes of their own; None is nothing.
        evictions: what its methods, which are cache policies then, read; None where they write.
    """

    part: str
    axes: Mapping[str, Any]
    config: Mapping[str, Any]
    methods: Sequence[MethodOf]
    costs: bool = False
    readings: Readings | None = None
    evictions: Evictions | None = None

    @property
    def id(self) -> str:
        """A name that is another one where any option is, so that its records are found again.

        Options that have their default do not count: a later version may have more of them.
        """
        given = {name: value for name, value in self.config.items() if value != DEFAULTS[name]}
        if self.evictions is not None:
            given["evicting"] = asdict(self.evictions)
        digest = sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.part}[{self.label}]#{digest}"

    @property
    def label(self) -> str:
        """Its axes in words."""
        return ", ".join(f"{name}={shown(value)}" for name, value in self.axes.items())


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a study; see the module for what axes do.

    Attributes:
        name: of the part.
        title: its heading in a report.
        methods: names, some with axes in braces.
        axes: values by name.
        base: options, over those of the study.
        costs: whether the costs of forwards are measured too.
        readings: what its precisions read in processes of their own; None is nothing.
        evictions: the texts its cache policies are compared on; None where methods write.
        policies: names of cache policies, and their texts, some with axes in braces.
        tables: what tables to make, see :mod:`outpace.bench.studies.tables`.
        pictures: what pictures, see :mod:`outpace.bench.studies.pictures`.
    """

    name: str
    title: str
    methods: Sequence[str]
    axes: Mapping[str, Sequence[Any]]
    base: Mapping[str, Any]
    costs: bool = False
    readings: Readings | None = None
    evictions: Evictions | None = None
    policies: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[Mapping[str, Any]] = ()
    pictures: Sequence[Mapping[str, Any]] = ()

    def settings(self) -> Iterator[Setting]:
        """Yield every combination of the axes that are options, with all its methods."""
        methods = list(self._methods())
        ours = {name: values for name, values in self.axes.items() if name in DEFAULTS}
        for values in itertools.product(*ours.values()):
            axes = dict(zip(ours, values, strict=True))
            config = checked({**self.base, **axes}, f"part {self.name!r}")
            if self.evictions is not None:
                yield Setting(self.name, axes, config, methods, evictions=self.evictions)
                continue
            names = check_methods([*ALWAYS, *(one.name for one in methods)], config["temperature"])
            known = {one.name: one for one in methods}
            made = [known.get(name) or MethodOf(name, template=name) for name in names]
            setting = Setting(self.name, axes, config, made, self.costs, self.readings)
            yield from apart(setting) if config["apart"] else [setting]

    def _methods(self) -> Iterator[MethodOf]:
        for called, template in self.policies.items():
            for name, axes in self._filled(template):
                check_policy(name)
                yield MethodOf(name, axes, called)
        for template in self.methods:
            for name, axes in self._filled(template):
                yield MethodOf(name, axes, template)

    def _filled(self, template: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield a name for each combination of the axes in its braces."""
        wanted = axes_in(template)
        for name in wanted:
            if name not in self.axes or name in DEFAULTS:
                known = [axis for axis in self.axes if axis not in DEFAULTS]
                raise InvalidArgument(
                    f"part {self.name!r}, method {template!r}: "
                    + unknown_among("axis", name, known or ["(none is given)"])
                )
        for values in itertools.product(*(self.axes[name] for name in wanted)):
            axes = dict(zip(wanted, values, strict=True))
            name = filled(template, axes)
            if "{" in name or "}" in name:
                raise InvalidArgument(
                    f"part {self.name!r}, method {template!r}: give an axis in braces, as in "
                    "'draft@{K}'"
                )
            yield name, axes


@dataclass(frozen=True, slots=True)
class Study:
    """A study as it is run.

    Attributes:
        name: of the study, or of its file.
        title: in words.
        question: what it answers.
        reference: what the systems that Outpace replaces reported.
        parts: of it.
        quick: whether it is the short form.
        options: of the benchmark, over those of the file.
        axes: values of axes, in the place of those of the file.
        text: of its file.
        source: what it was asked for by: its name, or the path of its file.
    """

    name: str
    title: str
    question: str
    reference: str
    parts: Sequence[Part]
    quick: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    text: str = ""
    source: str = ""

    @classmethod
    def read(
        cls,
        name: str,
        *,
        quick: bool = False,
        options: Mapping[str, Any] | None = None,
        axes: Mapping[str, Sequence[Any]] | None = None,
    ) -> Study:
        """Return a study by name, or from a file.

        Args:
            name: one of :func:`study_names`, or the path of a file.
            quick: the short form, which its tables ``quick`` describe.
            options: of the benchmark, over those of the study.
            axes: values of axes, in the place of those of every part that has them.

        Raises:
            InvalidArgument: no such study, or a file that cannot be used.
        """
        path = Path(name)
        for folder in ("files", "pairs"):
            if name in _names(folder):
                path = _HERE / folder / f"{name}.toml"
        try:
            text = path.expanduser().read_text(encoding="utf-8")
        except OSError as error:
            if path.suffix == ".toml":
                why = f"study {name}: {error.strerror}: give another file"
                raise InvalidArgument(why) from error
            known = unknown_among("study", name, [*study_names(), *pair_names(), "all"])
            raise UnknownName(f"{known}, or a file NAME.toml") from error
        except ValueError as error:
            raise InvalidArgument(f"study {name} is not UTF-8: give a text") from error
        made = cls.parse(path.stem, text, quick=quick, options=options, axes=axes)
        return replace(made, source=name)

    @classmethod
    def parse(
        cls,
        name: str,
        text: str,
        *,
        quick: bool = False,
        options: Mapping[str, Any] | None = None,
        axes: Mapping[str, Sequence[Any]] | None = None,
    ) -> Study:
        """Return a study from the text of its file; see :meth:`read`."""
        try:
            return cls._of(name, text, quick, dict(options or {}), dict(axes or {}))
        except tomllib.TOMLDecodeError as error:
            raise InvalidArgument(f"study {name} is no TOML ({error}): mend it") from error
        except InvalidArgument as error:
            raise type(error)(f"study {name}: {error}") from error

    @classmethod
    def _of(
        cls, name: str, text: str, quick: bool, options: dict[str, Any], given: dict[str, Any]
    ) -> Study:
        table = tomllib.loads(text)
        _check_keys(table, _STUDY, "the study")
        number = table.get("format", FORMAT)
        if number != FORMAT:
            raise InvalidArgument(f"format is {number!r}: give {FORMAT}")
        parts = _tables(table, "parts", "the study")
        if not parts:
            raise InvalidArgument("it has no [[parts]]: give one or more")
        base, short = _table(table, "base", "the study"), _table(table, "quick", "the study")
        made = [_part(part, base, short if quick else None, options, given) for part in parts]
        known = dict.fromkeys(axis for part in made for axis in part.axes)
        for axis in given:
            if axis not in known:
                raise InvalidArgument(unknown_among("axis", axis, list(known)))
        names = [part.name for part in made]
        if len(set(names)) < len(names):
            raise InvalidArgument(f"parts {', '.join(names)}: give each another name")
        words = {key: str(table.get(key, "")).strip() for key in _WORDS}
        words["title"] = words["title"] or name
        return cls(name, parts=made, quick=quick, options=options, axes=given, text=text, **words)

    def settings(self) -> list[Setting]:
        """Return all settings of all parts, in order."""
        return [setting for part in self.parts for setting in part.settings()]

    def part(self, name: str) -> Part:
        """Return one part."""
        return next(part for part in self.parts if part.name == name)


def study_names() -> list[str]:
    """Return the names of the studies of the embedded models, or of any others."""
    return _names("files")


def pair_names() -> list[str]:
    """Return the names of the studies of well-known models, for those who have their weights."""
    return _names("pairs")


def _names(folder: str) -> list[str]:
    return sorted(path.stem for path in (_HERE / folder).glob("*.toml"))


def shown(value: object) -> str:
    """Return an option's value as a reader sees it."""
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _part(
    table: Mapping[str, Any],
    shared: Mapping[str, Any],
    shorter: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    given: Mapping[str, Sequence[Any]],
) -> Part:
    """Return a part of a study; ``shorter`` is what its quick form changes in all parts."""
    quick = shorter is not None
    name = file_name(table.get("name"), "a part")
    _check_keys(table, _PART, f"part {name!r}")
    where = f"part {name!r}"
    short = dict(_table(table, "quick", where))
    axes = {**_table(table, "axes", where), **(_table(short, "axes", where) if quick else {})}
    axes |= {axis: list(values) for axis, values in given.items() if axis in axes}
    short.pop("axes", None)
    readings = _readings(table, short if quick else {}, where)
    evictions = _evictions(table, short if quick else {}, where)
    short.pop("alone", None)
    short.pop("evicting", None)
    short = short if quick else {}
    methods = short.pop("methods", table.get("methods", []))
    policies = short.pop("policies", _table(table, "policies", where))
    for axis, values in axes.items():
        if not isinstance(values, list) or not values:
            raise InvalidArgument(f"part {name!r}, axis {axis} is {values!r}: give a list")
    if not isinstance(methods, list) or not all(isinstance(one, str) for one in methods):
        raise InvalidArgument(f"{where}: methods is {methods!r}: give a list of names")
    check_policies(evictions, policies, methods, where)
    names = [*methods, *policies.values()]
    unused = [axis for axis in axes if axis not in DEFAULTS and not _stands(axis, names)]
    if unused:
        known = unknown_among("axis", unused[0], list(DEFAULTS))
        raise InvalidArgument(f"part {name!r}: {known}, or put it in braces in a method's name")
    base = {**shared, **_table(table, "base", where), **(shorter or {}), **short, **options}
    # one value is left of an axis that an option decides: tables and pictures still know it
    axes = {axis: [options[axis]] if axis in options else axes[axis] for axis in axes}
    made = Part(
        name,
        str(table.get("title", name)),
        methods,
        axes,
        checked(base, f"part {name!r}"),
        bool(table.get("costs", False)),
        readings,
        evictions,
        policies,
        _tables(table, "tables", f"part {name!r}"),
        _tables(table, "pictures", f"part {name!r}"),
    )
    from .pictures import sketches  # they know studies
    from .tables import plans

    # all that can be wrong, before anything is measured
    list(made.settings())
    for what, named in (("tables", plans(made)), ("pictures", sketches(made))):
        names = [one.name for one in named]
        if len(set(names)) < len(names):
            raise InvalidArgument(f"{where}, {what} {', '.join(names)}: give each another name")
    return made


def _readings(table: Mapping[str, Any], short: Mapping[str, Any], where: str) -> Readings | None:
    if "alone" not in table:
        return None
    asked = {**_table(table, "alone", where), **_table(short, "alone", where)}
    _check_keys(asked, list(Readings.__slots__), f"{where}, alone")
    return Readings(**asked)


def _evictions(table: Mapping[str, Any], short: Mapping[str, Any], where: str) -> Evictions | None:
    if "evicting" not in table:
        return None
    asked = {**_table(table, "evicting", where), **_table(short, "evicting", where)}
    _check_keys(asked, list(Evictions.__slots__), f"{where}, evicting")
    return Evictions(**asked)


def _stands(axis: str, methods: Sequence[str]) -> bool:
    return any(axis in axes_in(method) for method in methods)


def _table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise InvalidArgument(f"{where}: {key} is {found!r}: give a table, as in {{ limit = 5 }}")
    return found


def _tables(table: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InvalidArgument(f"{where}: {key} is {found!r}: give tables, as in [[{key}]]")
    return found


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise InvalidArgument(f"{where}: {unknown_among('key', key, known)}")
