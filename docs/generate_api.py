"""Writes docs/api.md from the signatures and docstrings in src, read without importing them.

``python docs/generate_api.py`` writes the page; ``--check`` only tells whether it is up to date
(exit code 1 where it is not).
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

DOCS = Path(__file__).resolve().parent
SOURCE = DOCS.parent / "src"
PAGE = DOCS / "api.md"
LINE = 96

# A method added to one of these packages is listed without a line here.
METHODS = ("drafters", "verifiers", "lengths")
BEFORE = (
    "outpace",
    "outpace.zoo",
    "outpace.errors",
    "outpace.types",
    "outpace.decoder",
    "outpace.request",
    "outpace.beam",
)
AFTER = (
    "outpace.bench.workloads",
    "outpace.bench.published",
    "outpace.bench.hub",
    "outpace.bench.own_files",
    "outpace.bench.synthetic_text",
    "outpace.bench.texts",
    "outpace.bench.methods",
    "outpace.bench.sample",
    "outpace.bench.baselines",
    "outpace.bench.beam",
    "outpace.bench.plan",
    "outpace.bench.runner",
    "outpace.bench.metrics",
    "outpace.bench.perplexity",
    "outpace.bench.pieces",
    "outpace.bench.windows",
    "outpace.bench.evicting",
    "outpace.bench.quality",
    "outpace.bench.heads.analysis",
    "outpace.bench.heads.classes",
    "outpace.bench.heads.head",
    "outpace.bench.heads.maps",
    "outpace.bench.differences",
    "outpace.bench.memory",
    "outpace.bench.weighing",
    "outpace.bench.environment",
    "outpace.bench.record",
    "outpace.bench.report",
    "outpace.chat.chat",
    "outpace.chat.conversation",
    "outpace.chat.methods",
    "outpace.chat.reply",
    "outpace.chat.totals",
    "outpace.chat.wording",
    "outpace.cache.policies.base",
    "outpace.cache.policies.sized",
    "outpace.cache.policies.full",
    "outpace.cache.policies.streaming",
    "outpace.cache.policies.key_norm",
    "outpace.cache.policies.head_aware",
    "outpace.cache.policies.snapkv",
    "outpace.cache.policies.h2o",
    "outpace.cache.policies.quantized",
    "outpace.cache.policies.composed",
    "outpace.cache.policies.names",
    "outpace.models.packed_kv",
    "outpace.models.rotary",
    "outpace.presets",
    "outpace.memory",
    "outpace.compose",
    "outpace.calls",
    "outpace.cache",
    "outpace.cache.budgets",
    "outpace.cache.room",
    "outpace.models",
    "outpace.models.observing",
    "outpace.models.outline",
    "outpace.models.precision",
    "outpace.models.shallow",
    "outpace.models.torchao_linear",
    "outpace.models.probe",
    "outpace.models.tiny",
    "outpace.sampling",
    "outpace.stopping",
    "outpace.clock",
    "outpace.reference",
    "outpace.registry",
    "outpace.data",
    "outpace.testing",
)


def modules() -> list[str]:
    """Return the modules of the page, in order."""
    methods = [
        name
        for package in METHODS
        for name in (
            f"outpace.{package}",
            *(
                f"outpace.{package}.{file.stem}"
                for file in sorted((SOURCE / "outpace" / package).glob("*.py"))
                if file.stem not in {"__init__", "base"}
            ),
        )
    ]
    return [*BEFORE, *methods, *AFTER]


INTRODUCTION = """\
# API reference

<!-- Written by docs/generate_api.py; do not edit. -->

Signatures and docstrings of the public modules. Names under [`outpace`](#outpace) can be imported
from the package itself; each is described there and nowhere else. Tensor shapes are written
`[N, V]`: N nodes or tokens, V entries of the vocabulary, S slots, W rows of a forward.
"""

# reStructuredText roles and double backticks in docstrings, which Markdown writes as code.
_ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")
_LITERAL = re.compile(r"``(.+?)``", re.DOTALL)


def main(arguments: list[str]) -> int:
    """Write or check the page; return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python docs/generate_api.py [--check]", file=sys.stderr)
        return 2
    fresh = render()
    if not arguments:
        PAGE.write_text(fresh, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == fresh:
        return 0
    print("docs/api.md is out of date: run python docs/generate_api.py", file=sys.stderr)
    return 1


def render() -> str:
    """Return the whole page."""
    package = griffe.load("outpace", search_paths=[SOURCE], allow_inspection=False)
    described: dict[str, str] = {}  # where an object is defined → its heading
    chapters = [list(_chapter(_find(package, name), name, described)) for name in modules()]
    contents = "\n".join(f"- {_link(name)}" for name in modules())
    parts = [INTRODUCTION, contents, *(block for chapter in chapters for block in chapter)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _find(package: Any, name: str) -> Any:
    """Return the module of a dotted name."""
    for part in name.split(".")[1:]:
        package = package.members[part]
    return package


def _chapter(module: Any, name: str, described: dict[str, str]) -> Iterator[str]:
    """Yield the blocks about one module."""
    yield f"## {name}"
    yield f"Source: `{_source(module)}`"
    yield from _docstring(module)
    elsewhere = []
    for member in _public(module):
        target = member.final_target if member.is_alias else member
        if target.is_module and target.name in target.members:
            target = target.members[target.name]  # a function named like its module
        if target.path in described:
            elsewhere.append(_link(described[target.path]))
            continue
        if target.is_module or (target.is_attribute and not target.docstring):
            continue
        described[target.path] = f"{name}.{target.name}"
        yield from _object(target, f"{name}.{target.name}")
    if elsewhere:
        yield f"Also here, described above: {', '.join(elsewhere)}."


def _public(module: Any) -> list[Any]:
    """Return the members other code may use: those of ``__all__``, or defined here by such name."""
    if module.exports is not None:
        names = [str(name) for name in module.exports]
        return [module.members[name] for name in names if not name.startswith("__")]
    return [
        member
        for name, member in module.members.items()
        if not name.startswith("_") and not member.is_alias
    ]


def _object(target: Any, heading: str, level: int = 3) -> Iterator[str]:
    """Yield the blocks about a class, function or attribute."""
    yield f"{'#' * level} {heading}"
    # griffe writes single quotes; the formatter, which reads Markdown too, wants double ones
    yield "```python\n" + _signature(target).replace("'", '"') + "\n```"
    if target.is_class and target.bases:
        yield f"Bases: {', '.join(f'`{base}`' for base in target.bases)}"
    yield from _docstring(target)
    if target.is_class:
        for member in _members(target):
            yield from _object(member, f"{heading}.{member.name}", level + 1)


def _members(cls: Any) -> Iterator[Any]:
    """Yield what a class adds: public methods, properties and attributes with a docstring."""
    for name, member in cls.members.items():
        shown = not name.startswith("_") or name == "__call__"
        if shown and not member.is_alias and member.docstring:
            yield member


def _signature(target: Any) -> str:
    if target.is_class:
        made = [p for p in target.parameters if p.name != "self" and not p.name.startswith("_")]
        return _call(f"class {target.name}", made, None) if made else f"class {target.name}"
    if target.is_attribute:
        annotation = "" if target.annotation is None else f": {target.annotation}"
        value = "" if target.value is None or "property" in target.labels else f" = {target.value}"
        kind = "property " if "property" in target.labels else ""
        line = f"{kind}{target.name}{annotation}{value}"
        # a table of values is read in the source
        return line if len(line) <= LINE else f"{kind}{target.name}{annotation} = ..."
    labels = [name for name in ("abstractmethod", "classmethod") if name in target.labels]
    decorators = "".join(f"@{name}\n" for name in labels)
    parameters = [p for p in target.parameters if p.name not in {"self", "cls"}]
    return _call(f"{decorators}def {target.name}", parameters, target.returns)


def _call(head: str, parameters: list[Any], returns: Any) -> str:
    """Return ``head(parameters) -> returns``, one parameter a line where one line is too short."""
    tail = "" if returns is None else f" -> {returns}"
    listed = list(_parameters(parameters))
    line = f"{head}({', '.join(listed)}){tail}"
    if len(line.rsplit("\n", 1)[-1]) <= LINE:
        return line
    return f"{head}(\n" + "".join(f"    {item},\n" for item in listed) + f"){tail}"


def _parameters(parameters: list[Any]) -> Iterator[str]:
    keyword_only = False
    for parameter in parameters:
        kind = parameter.kind
        if kind is griffe.ParameterKind.var_positional:
            keyword_only = True
        elif kind is griffe.ParameterKind.keyword_only and not keyword_only:
            keyword_only = True
            yield "*"
        stars = {
            griffe.ParameterKind.var_positional: "*",
            griffe.ParameterKind.var_keyword: "**",
        }.get(kind, "")
        text = stars + parameter.name
        if parameter.annotation is not None:
            text += f": {parameter.annotation}"
        if parameter.default is not None and not stars:
            text += f" = {parameter.default}" if parameter.annotation else f"={parameter.default}"
        yield text


def _docstring(target: Any) -> Iterator[str]:
    """Yield the docstring's sections as Markdown."""
    if not target.docstring:
        return
    sections = target.docstring.parse("google", warnings=False, warn_missing_types=False)
    for section in sections:
        kind = section.kind.value
        if kind == "text":
            yield _prose(section.value)
        elif kind in {"parameters", "attributes", "other parameters"}:
            title = "Arguments" if kind == "parameters" else kind.capitalize()
            yield _list(title, [(f"`{item.name}`", item.description) for item in section.value])
        elif kind == "raises":
            pairs = [(f"`{item.annotation}`", item.description) for item in section.value]
            yield _list("Raises", pairs)
        elif kind in {"returns", "yields"}:
            text = " ".join(_prose(item.description) for item in section.value)
            yield f"**{kind.capitalize()}:** {text}"
        else:
            raise ValueError(f"{target.path}: no rule for a docstring section {kind!r}")


def _list(title: str, pairs: list[tuple[str, str]]) -> str:
    lines = [f"- {name}: {' '.join(_prose(text).split())}" for name, text in pairs]
    return "\n".join([f"**{title}:**", "", *lines])


def _prose(text: str) -> str:
    """Return docstring text as Markdown: roles, literals and literal blocks."""
    blocks: list[str] = []
    literal = False
    for block in text.strip("\n").split("\n\n"):
        if block.strip() == "::":
            literal = True
        elif literal:
            indent = len(block) - len(block.lstrip(" "))
            lines = "\n".join(line[indent:] for line in block.splitlines())
            blocks.append(f"```text\n{lines}\n```")
            literal = False
        else:
            blocks.append(_LITERAL.sub(r"`\1`", _ROLE.sub(r"`\1`", block)))
    return "\n\n".join(blocks)


def _link(heading: str) -> str:
    # GitHub's anchor: lower case, dots dropped
    return f"[`{heading}`](#{heading.lower().replace('.', '')})"


def _source(module: Any) -> str:
    return Path(module.filepath).relative_to(SOURCE.parent).as_posix()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
